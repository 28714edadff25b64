//! Nodes in place of kernels of ONNX Runtime that return wrong results.
//!
//! `Gather` copies only the first string of each slice, and leaves the others empty. Instead, the elements are
//! numbered, the numbers are gathered, and then the strings of those numbers, in slices of one.
//!
//! `ScatterND` writes in several threads, also if it joins its updates (`reduction`): of those for one place,
//! some are lost. Instead, `ScatterElements` joins them, in order.
//!
//! Not here: kernels that end the process or leave outputs unwritten (`kernel_limits`).

use std::collections::HashSet;

use super::checks::Guard;
use crate::constant::from_tensor;
use crate::io_transforms::int_attribute;
use crate::kernel_limits::FOUND_ON;
use crate::known::{Elem, Facts, STRING};
use crate::visit::{NodeContext, Replaced};
use crate::{OnnxModel, is_op, traverse};
use base::error::{Result, ServingError};
use base::tensor::Tensor;
use proto::onnx::attribute_proto::AttributeType;
use proto::onnx::tensor_proto::DataType;
use proto::onnx::{AttributeProto, NodeProto};

/// The first opset with the nodes that number elements.
const NUMBERS_SINCE: i64 = 9;
/// The first version in which `Reshape` can produce a size of 0.
const ALLOW_ZERO_SINCE: i64 = 14;

const WITHIN: &str = "has places within input 0";
const OF_SLICES: &str = "has the shape of the slices";

impl OnnxModel {
    /// Replaces nodes whose kernels return wrong results. `ranked` are the graph's inputs whose declared rank
    /// is enforced.
    ///
    /// # Errors
    ///
    /// `UNIMPLEMENTED` in opsets in which such a node cannot be replaced.
    pub(super) fn replace_wrong_kernels(&mut self, ranked: &HashSet<String>) -> Result<()> {
        let has_strings = self.has_strings();
        let has = |wanted| self.has_operator(&|op_type| op_type == wanted);
        if !(has("ScatterND") || (has_strings && has("Gather"))) {
            return Ok(());
        }
        let origin = self.origin.clone();
        self.replace_everywhere(ranked, &mut |node, context| {
            if has_strings && gathers_slices_of_strings(node, context) {
                return gather(node, context, &origin);
            }
            Ok(joins_updates(node).then(|| scatter(node, context)))
        })
    }
}

/// Whether a node gathers slices of several strings, as far as is known.
fn gathers_slices_of_strings(node: &NodeProto, context: &NodeContext<'_>) -> bool {
    if !is_op(node, "Gather") || node.input.len() != 2 || node.output.len() != 1 {
        return false;
    }
    let facts = context.known.input(node, 0);
    let may_be_strings = matches!(facts.elem, Elem::Is(STRING) | Elem::Unknown | Elem::Other);
    let axis = traverse::attribute(node, "axis");
    let axis = match axis {
        Some(axis) if axis.ref_attr_name().is_empty() => Some(axis.i()),
        Some(_) => None,
        None => Some(0),
    };
    let last = facts.rank.and_then(|rank| i64::try_from(rank).ok());
    let is_last =
        axis == Some(-1) || last == Some(1) || axis.is_some_and(|it| last == Some(it + 1));
    may_be_strings && !is_last
}

/// Whether a node joins the updates of one place.
fn joins_updates(node: &NodeProto) -> bool {
    let reduction = traverse::attribute(node, "reduction");
    let joins = reduction.is_some_and(|it| !it.ref_attr_name().is_empty() || it.s() != b"none");
    joins && is_op(node, "ScatterND") && node.input.len() == 3 && node.output.len() == 1
}

fn gather(original: &NodeProto, context: &mut NodeContext<'_>, origin: &str) -> Replaced {
    if context.opset < NUMBERS_SINCE {
        if context.known.input(original, 0).elem != Elem::Is(STRING) {
            return Ok(None);
        }
        return Err(ServingError::unimplemented(format!(
            "{origin}: the operator Gather of strings is not served in opset {}: its kernel returns only the \
             first string of each slice (found on ONNX Runtime {FOUND_ON}). Convert the model to opset \
             {NUMBERS_SINCE} or later",
            context.opset
        )));
    }
    let mut nodes = Vec::new();
    let mut guard = writer(original, 1, context, &mut nodes);
    guard.current.clone_from(&original.input[0]);
    let shape = guard.shape();
    guard.reshape(&[-1], WITHIN);
    let strings = guard.current.clone();
    let count = guard.shape();
    let numbers = guard.numbers(&count, &shape);
    let mut places = original.clone();
    places.input[0] = numbers;
    places.output[0] = guard.output();
    let picked = places.output[0].clone();
    guard.nodes.push(places);
    guard.add("Gather", &[&strings, &picked], WITHIN);
    Ok(Some(returning(nodes, original)))
}

