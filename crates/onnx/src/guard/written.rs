//! Checks after kernels that join tensors and can leave parts of their output unwritten.
//!
//! ONNX Runtime does not compare the shapes of tensors without elements with those of the others, but adds up
//! their sizes along the axis. Its output then has more elements than were copied into it, and the rest is
//! memory left by another request. The output is fully written if it has as many elements as the inputs
//! together.
//!
//! Not here: which kernels these are (`kernel_limits`).

use super::checks::Guard;
use crate::interface::shaped_tensor_value;
use crate::io_transforms::int_attribute;
use crate::kernel_limits::Parts;
use crate::known::{Elem, Facts, INT64, Scopes};
use crate::visit::NodeContext;
use crate::{kernel_limits, node};
use proto::onnx::attribute_proto::AttributeType;
use proto::onnx::tensor_proto::DataType;
use proto::onnx::{AttributeProto, GraphProto, NodeProto, TensorShapeProto};

/// The text of the check, as TensorFlow says it for different sizes.
const WHAT: &str = "has the sizes of the others: ConcatOp : Dimensions of inputs should match";
/// The first version in which `Reshape` can produce a size of 0.
const ALLOW_ZERO_SINCE: i64 = 14;

/// Adds a node, with checks if parts of its output might be unwritten.
pub(super) fn add_checked(
    nodes: &mut Vec<NodeProto>,
    mut node: NodeProto,
    context: &mut NodeContext<'_>,
) {
    let original = node.clone();
    let parts =
        kernel_limits::parts(&original).filter(|parts| may_differ(&original, parts, context.known));
    let (Some(parts), Some(output)) = (parts, original.output.first()) else {
        nodes.push(node);
        return;
    };
    let joined = context.names.take(&format!("{output}/joined"));
    let mut guard = Guard {
        node: &original,
        input: parts.first,
        facts: Facts::default(),
        current: joined.clone(),
        context,
        nodes,
    };
    if guard.has_no_arithmetic() {
        // Such models have no comparison to use after the node, so its inputs are checked.
        for name in &mut node.input {
            guard.current.clone_from(name);
            guard.filled();
            name.clone_from(&guard.current);
        }
        nodes.push(node);
        return;
    }
    node.output[0] = joined;
    guard.nodes.push(node);
    let count = match parts.is_sequence {
        true => guard.elements_of_sequence(parts.names[0]),
        false => guard.elements(&parts.names),
    };
    guard.has_elements(&count);
    if let Some(last) = nodes.last_mut() {
        last.output[0].clone_from(output);
    }
}

/// Whether inputs without elements can have different sizes.
fn may_differ(node: &NodeProto, parts: &Parts<'_>, known: &Scopes) -> bool {
    let facts = || parts.names.iter().map(|name| known.facts(name));
    // A vector has no size other than the one along the axis.
    let are_vectors = || facts().all(|it| it.rank == Some(1));
    let are_filled = || facts().all(|it| it.is_filled);
    let is_one = !parts.is_sequence && parts.names.len() == 1;
    !is_one && (parts.is_sequence || !(are_vectors() || are_filled() || known.joins_channels(node)))
}

/// The element types that `Size` has a kernel for; `Shape` takes all.
const SIZED: [DataType; 13] = [
    DataType::Float,
    DataType::Double,
    DataType::Float16,
    DataType::Int8,
    DataType::Int16,
    DataType::Int32,
    DataType::Int64,
    DataType::Uint8,
    DataType::Uint16,
    DataType::Uint32,
    DataType::Uint64,
    DataType::Bool,
    DataType::String,
];

/// The product of the numbers in a vector, as a scalar.
fn product(vector: &str, output: &str) -> NodeProto {
    let mut product = node("ReduceProd", &[vector], output);
    product.attribute.push(int_attribute("keepdims", 0));
    product
}

impl Guard<'_, '_> {
    /// The number of elements of a tensor.
    fn size(&mut self, tensor: &str) -> String {
        let elem = self.context.known.facts(tensor).elem;
        if SIZED.iter().any(|it| elem == Elem::Is(*it as i32)) {
            return self.add("Size", &[tensor], WHAT);
        }
        let shape = self.add("Shape", &[tensor], WHAT);
        let output = self.output();
        let mut product = product(&shape, &output);
        product.name = Some(self.name(WHAT));
        self.nodes.push(product);
        output
    }

    /// The number of elements of several tensors together.
    fn elements(&mut self, names: &[&str]) -> String {
        let mut total: Option<String> = None;
        for name in names {
            let size = self.size(name);
            total = Some(match total {
                Some(total) => self.add("Add", &[&total, &size], WHAT),
                None => size,
            });
        }
        total.unwrap_or_default()
    }

    /// The number of elements of a sequence's tensors together.
    fn elements_of_sequence(&mut self, sequence: &str) -> String {
        let rounds = self.add("SequenceLength", &[sequence], WHAT);
        let none = self.integers(&[0], WHAT);
        let [round, go, go_on, before, element, shape, size, after] = [
            "round", "go", "go_on", "before", "element", "shape", "size", "after",
        ]
        .map(|part| {
            self.context
                .names
                .take(&format!("{sequence}/checked/{part}"))
        });
        let scalar = || Some(TensorShapeProto::default());
        let bool = DataType::Bool as i32;
        let body = GraphProto {
            name: Some("body".to_owned()),
            input: vec![
                shaped_tensor_value(&round, INT64, scalar()),
                shaped_tensor_value(&go, bool, scalar()),
                shaped_tensor_value(&before, INT64, None),
            ],
            node: vec![
                node("SequenceAt", &[sequence, &round], &element),
                node("Shape", &[&element], &shape),
                product(&shape, &size),
                node("Add", &[&before, &size], &after),
                node("Identity", &[&go], &go_on),
            ],
            output: vec![
                shaped_tensor_value(&go_on, bool, scalar()),
                shaped_tensor_value(&after, INT64, None),
            ],
            ..GraphProto::default()
        };
        let total = self.add("Loop", &[&rounds, "", &none], WHAT);
        if let Some(rounds) = self.nodes.last_mut() {
            rounds.attribute.push(AttributeProto {
                name: Some("body".to_owned()),
                r#type: Some(AttributeType::Graph as i32),
                g: Some(body),
                ..AttributeProto::default()
            });
        }
        total
    }

    /// Checks that the tensor has `count` elements.
    fn has_elements(&mut self, count: &str) {
        let current = self.current.clone();
        if self.context.opset >= ALLOW_ZERO_SINCE {
            let flat = self.integers(&[-1], WHAT);
            let flat = self.add("Reshape", &[count, &flat], WHAT);
            let shape = self.shape();
            for shape in [flat, shape] {
                self.reshape_to(&shape, WHAT);
                if let Some(reshape) = self.nodes.last_mut() {
                    reshape.attribute.push(int_attribute("allowzero", 1));
                }
            }
            return;
        }
        let size = self.size(&current);
        let is_right = self.add("Equal", &[&size, count], WHAT);
        let as_number = self.cast(&is_right, DataType::Int64, WHAT);
        let one = self.add("Div", &[&as_number, &as_number], WHAT);
        let shape = self.shape();
        let same = self.add("Mul", &[&shape, &one], WHAT);
        self.reshape_to(&same, WHAT);
    }
}
