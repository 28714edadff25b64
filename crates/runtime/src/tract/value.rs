//! Tensors to and from tract's, and the dtypes that tract has.
//!
//! tract owns the memory of its tensors, so inputs are copied; outputs keep theirs.

use std::sync::Arc;

use bytes::Bytes;
use tract_onnx::pb::tensor_proto::DataType as OnnxType;
use tract_onnx::prelude::{
    Datum, DatumType, IntoArcTensor, IntoTValue, TValue, Tensor as TractTensor, TractResult,
};
use tract_onnx::tract_hir::internal::TDim;

use base::error::{Result, ServingError};
use base::tensor::{DataType, Element, Tensor};

/// The dtype of this server and that of tract, for a number of `onnx.TensorProto.DataType`.
///
/// # Errors
///
/// The name of the type, if tract has no such tensors or cannot hold all values that clients can send:
/// its strings are UTF-8, those of TensorFlow any bytes.
pub(super) fn dtypes(elem_type: i32) -> Result<(DataType, DatumType), String> {
    let onnx = OnnxType::try_from(elem_type)
        .map_err(|_| format!("an element type of number {elem_type}"))?;
    let found = DTYPES.iter().find(|(it, ..)| *it == onnx);
    found
        .map(|&(_, dtype, datum_type)| (dtype, datum_type))
        .ok_or_else(|| onnx.as_str_name().to_owned())
}

/// The same types by ONNX's name, TensorFlow's and tract's.
const DTYPES: &[(OnnxType, DataType, DatumType)] = &[
    (OnnxType::Float, DataType::Float, DatumType::F32),
    (OnnxType::Double, DataType::Double, DatumType::F64),
    (OnnxType::Int8, DataType::Int8, DatumType::I8),
    (OnnxType::Int16, DataType::Int16, DatumType::I16),
    (OnnxType::Int32, DataType::Int32, DatumType::I32),
    (OnnxType::Int64, DataType::Int64, DatumType::I64),
    (OnnxType::Uint8, DataType::UInt8, DatumType::U8),
    (OnnxType::Uint16, DataType::UInt16, DatumType::U16),
    (OnnxType::Uint32, DataType::UInt32, DatumType::U32),
    (OnnxType::Uint64, DataType::UInt64, DatumType::U64),
    (OnnxType::Bool, DataType::Bool, DatumType::Bool),
    (OnnxType::Float16, DataType::Half, DatumType::F16),
];

/// A copy of the tensor.
pub(super) fn to_tract(tensor: &Tensor) -> Result<TValue> {
    let refused = || ServingError::invalid_argument(format!("tract has no {}", tensor.dtype()));
    let copied = match tensor.dtype() {
        DataType::Float => copied::<f32>(tensor),
        DataType::Double => copied::<f64>(tensor),
        DataType::Int8 => copied::<i8>(tensor),
        DataType::Int16 => copied::<i16>(tensor),
        DataType::Int32 => copied::<i32>(tensor),
        DataType::Int64 => copied::<i64>(tensor),
        DataType::UInt8 => copied::<u8>(tensor),
        DataType::UInt16 => copied::<u16>(tensor),
        DataType::UInt32 => copied::<u32>(tensor),
        DataType::UInt64 => copied::<u64>(tensor),
        DataType::Half => copied::<half::f16>(tensor),
        DataType::Bool => {
            let bytes = tensor.bytes().ok_or_else(refused)?;
            let elements: Vec<bool> = bytes.iter().map(|&byte| byte != 0).collect();
            TractTensor::from_shape(tensor.shape(), &elements)
        }
        _ => return Err(refused()),
    };
    let copied = copied.map_err(|error| ServingError::internal(format!("{error:#}")))?;
    Ok(copied.into_tvalue())
}

fn copied<T: Element + Datum>(tensor: &Tensor) -> TractResult<TractTensor> {
    let elements = tensor.as_slice::<T>().unwrap_or_default();
    TractTensor::from_shape(tensor.shape(), elements)
}

/// An output of a run, over the memory that tract made for it.
pub(super) fn from_tract(value: TValue) -> Result<Tensor> {
    let mut tensor = value.into_arc_tensor();
    // Sizes, for which tract has a type of its own. In ONNX they are integers.
    if tensor.datum_type() == TDim::datum_type() {
        let sizes = tensor.cast_to::<i64>();
        let sizes = sizes.map_err(|error| ServingError::internal(format!("{error:#}")))?;
        tensor = Arc::new(sizes.into_owned());
    }
    let datum_type = tensor.datum_type();
    let known = DTYPES.iter().find(|(.., it)| *it == datum_type);
    let &(_, dtype, _) = known.ok_or_else(|| {
        ServingError::unimplemented(format!("an output of the graph is {datum_type:?}"))
    })?;
    let shape = tensor.shape().to_vec();
    let bytes = match tensor.len() == 0 {
        true => Bytes::new(),
        false => Bytes::from_owner(TensorBytes(tensor)),
    };
    Tensor::from_bytes(dtype, &shape, bytes)
        .ok_or_else(|| ServingError::internal("an output's size contradicts its shape"))
}

/// A tensor of tract's as the owner of a byte buffer.
struct TensorBytes(Arc<TractTensor>);

impl AsRef<[u8]> for TensorBytes {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}
