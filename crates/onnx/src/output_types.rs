//! Types of outputs that a file declares only by name, as people do to see an inner tensor.
//!
//! Not here: the types that follow from operators (`known`).

use super::OnnxModel;
use super::interface::{has_type, tensor_value};
use super::known::{Elem, Facts, Functions, Scopes};
use proto::onnx::{GraphProto, TypeProto, ValueInfoProto, type_proto};

impl OnnxModel {
    /// Declares missing types of the graph's outputs if they follow from the graph.
    pub(super) fn infer_output_types(&mut self) {
        let graph = self.graph();
        if graph.output.iter().all(has_type) {
            return;
        }
        let mut scopes = Scopes::of_model(false, self.has_defaults(), self.opset());
        scopes.enter_main(graph, |_| false);
        scopes.learn_all(&graph.node, &mut Functions::new(&self.proto.functions));
        let outputs = graph.output.iter().map(|output| {
            let is_open = !has_type(output);
            let inferred = || declared(graph, output, scopes.facts(output.name()));
            is_open.then(inferred).flatten()
        });
        let types: Vec<Option<TypeProto>> = outputs.collect();
        for (output, inferred) in self.graph_mut().output.iter_mut().zip(types) {
            if inferred.is_some() {
                output.r#type = inferred;
            }
        }
    }
}

/// The type of an output: from another declaration of the tensor, otherwise from the nodes.
fn declared(graph: &GraphProto, output: &ValueInfoProto, facts: Facts) -> Option<TypeProto> {
    let mut others = graph.value_info.iter().chain(&graph.input);
    let same = others.find(|it| it.name() == output.name() && has_type(it));
    if let Some(same) = same {
        return same.r#type.clone();
    }
    let Elem::Is(elem_type) = facts.elem else {
        return None;
    };
    let mut tensor = tensor_value(output.name(), elem_type).r#type?;
    // The file can declare the shape alone.
    if let (
        Some(type_proto::Value::TensorType(declared)),
        Some(type_proto::Value::TensorType(new)),
    ) = (
        output.r#type.as_ref().and_then(|ty| ty.value.as_ref()),
        &mut tensor.value,
    ) {
        new.shape.clone_from(&declared.shape);
    }
    if !facts.is_sequence {
        return Some(tensor);
    }
    let sequence = type_proto::Sequence {
        elem_type: Some(Box::new(tensor)),
    };
    Some(TypeProto {
        value: Some(type_proto::Value::SequenceType(Box::new(sequence))),
        ..TypeProto::default()
    })
}
