//! The rules of `Tensor::FromProto` and `AsProtoField` (`framework/tensor.cc`) one by one, with
//! prost's generated `TensorProto` as a second opinion on every byte.

mod decode;
mod encode;
mod round_trip;

use bytes::Bytes;
use prost::Message;

use super::{ExpansionBudget, decode as decode_with};
use base::tensor::{DataType, Tensor};
use proto::tensorflow::tensor_shape_proto::Dim;
use proto::tensorflow::{TensorProto, TensorShapeProto};

/// Every dtype whose tensors can be sent.
const DTYPES: [DataType; 21] = [
    DataType::Float,
    DataType::Double,
    DataType::Int32,
    DataType::UInt8,
    DataType::Int16,
    DataType::Int8,
    DataType::String,
    DataType::Complex64,
    DataType::Int64,
    DataType::Bool,
    DataType::QInt8,
    DataType::QUInt8,
    DataType::QInt32,
    DataType::BFloat16,
    DataType::QInt16,
    DataType::QUInt16,
    DataType::UInt16,
    DataType::Complex128,
    DataType::Half,
    DataType::UInt32,
    DataType::UInt64,
];

fn shape_proto(shape: &[i64]) -> TensorShapeProto {
    let dim = |&size: &i64| Dim {
        size,
        name: String::new(),
    };
    TensorShapeProto {
        dim: shape.iter().map(dim).collect(),
        unknown_rank: false,
    }
}

/// A message of this dtype and shape, without values.
fn message(dtype: DataType, shape: &[i64]) -> TensorProto {
    TensorProto {
        dtype: dtype.number(),
        tensor_shape: Some(shape_proto(shape)),
        ..TensorProto::default()
    }
}

/// Decodes bytes as the only tensor of a request.
fn decode(bytes: impl Into<Bytes>) -> Option<Tensor> {
    decode_with(&bytes.into(), &mut ExpansionBudget::default())
}

fn decode_proto(proto: &TensorProto) -> Option<Tensor> {
    decode(proto.encode_to_vec())
}

/// The tensor with all of its values in the typed field, as the fields' comments in `tensor.proto`
/// describe.
fn typed_proto(tensor: &Tensor) -> TensorProto {
    use DataType::*;
    let shape: Vec<i64> = tensor.shape().iter().map(|&dim| dim as i64).collect();
    let mut proto = message(tensor.dtype(), &shape);
    let bytes = tensor.bytes().cloned().unwrap_or_default();
    macro_rules! values {
        ($ty:ty) => {
            bytes
                .chunks_exact(size_of::<$ty>())
                .map(|chunk| <$ty>::from_le_bytes(chunk.try_into().unwrap()))
        };
    }
    match tensor.dtype() {
        Float => proto.float_val = values!(f32).collect(),
        Double => proto.double_val = values!(f64).collect(),
        Int32 | QInt32 => proto.int_val = values!(i32).collect(),
        Int16 | QInt16 => proto.int_val = values!(i16).map(i32::from).collect(),
        Int8 | QInt8 => proto.int_val = values!(i8).map(i32::from).collect(),
        UInt16 | QUInt16 => proto.int_val = values!(u16).map(i32::from).collect(),
        UInt8 | QUInt8 => proto.int_val = values!(u8).map(i32::from).collect(),
        Half | BFloat16 => proto.half_val = values!(u16).map(i32::from).collect(),
        Int64 => proto.int64_val = values!(i64).collect(),
        UInt32 => proto.uint32_val = values!(u32).collect(),
        UInt64 => proto.uint64_val = values!(u64).collect(),
        Bool => proto.bool_val = bytes.iter().map(|&byte| byte != 0).collect(),
        Complex64 => proto.scomplex_val = values!(f32).collect(),
        Complex128 => proto.dcomplex_val = values!(f64).collect(),
        String => proto.string_val = tensor.strings().unwrap().to_vec(),
        other => panic!("no tensor of {other} can be sent"),
    }
    proto
}
