//! The nodes that compare strings.
//!
//! Not here: which tensors stand for strings (`follow`).

use bytes::Bytes;

use crate::constant::constant_node;
use crate::io_transforms::int_attribute;
use crate::node;
use crate::visit::Names;
use base::tensor::Tensor;
use proto::onnx::NodeProto;

/// The first opset in which `Reshape` can keep a size of 0.
const ALLOW_ZERO_SINCE: i64 = 14;
/// The number that tf2onnx writes for an empty string, and also for the text "-1".
pub(super) const EMPTY: i32 = -1;

pub(super) struct Comparison<'a> {
    pub(super) opset: i64,
    pub(super) names: &'a mut Names,
    /// The tensor that holds the result.
    pub(super) output: &'a str,
    pub(super) nodes: Vec<NodeProto>,
}

impl Comparison<'_> {
    fn name(&mut self, part: &str) -> String {
        let wish = format!("{}/strings/{part}", self.output);
        self.names.take(&wish)
    }

    fn add(&mut self, op_type: &str, inputs: &[&str], part: &str) -> String {
        let output = self.name(part);
        self.nodes.push(node(op_type, inputs, &output));
        output
    }

    fn constant(&mut self, tensor: Option<Tensor>, part: &str) -> Option<String> {
        let name = self.name(part);
        self.nodes.push(constant_node(&name, &tensor?)?);
        Some(name)
    }

    fn vector(&mut self, value: i64, part: &str) -> Option<String> {
        self.constant(Tensor::from_vec(&[1], vec![value]), part)
    }

    /// `output = (strings == numbers)`, comparing texts.
    pub(super) fn with_numbers(&mut self, strings: &str, numbers: &Tensor) -> Option<()> {
        let values = numbers.as_slice::<i32>()?;
        let texts = values.iter().map(|number| number.to_string().into());
        let texts = Tensor::from_strings(numbers.shape(), texts.collect());
        let texts = self.constant(texts, "texts")?;
        if values.iter().all(|number| *number != EMPTY) {
            return self.finish(strings, &texts, self.output);
        }
        let or_empty = values.iter().map(|number| match *number {
            EMPTY => Bytes::new(),
            _ => number.to_string().into(),
        });
        let or_empty = Tensor::from_strings(numbers.shape(), or_empty.collect());
        let or_empty = self.constant(or_empty, "texts")?;
        let mut equal = Vec::new();
        for constant in [&texts, &or_empty] {
            let output = self.name("equal");
            self.finish(strings, constant, &output)?;
            equal.push(output);
        }
        let either = node("Or", &[&equal[0], &equal[1]], self.output);
        self.nodes.push(either);
        Some(())
    }

    /// `output = (a == b)`: numbers all strings of both sides and compares the numbers.
    pub(super) fn finish(&mut self, a: &str, b: &str, output: &str) -> Option<()> {
        let zero = self.vector(0, "zero")?;
        let all = self.vector(-1, "all")?;
        let end = self.vector(i64::MAX, "end")?;
        let flat_a = self.add("Reshape", &[a, &all], "flat_a");
        let flat_b = self.add("Reshape", &[b, &all], "flat_b");
        let both = self.add("Concat", &[&flat_a, &flat_b], "both");
        self.with_attribute("axis", 0);
        self.add("Unique", &[&both], "distinct");
        self.with_attribute("sorted", 0);
        let (first, numbers) = (self.name("first"), self.name("numbers"));
        if let Some(unique) = self.nodes.last_mut() {
            unique.output.extend([first, numbers.clone()]);
        }
        let count = self.add("Shape", &[&flat_a], "count");
        let mut numbered = Vec::new();
        for (original, from, to) in [(a, &zero, &count), (b, &count, &end)] {
            let part = self.add("Slice", &[&numbers, from, to, &zero], "part");
            let shape = self.add("Shape", &[original], "shape");
            numbered.push(self.add("Reshape", &[&part, &shape], "number"));
            if self.opset >= ALLOW_ZERO_SINCE {
                self.with_attribute("allowzero", 1);
            }
        }
        let equal = node("Equal", &[&numbered[0], &numbered[1]], output);
        self.nodes.push(equal);
        Some(())
    }

    fn with_attribute(&mut self, name: &str, value: i64) {
        if let Some(node) = self.nodes.last_mut() {
            node.attribute.push(int_attribute(name, value));
        }
    }
}
