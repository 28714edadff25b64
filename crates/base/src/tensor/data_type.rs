//! Element types, under TensorFlow's names and numbers.

use std::fmt;

macro_rules! data_types {
    ($($variant:ident = $number:literal, $name:literal, $proto_name:literal, $size:expr;)*) => {
        /// The element types of `tensorflow.DataType` (`types.proto`), except reference types.
        ///
        /// Only some can be in a [`Tensor`](super::Tensor): those with a [`size`](Self::size), and
        /// strings. The others occur only in the signatures of models.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(i32)]
        #[allow(missing_docs)]
        pub enum DataType {
            $($variant = $number,)*
        }

        impl DataType {
            /// From the number in `types.proto`; `None` for `DT_INVALID`, reference and unknown
            /// types.
            pub fn from_number(number: i32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// TensorFlow's name in messages (`DataTypeString`): `float`, `int32`, `half`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The name in `types.proto`: `DT_FLOAT`.
            pub fn proto_name(self) -> &'static str {
                match self {
                    $(Self::$variant => $proto_name,)*
                }
            }

            /// Bytes of one element; `None` if elements have no fixed size of whole bytes.
            pub fn size(self) -> Option<usize> {
                match self {
                    $(Self::$variant => $size,)*
                }
            }
        }
    };
}

data_types! {
    Float = 1, "float", "DT_FLOAT", Some(4);
    Double = 2, "double", "DT_DOUBLE", Some(8);
    Int32 = 3, "int32", "DT_INT32", Some(4);
    UInt8 = 4, "uint8", "DT_UINT8", Some(1);
    Int16 = 5, "int16", "DT_INT16", Some(2);
    Int8 = 6, "int8", "DT_INT8", Some(1);
    String = 7, "string", "DT_STRING", None;
    Complex64 = 8, "complex64", "DT_COMPLEX64", Some(8);
    Int64 = 9, "int64", "DT_INT64", Some(8);
    Bool = 10, "bool", "DT_BOOL", Some(1);
    QInt8 = 11, "qint8", "DT_QINT8", Some(1);
    QUInt8 = 12, "quint8", "DT_QUINT8", Some(1);
    QInt32 = 13, "qint32", "DT_QINT32", Some(4);
    BFloat16 = 14, "bfloat16", "DT_BFLOAT16", Some(2);
    QInt16 = 15, "qint16", "DT_QINT16", Some(2);
    QUInt16 = 16, "quint16", "DT_QUINT16", Some(2);
    UInt16 = 17, "uint16", "DT_UINT16", Some(2);
    Complex128 = 18, "complex128", "DT_COMPLEX128", Some(16);
    Half = 19, "half", "DT_HALF", Some(2);
    Resource = 20, "resource", "DT_RESOURCE", None;
    Variant = 21, "variant", "DT_VARIANT", None;
    UInt32 = 22, "uint32", "DT_UINT32", Some(4);
    UInt64 = 23, "uint64", "DT_UINT64", Some(8);
    Float8E5M2 = 24, "float8_e5m2", "DT_FLOAT8_E5M2", Some(1);
    Float8E4M3Fn = 25, "float8_e4m3fn", "DT_FLOAT8_E4M3FN", Some(1);
    Float8E4M3Fnuz = 26, "float8_e4m3fnuz", "DT_FLOAT8_E4M3FNUZ", Some(1);
    Float8E4M3B11Fnuz = 27, "float8_e4m3b11fnuz", "DT_FLOAT8_E4M3B11FNUZ", Some(1);
    Float8E5M2Fnuz = 28, "float8_e5m2fnuz", "DT_FLOAT8_E5M2FNUZ", Some(1);
    Int4 = 29, "int4", "DT_INT4", None;
    UInt4 = 30, "uint4", "DT_UINT4", None;
    Int2 = 31, "int2", "DT_INT2", None;
    UInt2 = 32, "uint2", "DT_UINT2", None;
    Float4E2M1Fn = 33, "float4_e2m1fn", "DT_FLOAT4_E2M1FN", None;
}

impl DataType {
    /// The number in `types.proto`.
    pub fn number(self) -> i32 {
        self as i32
    }

    /// The alignment of a buffer of such elements, in bytes.
    pub fn align(self) -> usize {
        match self {
            // Pairs of floats.
            Self::Complex64 => 4,
            Self::Complex128 => 8,
            _ => self.size().unwrap_or(1),
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
