//! A model's inputs and outputs, as the file declares them.

use std::collections::BTreeMap;

use super::OnnxModel;
use base::tensor::DataType;
use proto::onnx::{
    TensorShapeProto, TypeProto, ValueInfoProto,
    tensor_proto::DataType as OnnxType,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};
use runtime::ValueInfo;

impl OnnxModel {
    /// The inputs that every run must be given, in the file's order. Those with a value in the file are left
    /// out.
    pub fn inputs(&self) -> Vec<ValueInfo> {
        let graph = self.graph();
        let has_value = |name: &str| {
            let sparse = graph.sparse_initializer.iter();
            graph.initializer.iter().any(|it| it.name() == name)
                || sparse.flat_map(|it| &it.values).any(|it| it.name() == name)
        };
        graph
            .input
            .iter()
            .filter(|input| !has_value(input.name()))
            .map(value_info)
            .collect()
    }

    /// The inputs and outputs whose types clients can neither send nor receive, by name, with the type in
    /// words.
    pub fn unserved(&self) -> BTreeMap<String, String> {
        let graph = self.graph();
        let values = graph.input.iter().chain(&graph.output);
        let unserved = values.filter_map(|value| {
            let ty = value.r#type.as_ref().filter(|_| has_type(value))?;
            let is_served = tensor_type(value).is_some_and(|it| is_served(it.elem_type()));
            (!is_served).then(|| (value.name().to_owned(), type_text(ty, true)))
        });
        unserved.collect()
    }

    /// The outputs of the graph, each name once, in the file's order.
    pub fn outputs(&self) -> Vec<ValueInfo> {
        let mut outputs: Vec<ValueInfo> = Vec::new();
        for output in &self.graph().output {
            if outputs.iter().all(|known| known.name != output.name()) {
                outputs.push(value_info(output));
            }
        }
        outputs
    }
}

/// Whether a declaration gives the type: a tensor can be declared without its element type.
pub(super) fn has_type(value: &ValueInfoProto) -> bool {
    match value.r#type.as_ref().and_then(|ty| ty.value.as_ref()) {
        None => false,
        Some(type_proto::Value::TensorType(tensor)) => tensor.elem_type() != 0,
        Some(_) => true,
    }
}

/// A type in words: `a tensor of int4`, `a sequence of tensors of float`.
fn type_text(ty: &TypeProto, is_one: bool) -> String {
    let one = |one: &str, many: &str| {
        if is_one {
            one.to_owned()
        } else {
            many.to_owned()
        }
    };
    let inner = |ty: &Option<Box<TypeProto>>, is_one| match ty {
        Some(ty) => type_text(ty, is_one),
        None => "anything".to_owned(),
    };
    match &ty.value {
        Some(type_proto::Value::TensorType(tensor)) => {
            format!(
                "{} of {}",
                one("a tensor", "tensors"),
                elem_text(tensor.elem_type())
            )
        }
        Some(type_proto::Value::SequenceType(sequence)) => {
            let inner = inner(&sequence.elem_type, false);
            format!("{} of {inner}", one("a sequence", "sequences"))
        }
        Some(type_proto::Value::OptionalType(optional)) => {
            format!(
                "{} {}",
                one("optionally", "optional"),
                inner(&optional.elem_type, is_one)
            )
        }
        Some(type_proto::Value::MapType(map)) => {
            let (key, value) = (elem_text(map.key_type()), inner(&map.value_type, false));
            format!("{} from {key} to {value}", one("a map", "maps"))
        }
        Some(type_proto::Value::SparseTensorType(tensor)) => {
            let what = one("a sparse tensor", "sparse tensors");
            format!("{what} of {}", elem_text(tensor.elem_type()))
        }
        Some(type_proto::Value::OpaqueType(_)) => one("an opaque value", "opaque values"),
        None => one("a value of no declared type", "values of no declared type"),
    }
}

/// ONNX's name of an element type.
fn elem_text(elem_type: i32) -> String {
    match OnnxType::try_from(elem_type) {
        Ok(known) => known.as_str_name().to_lowercase(),
        Err(_) => format!("the unknown type {elem_type}"),
    }
}

