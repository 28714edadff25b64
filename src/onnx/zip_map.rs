//! scikit-learn's `ZipMap`: a sequence of maps where TensorFlow has a tensor.

use bytes::Bytes;

use super::interface::tensor_value;
use super::{OnnxModel, walk};
use crate::proto::onnx::{NodeProto, tensor_proto::DataType as OnnxType, type_proto};

/// The classes whose scores are the columns of an output.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassLabels {
    /// The graph output.
    pub output: String,
    /// One for each column, as text.
    pub labels: Vec<Bytes>,
}

impl OnnxModel {
    /// Makes the output of every `ZipMap` the tensor that it zips, of shape [batch, classes], and
    /// returns the classes.
    ///
    /// A sequence of tensors that the graph returns becomes one tensor: its elements, stacked.
    pub fn drop_zip_maps(&mut self) -> Vec<ClassLabels> {
        let mut found = Vec::new();
        let graph = self.graph_mut();
        for node in &mut graph.node {
            if node.op_type() != "ZipMap" || node.domain() != "ai.onnx.ml" {
                continue;
            }
            let (Some(scores), Some(output)) = (node.input.first(), node.output.first()) else {
                continue;
            };
            found.push(ClassLabels {
                output: output.clone(),
                labels: labels(node),
            });
            *node = super::node("Identity", &[scores], output);
        }
        for output in &mut graph.output {
            if found.iter().any(|it| it.output == output.name()) {
                // A ZipMap's values are floats.
                *output = tensor_value(output.name(), OnnxType::Float as i32);
            }
        }
        self.stack_sequences();
        found
    }

    fn stack_sequences(&mut self) {
        let mut stacked = Vec::new();
        for output in &self.graph().output {
            let ty = output.r#type.as_ref().and_then(|ty| ty.value.as_ref());
            let Some(type_proto::Value::SequenceType(sequence)) = ty else {
                continue;
            };
            let element = sequence.elem_type.as_ref().and_then(|ty| ty.value.as_ref());
            if let Some(type_proto::Value::TensorType(tensor)) = element {
                stacked.push((output.name().to_owned(), tensor.elem_type()));
            }
        }
        for (name, elem_type) in stacked {
            let sequence = self.unused_name(&format!("{name}/sequence"));
            self.rename_made(&name, &sequence);
            let mut concat = super::node("ConcatFromSequence", &[&sequence], &name);
            concat
                .attribute
                .push(super::border::int_attribute("axis", 0));
            concat
                .attribute
                .push(super::border::int_attribute("new_axis", 1));
            let graph = self.graph_mut();
            graph.node.push(concat);
            for output in graph.output.iter_mut().filter(|it| it.name() == name) {
                *output = tensor_value(&name, elem_type);
            }
        }
    }
}

fn labels(node: &NodeProto) -> Vec<Bytes> {
    let strings = walk::attribute(node, "classlabels_strings").map(|it| &it.strings);
    let ints = walk::attribute(node, "classlabels_int64s").map(|it| &it.ints);
    let strings = strings.into_iter().flatten().cloned();
    let ints = ints.into_iter().flatten();
    strings
        .chain(ints.map(|it| Bytes::from(it.to_string())))
        .collect()
}