/// The axes of `x` that the last axis of the indices names become rows, its other axes columns. Each element of
/// the updates gets the number of its row.
fn scatter(original: &NodeProto, context: &mut NodeContext<'_>) -> Vec<NodeProto> {
    let mut nodes = Vec::new();
    let mut guard = writer(original, 1, context, &mut nodes);
    let [x, indices, updates] = [0, 1, 2].map(|index| original.input[index].clone());
    let sizes = guard.add("Shape", &[&x], WITHIN);
    let of_indices = guard.add("Shape", &[&indices], WITHIN);
    let [start, last, end] = [0, -1, i64::MAX].map(|it| guard.integers(&[it], WITHIN));
    let depth = guard.add("Slice", &[&of_indices, &last, &end], WITHIN);
    let outer = guard.add("Slice", &[&sizes, &start, &depth], WITHIN);
    let inner = guard.add("Slice", &[&sizes, &depth, &end], WITHIN);
    let rows = guard.add("ReduceProd", &[&outer], WITHIN);
    let columns = guard.add("ReduceProd", &[&inner], WITHIN);
    let numbers = guard.numbers(&rows, &outer);
    guard.current = guard.add("GatherND", &[&numbers, &indices], WITHIN);
    guard.reshape(&[-1, 1], WITHIN);
    let places = guard.current.clone();
    let of_places = guard.shape();
    let count = guard.add("Slice", &[&of_places, &start, &last], WITHIN);

    guard.input = 2;
    let points = guard.add("Slice", &[&of_indices, &start, &last], OF_SLICES);
    let needed = guard.concat([&points, &inner]);
    guard.current = updates;
    guard.check_sizes(&needed);
    let flat = guard.concat([&count, &columns]);
    guard.resize(&flat, OF_SLICES);
    let updates = guard.current.clone();
    let places = guard.add("Expand", &[&places, &flat], OF_SLICES);

    guard.input = 0;
    guard.current = x;
    let matrix = guard.concat([&rows, &columns]);
    guard.resize(&matrix, WITHIN);
    let mut joined = original.clone();
    joined.op_type = Some("ScatterElements".to_owned());
    joined.attribute.push(int_attribute("axis", 0));
    joined.input = vec![guard.current.clone(), places, updates];
    joined.output[0] = guard.output();
    guard.current.clone_from(&joined.output[0]);
    guard.nodes.push(joined);
    guard.resize(&sizes, WITHIN);
    returning(nodes, original)
}

/// A writer of nodes around one input of a node.
fn writer<'a, 'b>(
    node: &'a NodeProto,
    input: usize,
    context: &'a mut NodeContext<'b>,
    nodes: &'a mut Vec<NodeProto>,
) -> Guard<'a, 'b> {
    Guard {
        node,
        input,
        facts: Facts::default(),
        current: node.input[input].clone(),
        context,
        nodes,
    }
}

/// The nodes, of which the last returns the output of `original`.
fn returning(mut nodes: Vec<NodeProto>, original: &NodeProto) -> Vec<NodeProto> {
    if let Some(last) = nodes.last_mut() {
        last.output.clone_from(&original.output);
    }
    nodes
}

impl Guard<'_, '_> {
    /// The integers below `count`, a vector of one number, as a tensor of this shape.
    fn numbers(&mut self, count: &str, shape: &str) -> String {
        let ones = self.add("ConstantOfShape", &[count], WITHIN);
        let one = Tensor::from_vec(&[1], vec![1_i64]);
        if let Some(node) = self.nodes.last_mut() {
            node.attribute.push(AttributeProto {
                name: Some("value".to_owned()),
                r#type: Some(AttributeType::Tensor as i32),
                t: one.and_then(|it| from_tensor("", &it)),
                ..AttributeProto::default()
            });
        }
        self.current = self.add("NonZero", &[&ones], WITHIN);
        self.reshape(&[-1], WITHIN);
        self.resize(shape, WITHIN);
        self.current.clone()
    }

    /// Reshapes to computed sizes, which can be 0.
    fn resize(&mut self, sizes: &str, what: &str) {
        self.reshape_to(sizes, what);
        if self.context.opset >= ALLOW_ZERO_SINCE
            && let Some(reshape) = self.nodes.last_mut()
        {
            reshape.attribute.push(int_attribute("allowzero", 1));
        }
    }

    /// Fails if the tensor has other sizes.
    fn check_sizes(&mut self, needed: &str) {
        let sizes = self.shape();
        let is_right = self.add("Equal", &[&sizes, needed], OF_SLICES);
        let as_number = self.cast(&is_right, DataType::Int64, OF_SLICES);
        let ones = self.add("Div", &[&as_number, &as_number], OF_SLICES);
        let same = self.add("Mul", &[&sizes, &ones], OF_SLICES);
        self.resize(&same, OF_SLICES);
    }

    fn concat(&mut self, vectors: [&str; 2]) -> String {
        let joined = self.add("Concat", &vectors, OF_SLICES);
        if let Some(concat) = self.nodes.last_mut() {
            concat.attribute.push(int_attribute("axis", 0));
        }
        joined
    }
}
