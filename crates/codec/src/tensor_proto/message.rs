//! Constant tensors in generated messages: defaults, and constants of a graph.
//!
//! Not here: the tensors of requests, which are large and are decoded from their bytes (`decode`).

use bytes::Bytes;
use prost::Message;

use super::decode::{ExpansionBudget, decode};
use base::error::{Result, ServingError};
use base::tensor::{DataType, Element, Tensor, element_count};
use proto::tensorflow::{TensorProto, TensorShapeProto, tensor_shape_proto::Dim};

/// The size limit for a constant whose last value is repeated: a few bytes of a file must not become
/// gigabytes, and a file can hold many constants.
const MAX_EXPANDED_BYTES: usize = 4 << 20;

/// Converts `proto` to a tensor by the rules of [`decode`]. `dtype` and `shape` are used if `proto` does
/// not have them.
///
/// # Errors
///
/// `INVALID_ARGUMENT` if it cannot be converted to a tensor.
pub fn from_message(
    proto: &TensorProto,
    dtype: Option<DataType>,
    shape: Option<&[usize]>,
) -> Result<Tensor> {
    let mut budget = ExpansionBudget::new(MAX_EXPANDED_BYTES);
    from_message_within(proto, dtype, shape, &mut budget)
}

/// As [`from_message`], with a limit for all constants of a file together.
///
/// # Errors
///
/// As [`from_message`].
pub fn from_message_within(
    proto: &TensorProto,
    dtype: Option<DataType>,
    shape: Option<&[usize]>,
    budget: &mut ExpansionBudget,
) -> Result<Tensor> {
    let dtype = DataType::from_number(proto.dtype).or(dtype);
    let dtype = dtype.ok_or_else(|| invalid("it has no dtype"))?;
    let shape = match (&proto.tensor_shape, shape) {
        (Some(declared), _) => {
            static_shape(declared).ok_or_else(|| invalid("its shape is open"))?
        }
        (None, Some(shape)) => shape.to_vec(),
        (None, None) => vec![],
    };
    let complete = TensorProto {
        dtype: dtype.number(),
        tensor_shape: Some(shape_message(&shape)),
        ..proto.clone()
    };
    let message = Bytes::from(complete.encode_to_vec());
    let unit = dtype.size().unwrap_or(size_of::<Bytes>());
    element_count(&shape)
        .and_then(|count| {
            let mut budget = budget.clone();
            budget.take(count.checked_mul(unit)?, message.len(), unit)
        })
        .ok_or_else(|| invalid("it is too large"))?;
    decode(&message, budget).ok_or_else(|| invalid("its values do not fit its shape"))
}

/// The message for a tensor, with its values in the typed field if its dtype usually has them there.
pub fn to_message(tensor: &Tensor) -> TensorProto {
    let mut proto = TensorProto {
        dtype: tensor.dtype().number(),
        tensor_shape: Some(shape_message(tensor.shape())),
        ..TensorProto::default()
    };
    match tensor.dtype() {
        DataType::Float => proto.float_val = values(tensor),
        DataType::Double => proto.double_val = values(tensor),
        DataType::Int32 => proto.int_val = values(tensor),
        DataType::Int64 => proto.int64_val = values(tensor),
        DataType::String => proto.string_val = tensor.strings().unwrap_or_default().to_vec(),
        _ => proto.tensor_content = tensor.bytes().cloned().unwrap_or_default(),
    }
    proto
}

fn values<T: Element>(tensor: &Tensor) -> Vec<T> {
    tensor.as_slice().unwrap_or_default().to_vec()
}

fn shape_message(shape: &[usize]) -> TensorShapeProto {
    let dim = |&size: &usize| Dim {
        size: i64::try_from(size).unwrap_or(i64::MAX),
        ..Dim::default()
    };
    TensorShapeProto {
        dim: shape.iter().map(dim).collect(),
        unknown_rank: false,
    }
}

/// The sizes of a fully known shape.
pub fn static_shape(shape: &TensorShapeProto) -> Option<Vec<usize>> {
    let dims = shape.dim.iter().map(|dim| usize::try_from(dim.size).ok());
    dims.collect::<Option<_>>().filter(|_| !shape.unknown_rank)
}

fn invalid(reason: &str) -> ServingError {
    ServingError::invalid_argument(format!("the constant is malformed: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` times 7.
    fn sevens(dtype: DataType, count: usize) -> Result<Tensor> {
        let proto = TensorProto {
            dtype: dtype.number(),
            tensor_shape: Some(shape_message(&[count])),
            double_val: vec![7.0],
            string_val: vec![Bytes::from_static(b"7")],
            ..TensorProto::default()
        };
        from_message(&proto, None, None)
    }

    #[test]
    fn repetition_is_bounded_in_bytes() {
        let tensor = sevens(DataType::Double, 3).unwrap();
        assert_eq!(tensor.as_slice(), Some([7.0f64; 3].as_slice()));
        for (dtype, unit) in [
            (DataType::Double, 8),
            (DataType::String, size_of::<Bytes>()),
        ] {
            let most = MAX_EXPANDED_BYTES / unit;
            assert_eq!(sevens(dtype, most).unwrap().len(), most);
            let error = sevens(dtype, most + 1).unwrap_err();
            assert!(error.to_string().ends_with("it is too large"), "{error}");
        }
    }

    #[test]
    fn dtype_and_shape_are_used_if_the_message_has_none() {
        let bare = TensorProto {
            int_val: vec![7],
            ..TensorProto::default()
        };
        let tensor = from_message(&bare, Some(DataType::Int8), Some(&[2])).unwrap();
        assert_eq!(tensor, Tensor::from_vec(&[2], vec![7_i8, 7]).unwrap());
        let scalar = from_message(&bare, Some(DataType::Int32), None).unwrap();
        assert_eq!(scalar, Tensor::from_vec(&[], vec![7_i32]).unwrap());
        let error = from_message(&bare, None, None).unwrap_err();
        assert!(error.to_string().ends_with("it has no dtype"), "{error}");
    }

    #[test]
    fn shapes_have_to_be_known() {
        for shape in [
            TensorShapeProto {
                dim: Vec::new(),
                unknown_rank: true,
            },
            TensorShapeProto {
                dim: vec![Dim {
                    size: -1,
                    ..Dim::default()
                }],
                unknown_rank: false,
            },
        ] {
            let proto = TensorProto {
                dtype: DataType::Float.number(),
                tensor_shape: Some(shape),
                ..TensorProto::default()
            };
            let error = from_message(&proto, None, Some(&[1])).unwrap_err();
            assert!(error.to_string().ends_with("its shape is open"), "{error}");
        }
    }

    #[test]
    fn messages_of_tensors_are_read_back() {
        for tensor in [
            Tensor::from_vec(&[2, 1], vec![1.5_f32, -0.0]),
            Tensor::from_vec(&[2], vec![1_u8, 255]),
            Tensor::from_vec(&[0, 3], Vec::<i64>::new()),
            Tensor::from_strings(&[2], vec![Bytes::from_static(b"a"), Bytes::new()]),
        ] {
            let tensor = tensor.unwrap();
            let read = from_message(&to_message(&tensor), None, None).unwrap();
            assert_eq!(read, tensor);
        }
    }
}