/// A declaration as a `ValueInfo`. A symbolic or absent dimension is -1.
pub(super) fn value_info(value: &ValueInfoProto) -> ValueInfo {
    let (mut dtype, mut shape) = (None, None);
    if let Some(tensor) = tensor_type(value) {
        dtype = data_type(tensor.elem_type()).filter(|_| is_served(tensor.elem_type()));
        shape = tensor.shape.as_ref().map(|shape| {
            let dims = shape.dim.iter();
            dims.map(|dim| match &dim.value {
                Some(dimension::Value::DimValue(size)) if *size >= 0 => *size,
                _ => -1,
            })
            .collect()
        });
    }
    ValueInfo {
        name: value.name().to_owned(),
        dtype,
        shape,
    }
}

/// The declared tensor type; `None` for sequences, maps and other types.
pub(super) fn tensor_type(value: &ValueInfoProto) -> Option<&type_proto::Tensor> {
    match value.r#type.as_ref()?.value.as_ref()? {
        type_proto::Value::TensorType(tensor) => Some(tensor),
        _ => None,
    }
}

/// A declaration of a tensor of this shape, or of any shape.
pub(super) fn shaped_tensor_value(
    name: &str,
    elem_type: i32,
    shape: Option<TensorShapeProto>,
) -> ValueInfoProto {
    let mut value = tensor_value(name, elem_type);
    let ty = value.r#type.as_mut().and_then(|ty| ty.value.as_mut());
    if let Some(type_proto::Value::TensorType(tensor)) = ty {
        tensor.shape = shape;
    }
    value
}

/// A declaration of a tensor of any shape.
pub(super) fn tensor_value(name: &str, elem_type: i32) -> ValueInfoProto {
    let tensor = type_proto::Tensor {
        elem_type: Some(elem_type),
        shape: None,
    };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(proto::onnx::TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A declaration of a tensor of this rank and any sizes.
pub(super) fn ranked_tensor_value(name: &str, elem_type: i32, rank: usize) -> ValueInfoProto {
    let dim = vec![Dimension::default(); rank];
    shaped_tensor_value(name, elem_type, Some(TensorShapeProto { dim }))
}

/// ONNX's element types and the TensorFlow types for them.
const TYPES: &[(OnnxType, DataType)] = &[
    (OnnxType::Float, DataType::Float),
    (OnnxType::Uint8, DataType::UInt8),
    (OnnxType::Int8, DataType::Int8),
    (OnnxType::Uint16, DataType::UInt16),
    (OnnxType::Int16, DataType::Int16),
    (OnnxType::Int32, DataType::Int32),
    (OnnxType::Int64, DataType::Int64),
    (OnnxType::String, DataType::String),
    (OnnxType::Bool, DataType::Bool),
    (OnnxType::Float16, DataType::Half),
    (OnnxType::Double, DataType::Double),
    (OnnxType::Uint32, DataType::UInt32),
    (OnnxType::Uint64, DataType::UInt64),
    (OnnxType::Complex64, DataType::Complex64),
    (OnnxType::Complex128, DataType::Complex128),
    (OnnxType::Bfloat16, DataType::BFloat16),
    (OnnxType::Float8e4m3fn, DataType::Float8E4M3Fn),
    (OnnxType::Float8e4m3fnuz, DataType::Float8E4M3Fnuz),
    (OnnxType::Float8e5m2, DataType::Float8E5M2),
    (OnnxType::Float8e5m2fnuz, DataType::Float8E5M2Fnuz),
];

/// Whether clients can send and receive tensors of a type; backends must accept it, too.
pub(super) fn is_served(elem_type: i32) -> bool {
    data_type(elem_type).is_some_and(|dtype| {
        !matches!(
            dtype,
            DataType::Complex64
                | DataType::Complex128
                | DataType::Float8E4M3Fn
                | DataType::Float8E4M3Fnuz
                | DataType::Float8E5M2
                | DataType::Float8E5M2Fnuz
        )
    })
}

/// TensorFlow's type for the number of an ONNX type.
pub(super) fn data_type(elem_type: i32) -> Option<DataType> {
    let known = TYPES.iter().find(|(onnx, _)| *onnx as i32 == elem_type);
    known.map(|&(_, dtype)| dtype)
}

/// The number of ONNX's type; `None` if ONNX has no such type.
pub fn elem_type(dtype: DataType) -> Option<i32> {
    let known = TYPES.iter().find(|(_, known)| *known == dtype);
    known.map(|&(onnx, _)| onnx as i32)
}
