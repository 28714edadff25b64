//! Tensors as a client has them, and `TensorProto` as the real client library writes and reads it.
//!
//! The rules are `make_tensor_proto` and `make_ndarray` of TensorFlow's `tensor_util.py`; this does not
//! use the server's own reader and writer.

use half::{bf16, f16};
use proto::tensorflow::tensor_shape_proto::Dim;
use proto::tensorflow::{DataType, TensorProto, TensorShapeProto};

use super::json::Tolerance;

/// The values of a tensor, in the dtype's own type. Halves are kept as bits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Values {
    Float(Vec<f32>),
    Double(Vec<f64>),
    Half(Vec<u16>),
    Bfloat16(Vec<u16>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Uint8(Vec<u8>),
    Uint16(Vec<u16>),
    Uint32(Vec<u32>),
    Uint64(Vec<u64>),
    Bool(Vec<bool>),
    String(Vec<Vec<u8>>),
}

/// A tensor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TestTensor {
    pub(crate) shape: Vec<i64>,
    pub(crate) values: Values,
}

/// Calls a macro with every dtype whose elements have a fixed size.
macro_rules! numeric {
    ($apply:ident) => {
        $apply! {
            Float, DtFloat, f32;
            Double, DtDouble, f64;
            Half, DtHalf, u16;
            Bfloat16, DtBfloat16, u16;
            Int8, DtInt8, i8;
            Int16, DtInt16, i16;
            Int32, DtInt32, i32;
            Int64, DtInt64, i64;
            Uint8, DtUint8, u8;
            Uint16, DtUint16, u16;
            Uint32, DtUint32, u32;
            Uint64, DtUint64, u64;
        }
    };
}

macro_rules! implement {
    ($($variant:ident, $dtype:ident, $element:ty;)*) => {
        impl Values {
            /// Reads little-endian elements; `None` for a dtype without them.
            pub(crate) fn from_bytes(dtype: DataType, bytes: &[u8]) -> Option<Self> {
                match dtype {
                    $(DataType::$dtype => {
                        let elements = bytes.chunks_exact(size_of::<$element>());
                        Some(Self::$variant(elements.map(|element| {
                            <$element>::from_le_bytes(element.try_into().expect("its size"))
                        }).collect()))
                    })*
                    DataType::DtBool => {
                        Some(Self::Bool(bytes.iter().map(|&byte| byte != 0).collect()))
                    }
                    _ => None,
                }
            }

            /// The elements, little-endian; `None` for strings.
            pub(crate) fn to_bytes(&self) -> Option<Vec<u8>> {
                match self {
                    $(Self::$variant(values) => {
                        Some(values.iter().flat_map(|value| value.to_le_bytes()).collect())
                    })*
                    Self::Bool(values) => Some(values.iter().map(|&value| value.into()).collect()),
                    Self::String(_) => None,
                }
            }

            /// The dtype.
            pub(crate) fn dtype(&self) -> DataType {
                match self {
                    $(Self::$variant(_) => DataType::$dtype,)*
                    Self::Bool(_) => DataType::DtBool,
                    Self::String(_) => DataType::DtString,
                }
            }
        }
    };
}
numeric!(implement);

impl TestTensor {
    /// The dtype.
    pub(crate) fn dtype(&self) -> DataType {
        self.values.dtype()
    }

    /// With the values in their typed field.
    pub(crate) fn to_typed(&self) -> TensorProto {
        let mut proto = self.header();
        match self.values.clone() {
            Values::Float(values) => proto.float_val = values,
            Values::Double(values) => proto.double_val = values,
            Values::Half(values) | Values::Bfloat16(values) => {
                proto.half_val = values.into_iter().map(i32::from).collect();
            }
            Values::Int8(values) => proto.int_val = values.into_iter().map(i32::from).collect(),
            Values::Int16(values) => proto.int_val = values.into_iter().map(i32::from).collect(),
            Values::Int32(values) => proto.int_val = values,
            Values::Int64(values) => proto.int64_val = values,
            Values::Uint8(values) => proto.int_val = values.into_iter().map(i32::from).collect(),
            Values::Uint16(values) => proto.int_val = values.into_iter().map(i32::from).collect(),
            Values::Uint32(values) => proto.uint32_val = values,
            Values::Uint64(values) => proto.uint64_val = values,
            Values::Bool(values) => proto.bool_val = values,
            Values::String(values) => {
                proto.string_val = values.into_iter().map(Into::into).collect();
            }
        }
        proto
    }

