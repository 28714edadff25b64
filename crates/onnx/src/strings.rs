//! Comparing strings.
//!
//! ONNX compares strings from opset 19 on, and nothing is changed there. For earlier opsets, tf2onnx, which
//! writes no later one, casts both sides to int32; such a model loads, but every run fails. Here the distinct
//! strings of both sides are numbered, and the numbers are compared.
//!
//! A comparison is one of strings if both sides are strings, or come from strings that were cast to int32.
//! Data flow analysis (`follow`) traces the results of casts through nested graphs and operators that only
//! move elements, and moves the strings in the same way. Functions are inlined (`inline`). A cast stays if
//! another node reads it; nodes that are no longer read are dropped (`unread`).
//!
//! If constant strings are numbers, tf2onnx casts them itself. So the other side of a cast can be an int32
//! constant, which stands for its decimal text. A model that parses numbers from strings to compare them has
//! the same nodes, and gets the same answers for decimal texts without leading zeros.

mod comparison;
mod follow;
mod inline;
mod loop_plan;
mod nested;
mod source;
mod unread;

use super::known::{INT32, STRING};
use super::{OnnxModel, is_op, traverse};
use base::error::Result;
use proto::onnx::{NodeProto, ValueInfoProto, type_proto};

/// Operators that only move the elements of their first input.
const MOVE_FIRST: &[&str] = &[
    "Compress",
    "ConcatFromSequence",
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "GatherND",
    "Identity",
    "Reshape",
    "ReverseSequence",
    "SequenceAt",
    "SequenceErase",
    "Slice",
    "Split",
    "SplitToSequence",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
];
/// Operators that move the elements of all their inputs.
const MOVE_ALL: &[&str] = &["Concat", "SequenceConstruct"];

impl OnnxModel {
    /// Corrects comparisons of strings everywhere in the model; see the module. Returns whether there were
    /// any.
    ///
    /// # Errors
    ///
    /// Does not return errors of its own.
    pub(super) fn rewrite_string_equal(&mut self) -> Result<bool> {
        if !self.has_operator(&|op_type| op_type == "Equal") || !self.has_strings() {
            return Ok(false);
        }
        let original = self.proto.clone();
        self.write_functions_out();
        if let Some(added) = self.follow_strings() {
            self.drop_unread(&added);
            return Ok(true);
        }
        self.proto = original;
        Ok(false)
    }

    /// Whether anything in the model can be strings.
    pub(super) fn has_strings(&self) -> bool {
        let graph = self.graph();
        let declared = graph.input.iter().any(is_of_strings);
        let mut found = declared || graph.initializer.iter().any(|it| it.data_type() == STRING);
        let functions = self.proto.functions.iter().map(|it| &it.node);
        for nodes in functions.chain([&graph.node]) {
            traverse::for_each_node(nodes, &mut |node| found |= makes_strings(node));
        }
        found
    }
}

fn is_of_strings(value: &ValueInfoProto) -> bool {
    let ty = value.r#type.as_ref().and_then(|ty| ty.value.as_ref());
    match ty {
        Some(type_proto::Value::TensorType(tensor)) => tensor.elem_type() == STRING,
        Some(_) => true,
        None => false,
    }
}

fn makes_strings(node: &NodeProto) -> bool {
    let mut graphs = traverse::subgraphs(node);
    graphs.any(|graph| graph.initializer.iter().any(|it| it.data_type() == STRING))
        || is_cast_to(node, STRING)
        || node.domain() == "ai.onnx.ml"
        || node.op_type().starts_with("String")
        || node.attribute.iter().any(|it| {
            it.s.is_some() && it.name() == "value_string"
                || !it.strings.is_empty()
                || it.t.as_ref().is_some_and(|it| it.data_type() == STRING)
        })
}

fn is_cast_to(node: &NodeProto, elem: i32) -> bool {
    let to = traverse::attribute(node, "to").map(|to| to.i());
    is_op(node, "Cast") && to == Some(i64::from(elem))
}

/// A cast to integers.
fn is_integer_cast(node: &NodeProto) -> bool {
    const INT64: i32 = proto::onnx::tensor_proto::DataType::Int64 as i32;
    is_cast_to(node, INT32) || is_cast_to(node, INT64)
}

/// The inputs whose elements an operator moves; empty if it does anything else.
fn moved(node: &NodeProto) -> Vec<usize> {
    let is_one_of = |list: &[&str]| list.iter().any(|it| is_op(node, it));
    match () {
        () if is_one_of(MOVE_FIRST) => vec![0],
        () if is_one_of(MOVE_ALL) => (0..node.input.len()).collect(),
        () if is_op(node, "Where") => vec![1, 2],
        () if is_op(node, "SequenceInsert") => vec![0, 1],
        () => Vec::new(),
    }
}
