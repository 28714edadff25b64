//! Which TensorFlow node a tensor is the result of: for the recognition of patterns.
//!
//! Not here: the patterns (`fused`).

use std::rc::Rc;

use proto::tensorflow::{NodeDef, attr_value};

use super::Builder;
use crate::graph::attribute;
use crate::value::{Tensor, Value};

/// The operators that patterns are made of; others are not noted.
const NOTED: &[&str] = &[
    "Add",
    "AddV2",
    "Erf",
    "Erfc",
    "Fill",
    "FusedBatchNorm",
    "FusedBatchNormV2",
    "FusedBatchNormV3",
    "Mean",
    "Mul",
    "Neg",
    "Pow",
    "RealDiv",
    "Relu",
    "Relu6",
    "Reshape",
    "Rsqrt",
    "Shape",
    "Square",
    "SquaredDifference",
    "Sub",
    "Tanh",
];

/// A TensorFlow node and one of its outputs.
pub(crate) struct Origin {
    pub(crate) op: String,
    pub(crate) inputs: Vec<Tensor>,
    /// The number of the output.
    pub(crate) output: usize,
    /// Of batch norms: whether they compute statistics, where the channels are, and the epsilon.
    pub(crate) batch_norm: Option<(bool, bool, f32)>,
}

impl Builder {
    /// Notes the outputs of a TensorFlow node that are not its inputs, and were not noted yet.
    pub(crate) fn note_origin(&mut self, node: &NodeDef, inputs: &[Value], outputs: &[Value]) {
        if !NOTED.contains(&node.op.as_str()) {
            return;
        }
        let tensors = inputs.iter().filter_map(|it| match it {
            Value::Tensor(tensor) => Some(tensor.clone()),
            _ => None,
        });
        let inputs_read: Vec<Tensor> = tensors.collect();
        if inputs_read.len() != inputs.len() {
            return;
        }
        for (output, value) in outputs.iter().enumerate() {
            let Value::Tensor(tensor) = value else {
                continue;
            };
            let Ok(name) = tensor.name() else { continue };
            let is_input = inputs_read.iter().any(|it| it.name().ok() == Some(name));
            if is_input || self.origins.contains_key(name) {
                continue;
            }
            let origin = Origin {
                op: node.op.clone(),
                inputs: inputs_read.clone(),
                output,
                batch_norm: batch_norm(node),
            };
            self.origins.insert(Rc::clone(name), Rc::new(origin));
        }
    }

    /// The TensorFlow node whose first output a tensor is, if it is one of these operators.
    pub(crate) fn origin(&self, x: &Tensor, ops: &[&str]) -> Option<Rc<Origin>> {
        let origin = self.origins.get(x.name().ok()?)?;
        let is_one = origin.output == 0 && ops.contains(&origin.op.as_str());
        is_one.then(|| Rc::clone(origin))
    }
}

fn batch_norm(node: &NodeDef) -> Option<(bool, bool, f32)> {
    if !node.op.starts_with("FusedBatchNorm") {
        return None;
    }
    let is_training = !matches!(
        attribute(node, "is_training"),
        Some(attr_value::Value::B(false))
    );
    let is_first = matches!(
        attribute(node, "data_format"),
        Some(attr_value::Value::S(format)) if format.as_ref() == b"NCHW"
    );
    match attribute(node, "epsilon") {
        Some(attr_value::Value::F(epsilon)) => Some((is_training, is_first, *epsilon)),
        _ => None,
    }
}
