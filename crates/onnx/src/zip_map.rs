//! scikit-learn's `ZipMap`: it returns a sequence of maps where TensorFlow has a tensor.

use bytes::Bytes;

use super::interface::tensor_value;
use super::io_transforms::int_attribute;
use super::{OnnxModel, opset_of, traverse};
use proto::onnx::{NodeProto, ValueInfoProto, tensor_proto::DataType as OnnxType, type_proto};

/// The first opset in which `Flatten` can keep the last axis.
const LAST_AXIS_SINCE: i64 = 11;

/// The classes whose scores are the columns of an output.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassLabels {
    /// The graph output.
    pub output: String,
    /// One for each column, as text.
    pub labels: Vec<Bytes>,
}

impl OnnxModel {
    /// Replaces the output of every `ZipMap` with the tensor that it zips, of shape [batch, classes], and
    /// returns the classes.
    pub fn drop_zip_maps(&mut self) -> Vec<ClassLabels> {
        let mut found = Vec::new();
        let mut names = self.names();
        let opset = self.opset();
        let graph = self.graph_mut();
        for index in 0..graph.node.len() {
            let node = &graph.node[index];
            if !is_zip_map(node) {
                continue;
            }
            let ([scores], [output]) = (node.input.as_slice(), node.output.as_slice()) else {
                continue;
            };
            if !graph.output.iter().any(|it| it.name() == output) {
                continue;
            }
            let labels = labels(node);
            let rows = rows(scores, output, opset);
            found.push(ClassLabels {
                output: output.clone(),
                labels,
            });
            let mut zip_map = std::mem::replace(&mut graph.node[index], rows);
            // Other readers of the maps still get maps.
            let maps = names.take(&format!("{}/maps", zip_map.output[0]));
            if super::io_transforms::rename_read(&mut graph.node, &zip_map.output[0], &maps) {
                zip_map.output[0] = maps;
                graph.node.push(zip_map);
            }
        }
        let has_functions = self.drop_zip_maps_of_functions();
        for output in &mut self.graph_mut().output {
            let is_of_function = has_functions && is_sequence_of_maps(output);
            if is_of_function || found.iter().any(|it| it.output == output.name()) {
                // A ZipMap's values are floats.
                *output = tensor_value(output.name(), OnnxType::Float as i32);
            }
        }
        found
    }

    /// The same in functions, without their labels. Returns whether there were any.
    fn drop_zip_maps_of_functions(&mut self) -> bool {
        let mut found = false;
        for function in &mut self.proto.functions {
            let opset = opset_of(&function.opset_import);
            for node in function.node.iter_mut().filter(|it| is_zip_map(it)) {
                let (Some(scores), Some(output)) = (node.input.first(), node.output.first()) else {
                    continue;
                };
                *node = rows(scores, output, opset);
                found = true;
            }
        }
        found
    }
}

/// The scores as [batch, classes]: they can be those of a single row.
fn rows(scores: &str, output: &str, opset: i64) -> NodeProto {
    if opset < LAST_AXIS_SINCE {
        return super::node("Identity", &[scores], output);
    }
    let mut flatten = super::node("Flatten", &[scores], output);
    flatten.attribute.push(int_attribute("axis", -1));
    flatten
}

fn is_zip_map(node: &NodeProto) -> bool {
    node.op_type() == "ZipMap" && node.domain() == "ai.onnx.ml"
}

fn is_sequence_of_maps(value: &ValueInfoProto) -> bool {
    let ty = value.r#type.as_ref().and_then(|ty| ty.value.as_ref());
    let Some(type_proto::Value::SequenceType(sequence)) = ty else {
        return false;
    };
    let inner = sequence.elem_type.as_ref().and_then(|ty| ty.value.as_ref());
    matches!(inner, Some(type_proto::Value::MapType(_)))
}

fn labels(node: &NodeProto) -> Vec<Bytes> {
    let strings = traverse::attribute(node, "classlabels_strings").map(|it| &it.strings);
    let ints = traverse::attribute(node, "classlabels_int64s").map(|it| &it.ints);
    let strings = strings.into_iter().flatten().cloned();
    let ints = ints.into_iter().flatten();
    strings
        .chain(ints.map(|it| Bytes::from(it.to_string())))
        .collect()
}
