//! The parts of a model that tract does not support, as far as nodes and declarations show.
//!
//! tract accepts an unknown operator and fails later, ignores the domains of names, and skips parts of
//! a file that it has no use for. So all of that is checked first. Not here: shapes and inferred types
//! (`load`).

use tract_onnx::model::OnnxOpRegister;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, ValueInfoProto, type_proto,
};

use super::value::dtypes;
use base::error::{Code, Result, ServingError};

/// Domains whose operators have the same meaning in tract.
const DOMAINS: [&str; 3] = ["", "ai.onnx", "ai.onnx.ml"];

/// Refuses models that tract does not support.
///
/// # Errors
///
/// `UNIMPLEMENTED` with the name of the operator or of the dtype.
pub(super) fn check(model: &ModelProto, operators: &OnnxOpRegister) -> Result<()> {
    let graph = model.graph.as_ref();
    let check = Check { operators };
    let checked = graph.map_or(Ok(()), |graph| check.graph(graph));
    checked.map_err(|what| ServingError::new(Code::Unimplemented, format!("tract has no {what}")))
}

struct Check<'a> {
    operators: &'a OnnxOpRegister,
}

impl Check<'_> {
    /// The nesting of graphs is limited by protobuf's limit on nested messages.
    fn graph(&self, graph: &GraphProto) -> Result<(), String> {
        if !graph.sparse_initializer.is_empty() {
            return Err("sparse tensors".to_owned());
        }
        for value in graph.input.iter().chain(&graph.output) {
            check_value(value)?;
        }
        for tensor in &graph.initializer {
            check_dtype(tensor.data_type, &tensor.name)?;
        }
        graph.node.iter().try_for_each(|node| self.node(node))
    }

    fn node(&self, node: &NodeProto) -> Result<(), String> {
        let NodeProto {
            domain, op_type, ..
        } = node;
        if !DOMAINS.contains(&domain.as_str()) {
            return Err(format!("operator {domain}.{op_type}"));
        }
        if !self.operators.0.contains_key(op_type) {
            return Err(format!("operator {op_type}"));
        }
        // Without it ONNX returns no boxes, tract all of them.
        if op_type == "NonMaxSuppression" && node.input.get(2).is_none_or(String::is_empty) {
            return Err(format!("{op_type} without max_output_boxes_per_class"));
        }
        let mut attributes = node.attribute.iter();
        attributes.try_for_each(|attribute| self.attribute(node, attribute))
    }

    fn attribute(&self, node: &NodeProto, attribute: &AttributeProto) -> Result<(), String> {
        if node.op_type == "Cast" && attribute.name == "to" {
            check_dtype(i32::try_from(attribute.i).unwrap_or_default(), &node.name)?;
        }
        for tensor in attribute.t.iter().chain(&attribute.tensors) {
            check_dtype(tensor.data_type, &node.name)?;
        }
        let mut graphs = attribute.g.iter().chain(&attribute.graphs);
        graphs.try_for_each(|graph| self.graph(graph))
    }
}

fn check_value(value: &ValueInfoProto) -> Result<(), String> {
    let ty = value.r#type.as_ref().and_then(|ty| ty.value.as_ref());
    match ty {
        Some(type_proto::Value::TensorType(tensor)) if tensor.elem_type != 0 => {
            check_dtype(tensor.elem_type, &value.name)
        }
        _ => Ok(()),
    }
}

fn check_dtype(elem_type: i32, name: &str) -> Result<(), String> {
    let checked = dtypes(elem_type);
    checked
        .map(|_| ())
        .map_err(|dtype| format!("tensors of {dtype} ('{name}')"))
}
