//! Converts `tensorflow.TensorProto` from and to tensors, directly between wire bytes and buffers.
//!
//! The rules are those of TensorFlow's `Tensor::FromProto` and `AsProtoField` (`framework/tensor.cc`).

mod decode;
mod encode;
pub mod message;
#[cfg(test)]
mod tests;

pub use self::decode::{
    ExpansionBudget, MAX_EXPANSION, STRING_BYTES, decode, decode_and_check, decode_unserved,
    decoded_bytes,
};
pub use self::encode::{Encoder, Form};

use base::tensor::DataType;

/// The field numbers of `TensorProto`.
mod field {
    pub(super) const DTYPE: u32 = 1;
    pub(super) const TENSOR_SHAPE: u32 = 2;
    pub(super) const TENSOR_CONTENT: u32 = 4;
    pub(super) const FLOAT_VAL: u32 = 5;
    pub(super) const DOUBLE_VAL: u32 = 6;
    pub(super) const INT_VAL: u32 = 7;
    pub(super) const STRING_VAL: u32 = 8;
    pub(super) const SCOMPLEX_VAL: u32 = 9;
    pub(super) const INT64_VAL: u32 = 10;
    pub(super) const BOOL_VAL: u32 = 11;
    pub(super) const DCOMPLEX_VAL: u32 = 12;
    pub(super) const HALF_VAL: u32 = 13;
    pub(super) const VARIANT_VAL: u32 = 15;
    pub(super) const UINT32_VAL: u32 = 16;
    pub(super) const UINT64_VAL: u32 = 17;
}

/// The form of a dtype's values in its typed field.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Typed {
    /// Little-endian elements (or halves of complex ones) of this many bytes.
    Fixed(usize),
    /// Varints, truncated to this many bytes.
    Varint(usize),
    Bool,
    Strings,
}

/// The typed field of a dtype and its form; `None` if tensors of that dtype cannot be sent.
fn typed_field(dtype: DataType) -> Option<(u32, Typed)> {
    use DataType::*;
    Some(match dtype {
        Float => (field::FLOAT_VAL, Typed::Fixed(4)),
        Double => (field::DOUBLE_VAL, Typed::Fixed(8)),
        Complex64 => (field::SCOMPLEX_VAL, Typed::Fixed(4)),
        Complex128 => (field::DCOMPLEX_VAL, Typed::Fixed(8)),
        Int8 | UInt8 | QInt8 | QUInt8 => (field::INT_VAL, Typed::Varint(1)),
        Int16 | UInt16 | QInt16 | QUInt16 => (field::INT_VAL, Typed::Varint(2)),
        Int32 | QInt32 => (field::INT_VAL, Typed::Varint(4)),
        Half | BFloat16 => (field::HALF_VAL, Typed::Varint(2)),
        Int64 => (field::INT64_VAL, Typed::Varint(8)),
        UInt32 => (field::UINT32_VAL, Typed::Varint(4)),
        UInt64 => (field::UINT64_VAL, Typed::Varint(8)),
        Bool => (field::BOOL_VAL, Typed::Bool),
        String => (field::STRING_VAL, Typed::Strings),
        _ => return None,
    })
}
