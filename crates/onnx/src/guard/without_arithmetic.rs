//! Checks for models of versions in which no operator adds or compares two tensors: before version 7, ONNX
//! Runtime has no kernel for those.
//!
//! The condition is a vector of ones and zeros, used as the signs of a `Reshape` of a tensor of one element:
//! a 1 adds a dimension, and a 0 fails because it finds no dimension to keep.

use super::checks::Guard;
use crate::io_transforms::int_attribute;
use proto::onnx::{AttributeProto, attribute_proto::AttributeType, tensor_proto::DataType};

/// The first version in which two tensors can be added and compared.
const ARITHMETIC_SINCE: i64 = 7;

impl Guard<'_, '_> {
    pub(super) fn has_no_arithmetic(&self) -> bool {
        self.context.opset < ARITHMETIC_SINCE
    }

    pub(super) fn filled_without(&mut self) {
        let what = "is not empty";
        let shape = self.shape();
        let sizes = self.cast(&shape, DataType::Float, what);
        let ones = self.clipped(&sizes, what);
        self.insist(&shape, &ones, what);
    }

    /// The sizes along `axes` are larger than `limits`.
    pub(super) fn holds_without(&mut self, axes: &[i64], limits: &[i64], what: &str) {
        let shape = self.shape();
        let axes = self.integers(axes, what);
        let sizes = self.add("Gather", &[&shape, &axes], what);
        let sizes = self.cast(&sizes, DataType::Float, what);
        let limits: Vec<i64> = limits.iter().map(|it| -it).collect();
        let limits = self.integers(&limits, what);
        let limits = self.cast(&limits, DataType::Float, what);
        let more = self.add("Sum", &[&sizes, &limits], what);
        let ones = self.clipped(&more, what);
        self.insist(&shape, &ones, what);
    }

    /// 1 for each positive whole number, 0 for others.
    fn clipped(&mut self, numbers: &str, what: &str) -> String {
        let output = self.output();
        let mut clip = self.named("Clip", &[numbers], &output, what);
        for (name, value) in [("min", 0.0), ("max", 1.0)] {
            clip.attribute.push(AttributeProto {
                name: Some(name.to_owned()),
                r#type: Some(AttributeType::Float as i32),
                f: Some(value),
                ..AttributeProto::default()
            });
        }
        self.nodes.push(clip);
        self.cast(&output, DataType::Int64, what)
    }

    /// Fails if one of `numbers`, each 0 or 1, is 0. `shape` is the shape of the checked tensor.
    fn insist(&mut self, shape: &str, numbers: &str, what: &str) {
        let first = self.integers(&[-1], what);
        let signs = self.output();
        let mut concat = self.named("Concat", &[&first, numbers], &signs, what);
        concat.attribute.push(int_attribute("axis", 0));
        self.nodes.push(concat);
        let zero = self.integers(&[0], what);
        let zero = self.add("Reshape", &[&zero, &signs], what);
        let row = self.integers(&[1, -1], what);
        let rows = self.add("Reshape", &[shape, &row], what);
        let same = self.add("Gather", &[&rows, &zero], what);
        let same = self.add("Reshape", &[&same, &first], what);
        self.reshape_to(&same, what);
    }
}
