//! Single nodes of a check, named so that ONNX Runtime's errors explain the check.
//!
//! Not here: the nodes that make up a check (`checks`).

use super::checks::Guard;
use crate::constant::constant_node;
use crate::io_transforms::{int_attribute, ints_attribute};
use crate::node;
use base::tensor::Tensor;
use proto::onnx::{NodeProto, tensor_proto::DataType as OnnxType};

/// The first opset in which `Reshape` takes its shape as an input.
const SHAPE_INPUT_SINCE: i64 = 5;
/// The first opset in which `Constant` can hold integers.
const INTEGER_CONSTANT_SINCE: i64 = 9;

impl Guard<'_, '_> {
    pub(super) fn cast(&mut self, input: &str, to: OnnxType, what: &str) -> String {
        let output = self.output();
        let mut cast = self.named("Cast", &[input], &output, what);
        cast.attribute.push(int_attribute("to", to as i64));
        self.nodes.push(cast);
        output
    }

    pub(super) fn shape(&mut self) -> String {
        let current = self.current.clone();
        self.add("Shape", &[&current], "has a shape")
    }

    pub(super) fn reshape(&mut self, shape: &[i64], what: &str) {
        if self.context.opset >= SHAPE_INPUT_SINCE {
            let shape = self.integers(shape, what);
            self.reshape_to(&shape, what);
            return;
        }
        let output = self.output();
        let current = self.current.clone();
        let mut reshape = self.named("Reshape", &[&current], &output, what);
        reshape.attribute.push(ints_attribute("shape", shape));
        self.nodes.push(reshape);
        self.current = output;
    }

    pub(super) fn reshape_to(&mut self, shape: &str, what: &str) {
        let current = self.current.clone();
        self.current = self.add("Reshape", &[&current, shape], what);
    }

    pub(super) fn integers(&mut self, values: &[i64], what: &str) -> String {
        // Constants in functions had to be floats before that opset.
        if self.context.opset < INTEGER_CONSTANT_SINCE {
            let floats = values.iter().map(|&it| it as f32).collect();
            let tensor = Tensor::from_vec(&[values.len()], floats);
            let numbers = self.output();
            self.nodes
                .extend(tensor.and_then(|it| constant_node(&numbers, &it)));
            return self.cast(&numbers, OnnxType::Int64, what);
        }
        let output = self.output();
        let tensor = Tensor::from_vec(&[values.len()], values.to_vec());
        self.nodes
            .extend(tensor.and_then(|it| constant_node(&output, &it)));
        output
    }

    pub(super) fn add(&mut self, op_type: &str, inputs: &[&str], what: &str) -> String {
        let output = self.output();
        let added = self.named(op_type, inputs, &output, what);
        self.nodes.push(added);
        output
    }

    /// A node whose name explains the check in ONNX Runtime's errors.
    pub(super) fn named(
        &mut self,
        op_type: &str,
        inputs: &[&str],
        output: &str,
        what: &str,
    ) -> NodeProto {
        let mut named = node(op_type, inputs, output);
        named.name = Some(self.name(what));
        named
    }

    pub(super) fn name(&mut self, what: &str) -> String {
        let (op_type, index) = (self.node.op_type(), self.input);
        let wish = format!("check that input {index} of {op_type} {what}");
        self.context.names.take(&wish)
    }

    pub(super) fn output(&mut self) -> String {
        let input = &self.node.input[self.input];
        self.context.names.take(&format!("{input}/checked"))
    }

    /// A vector of one number.
    pub(super) fn float(&mut self, value: f32) -> String {
        let output = self.output();
        let tensor = Tensor::from_vec(&[1], vec![value]);
        self.nodes
            .extend(tensor.and_then(|it| constant_node(&output, &it)));
        output
    }
}