    /// With the values in `tensor_content`; strings, which have no such form, in their own field.
    pub(crate) fn to_content(&self) -> TensorProto {
        match self.values.to_bytes() {
            Some(bytes) => TensorProto {
                tensor_content: bytes.into(),
                ..self.header()
            },
            None => self.to_typed(),
        }
    }

    fn header(&self) -> TensorProto {
        TensorProto {
            dtype: self.dtype().into(),
            tensor_shape: Some(shape_proto(&self.shape)),
            ..TensorProto::default()
        }
    }

    /// Reads a tensor from a server, in either form.
    pub(crate) fn from_proto(proto: &TensorProto) -> Option<Self> {
        let dims = &proto.tensor_shape.as_ref()?.dim;
        let dtype = proto.dtype();
        let values = if proto.tensor_content.is_empty() {
            typed_values(proto)?
        } else {
            Values::from_bytes(dtype, &proto.tensor_content)?
        };
        Some(Self {
            shape: dims.iter().map(|dim| dim.size).collect(),
            values,
        })
    }

    /// Where `actual` differs; floats within `tolerance`.
    pub(crate) fn check(&self, actual: &Self, tolerance: Tolerance) -> Result<(), String> {
        if (self.dtype(), &self.shape) != (actual.dtype(), &actual.shape) {
            return Err(format!(
                "expected {:?} {:?}, got {:?} {:?}",
                self.dtype(),
                self.shape,
                actual.dtype(),
                actual.shape
            ));
        }
        let (Some(expected), Some(floats)) = (self.floats(), actual.floats()) else {
            return match self.values == actual.values {
                true => Ok(()),
                false => Err(format!(
                    "expected {:?}, got {:?}",
                    self.values, actual.values
                )),
            };
        };
        let mut pairs = expected.iter().zip(&floats);
        match pairs.find(|(expected, actual)| !tolerance.accepts(**expected, **actual)) {
            None if expected.len() == floats.len() => Ok(()),
            None => Err(format!("{} values, not {}", floats.len(), expected.len())),
            Some((expected, actual)) => Err(format!("expected {expected}, got {actual}")),
        }
    }

    /// The values of a float dtype.
    fn floats(&self) -> Option<Vec<f64>> {
        let halves = |values: &[u16], widen: fn(u16) -> f64| -> Vec<f64> {
            values.iter().map(|&bits| widen(bits)).collect()
        };
        match &self.values {
            Values::Float(values) => Some(values.iter().map(|&value| value.into()).collect()),
            Values::Double(values) => Some(values.clone()),
            Values::Half(values) => Some(halves(values, |bits| f16::from_bits(bits).into())),
            Values::Bfloat16(values) => Some(halves(values, |bits| bf16::from_bits(bits).into())),
            _ => None,
        }
    }
}

/// The values of the typed field.
fn typed_values(proto: &TensorProto) -> Option<Values> {
    /// `int_val` and `half_val` also hold narrower values.
    fn narrow<T: TryFrom<i32>>(values: &[i32]) -> Option<Vec<T>> {
        values
            .iter()
            .map(|&value| T::try_from(value).ok())
            .collect()
    }
    Some(match proto.dtype() {
        DataType::DtFloat => Values::Float(proto.float_val.clone()),
        DataType::DtDouble => Values::Double(proto.double_val.clone()),
        DataType::DtHalf => Values::Half(narrow(&proto.half_val)?),
        DataType::DtBfloat16 => Values::Bfloat16(narrow(&proto.half_val)?),
        DataType::DtInt8 => Values::Int8(narrow(&proto.int_val)?),
        DataType::DtInt16 => Values::Int16(narrow(&proto.int_val)?),
        DataType::DtInt32 => Values::Int32(proto.int_val.clone()),
        DataType::DtInt64 => Values::Int64(proto.int64_val.clone()),
        DataType::DtUint8 => Values::Uint8(narrow(&proto.int_val)?),
        DataType::DtUint16 => Values::Uint16(narrow(&proto.int_val)?),
        DataType::DtUint32 => Values::Uint32(proto.uint32_val.clone()),
        DataType::DtUint64 => Values::Uint64(proto.uint64_val.clone()),
        DataType::DtBool => Values::Bool(proto.bool_val.clone()),
        DataType::DtString => Values::String(
            proto
                .string_val
                .iter()
                .map(|value| value.to_vec())
                .collect(),
        ),
        _ => return None,
    })
}

/// A shape as a message.
pub(crate) fn shape_proto(shape: &[i64]) -> TensorShapeProto {
    let dim = |&size: &i64| Dim {
        size,
        ..Dim::default()
    };
    TensorShapeProto {
        dim: shape.iter().map(dim).collect(),
        ..TensorShapeProto::default()
    }
}
