//! Computes in float if a converter turned bfloat16 into float16.
//!
//! tf2onnx writes bfloat16 models as float16, which has a much smaller range: a client's values might not
//! fit. Float has the range of bfloat16, more digits, and a kernel for every operator.

use half::f16;

use super::constant::{from_tensor, to_tensor};
use super::{OnnxModel, traverse};
use proto::onnx::{
    GraphProto, NodeProto, TensorProto, TypeProto, ValueInfoProto, tensor_proto::DataLocation,
    tensor_proto::DataType as OnnxType, type_proto,
};

const HALF: i32 = OnnxType::Float16 as i32;
const FLOAT: i32 = OnnxType::Float as i32;

/// Attributes that hold an element type.
const TYPE_ATTRIBUTES: &[&str] = &[
    "dtype",
    "output_datatype",
    "output_dtype",
    "softmax_precision",
    "stash_type",
    "to",
];

impl OnnxModel {
    /// Turns every float16 in the model into float. Returns false if it cannot: if weights of that type are
    /// in other files, or if the model has functions.
    pub fn widen_half(&mut self) -> bool {
        if !self.proto.functions.is_empty() || has_external_half(self.graph()) {
            return false;
        }
        widen_graph(self.graph_mut());
        for value in self.defaults.values_mut() {
            let widened = from_tensor("", value).map(|mut tensor| {
                widen_tensor(&mut tensor);
                tensor
            });
            if let Some(widened) = widened.as_ref().and_then(to_tensor) {
                *value = widened;
            }
        }
        true
    }
}

fn has_external_half(graph: &GraphProto) -> bool {
    graph.initializer.iter().any(|tensor| {
        tensor.data_type() == HALF && tensor.data_location() == DataLocation::External
    })
}

fn widen_graph(graph: &mut GraphProto) {
    let values = graph.input.iter_mut().chain(&mut graph.output);
    for value in values.chain(&mut graph.value_info) {
        widen_value(value);
    }
    for tensor in &mut graph.initializer {
        widen_tensor(tensor);
    }
    for tensor in graph
        .sparse_initializer
        .iter_mut()
        .flat_map(|it| &mut it.values)
    {
        widen_tensor(tensor);
    }
    for node in &mut graph.node {
        widen_node(node);
        for inner in traverse::subgraphs_mut(node) {
            widen_graph(inner);
        }
    }
}

fn widen_node(node: &mut NodeProto) {
    for attribute in &mut node.attribute {
        let is_type = TYPE_ATTRIBUTES.contains(&attribute.name());
        if is_type && attribute.i() == i64::from(HALF) {
            attribute.i = Some(i64::from(FLOAT));
        }
        for tensor in attribute.t.iter_mut().chain(&mut attribute.tensors) {
            widen_tensor(tensor);
        }
        for ty in attribute.tp.iter_mut().chain(&mut attribute.type_protos) {
            widen_type(ty);
        }
    }
}

fn widen_value(value: &mut ValueInfoProto) {
    if let Some(ty) = &mut value.r#type {
        widen_type(ty);
    }
}

fn widen_type(ty: &mut TypeProto) {
    match &mut ty.value {
        Some(type_proto::Value::TensorType(tensor)) if tensor.elem_type() == HALF => {
            tensor.elem_type = Some(FLOAT);
        }
        Some(type_proto::Value::SequenceType(sequence)) => {
            sequence.elem_type.iter_mut().for_each(|ty| widen_type(ty));
        }
        Some(type_proto::Value::OptionalType(optional)) => {
            optional.elem_type.iter_mut().for_each(|ty| widen_type(ty));
        }
        _ => {}
    }
}

fn widen_tensor(tensor: &mut TensorProto) {
    if tensor.data_type() != HALF {
        return;
    }
    let values = to_tensor(tensor);
    let Some(halves) = values.as_ref().and_then(|it| it.as_slice::<f16>()) else {
        return;
    };
    let floats = halves.iter().flat_map(|it| it.to_f32().to_le_bytes());
    tensor.raw_data = Some(floats.collect());
    tensor.int32_data.clear();
    tensor.data_type = Some(FLOAT);
}
