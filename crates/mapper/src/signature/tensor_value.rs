//! Constant tensors in TensorFlow's messages: defaults, and constants of a graph.
//!
//! Not here: the tensors of requests (`wire`), which can be large and are not trusted.

use bytes::Bytes;
use half::{bf16, f16};
use prost::Message;

use base::error::{Result, ServingError};
use base::tensor::{DataType, Element, Tensor, element_count};
use proto::tensorflow::{TensorProto, TensorShapeProto, tensor_shape_proto::Dim};

/// The size limit for a constant whose last value is repeated: a few bytes of a file must not become
/// gigabytes, and a file can hold many constants.
const MAX_EXPANDED_BYTES: usize = 4 << 20;

/// Converts `proto` to a tensor by the rules of `Tensor::FromProto`: if there are too few values, the last
/// one is repeated; if there are none, all are zero. `dtype` and `shape` are used if `proto` does not have
/// them.
///
/// # Errors
///
/// `INVALID_ARGUMENT` if it cannot be converted to a tensor.
pub(super) fn from_proto(
    proto: &TensorProto,
    dtype: Option<DataType>,
    shape: Option<&[usize]>,
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
    let unit = dtype.size().unwrap_or(size_of::<Bytes>());
    let max_count = proto.encoded_len().max(MAX_EXPANDED_BYTES / unit);
    let count = element_count(&shape).filter(|&count| count <= max_count);
    let count = count.ok_or_else(|| invalid("it is too large"))?;
    tensor(proto, dtype, &shape, count).ok_or_else(|| invalid("its values do not fit its shape"))
}

/// The message for a tensor, with its values in the typed field if its dtype usually has them there.
pub fn to_proto(tensor: &Tensor) -> TensorProto {
    let dims = tensor.shape().iter();
    let dims = dims.map(|&size| Dim {
        size: i64::try_from(size).unwrap_or(i64::MAX),
        ..Dim::default()
    });
    let mut proto = TensorProto {
        dtype: tensor.dtype().number(),
        tensor_shape: Some(TensorShapeProto {
            dim: dims.collect(),
            unknown_rank: false,
        }),
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

/// The sizes of a fully known shape.
pub(super) fn static_shape(shape: &TensorShapeProto) -> Option<Vec<usize>> {
    let dims = shape.dim.iter().map(|dim| usize::try_from(dim.size).ok());
    dims.collect::<Option<_>>().filter(|_| !shape.unknown_rank)
}

fn invalid(reason: &str) -> ServingError {
    ServingError::invalid_argument(format!("the constant is malformed: {reason}"))
}

fn tensor(proto: &TensorProto, dtype: DataType, shape: &[usize], count: usize) -> Option<Tensor> {
    if !proto.tensor_content.is_empty() {
        return Tensor::from_bytes(dtype, shape, proto.tensor_content.clone());
    }
    let ints = &proto.int_val;
    let halves = &proto.half_val;
    match dtype {
        DataType::Float => filled(shape, count, proto.float_val.iter().copied()),
        DataType::Double => filled(shape, count, proto.double_val.iter().copied()),
        DataType::Int64 => filled(shape, count, proto.int64_val.iter().copied()),
        DataType::Int32 => filled(shape, count, ints.iter().copied()),
        DataType::Int16 => filled(shape, count, ints.iter().map(|&it| it as i16)),
        DataType::Int8 => filled(shape, count, ints.iter().map(|&it| it as i8)),
        DataType::UInt16 => filled(shape, count, ints.iter().map(|&it| it as u16)),
        DataType::UInt8 => filled(shape, count, ints.iter().map(|&it| it as u8)),
        DataType::UInt32 => filled(shape, count, proto.uint32_val.iter().copied()),
        DataType::UInt64 => filled(shape, count, proto.uint64_val.iter().copied()),
        DataType::Half => {
            let bits = halves.iter().map(|&it| f16::from_bits(it as u16));
            filled(shape, count, bits)
        }
        DataType::BFloat16 => {
            let bits = halves.iter().map(|&it| bf16::from_bits(it as u16));
            filled(shape, count, bits)
        }
        DataType::Bool => {
            let values = proto.bool_val.iter().map(|&it| u8::from(it));
            let bytes = repeat_last(count, values, 0)?;
            Tensor::from_bytes(dtype, shape, bytes.into())
        }
        DataType::String => {
            let values = proto.string_val.iter().cloned();
            Tensor::from_strings(shape, repeat_last(count, values, Bytes::new())?)
        }
        _ => None,
    }
}

fn filled<T: Element>(
    shape: &[usize],
    count: usize,
    values: impl ExactSizeIterator<Item = T>,
) -> Option<Tensor> {
    Tensor::from_vec(shape, repeat_last(count, values, T::default())?)
}

fn repeat_last<T: Clone>(
    count: usize,
    values: impl ExactSizeIterator<Item = T>,
    none: T,
) -> Option<Vec<T>> {
    if values.len() > count {
        return None;
    }
    let mut all: Vec<T> = values.collect();
    let last = all.last().cloned().unwrap_or(none);
    all.resize(count, last);
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` times 7.
    fn sevens(dtype: DataType, count: usize) -> Result<Tensor> {
        let dim = Dim {
            size: count as i64,
            ..Dim::default()
        };
        let proto = TensorProto {
            dtype: dtype.number(),
            tensor_shape: Some(TensorShapeProto {
                dim: vec![dim],
                unknown_rank: false,
            }),
            double_val: vec![7.0],
            string_val: vec![Bytes::from_static(b"7")],
            ..TensorProto::default()
        };
        from_proto(&proto, None, None)
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
}
