//! Constant tensors in TensorFlow's messages: defaults, and constants of a graph.
//!
//! Not here: the tensors of requests (`wire`), which are large and not trusted to be small.

use bytes::Bytes;
use half::{bf16, f16};

use crate::error::{Result, ServingError};
use crate::proto::tensorflow::{TensorProto, TensorShapeProto};
use crate::tensor::{DataType, Element, Tensor, element_count};

/// More elements than any constant in a signature needs.
const MAX_ELEMENTS: usize = 1 << 26;

/// The tensor that `proto` stands for, with `Tensor::FromProto`'s rules: the last of too few values
/// is repeated, no value is zero. `dtype` and `shape` count where `proto` says none.
///
/// # Errors
///
/// `INVALID_ARGUMENT` where it makes no tensor.
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
    let count = element_count(&shape).filter(|&count| count <= MAX_ELEMENTS);
    let count = count.ok_or_else(|| invalid("it is too large"))?;
    tensor(proto, dtype, &shape, count).ok_or_else(|| invalid("its values do not fit its shape"))
}

/// The sizes of a shape that leaves nothing open.
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
