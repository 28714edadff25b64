//! Comparing strings.
//!
//! ONNX compares strings from opset 19 on. Before, tf2onnx casts both sides to numbers, which loads
//! and then fails with every run. Here both sides get the numbers of their distinct strings.

use std::collections::{HashMap, HashSet};

use super::border::int_attribute;
use super::interface::tensor_type;
use super::rewrite::replace_nodes;
use super::{OnnxModel, is_op, node, walk};
use crate::proto::onnx::{GraphProto, NodeProto, tensor_proto::DataType as OnnxType};
use crate::tensor::Tensor;

/// The opset from which on `Unique`, with which strings are numbered, exists.
const UNIQUE_SINCE: i64 = 11;
/// The opset from which on `Equal` takes strings.
const STRING_EQUAL_SINCE: i64 = 19;

/// Operators that return strings where their first input is of strings.
const PASS_STRINGS: &[&str] = &[
    "Compress",
    "Concat",
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "GatherND",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
];

impl OnnxModel {
    /// Mends comparisons of strings in the graph; see the module.
    pub(super) fn rewrite_string_equal(&mut self) {
        let opset = self.opset();
        if opset < UNIQUE_SINCE {
            return;
        }
        let graph = self.graph();
        if !graph.node.iter().any(|node| is_op(node, "Equal")) {
            return;
        }
        let strings = string_tensors(graph);
        let casts = casts(graph);
        let mut compared: HashMap<String, (String, String)> = HashMap::new();
        for equal in graph.node.iter().filter(|node| is_op(node, "Equal")) {
            if let (Some(sides), Some(output)) = (
                compared_strings(equal, &strings, &casts, opset),
                equal.output.first(),
            ) {
                compared.insert(output.clone(), sides);
            }
        }
        if compared.is_empty() {
            return;
        }
        let vector = |value: i64| Tensor::from_vec(&[1], vec![value]).expect("one element");
        let mut constant = |name: &str, value: i64| {
            self.add_constant(name, &vector(value))
                .expect("ONNX has int64 vectors")
        };
        let constants = Constants {
            zero: constant("strings/zero", 0),
            all: constant("strings/all", -1),
            end: constant("strings/end", i64::MAX),
        };
        replace_nodes(&mut self.graph_mut().node, &mut |equal| {
            let output = equal.output.first()?;
            let (a, b) = compared.get(output).filter(|_| is_op(equal, "Equal"))?;
            Some(compare(a, b, output, &constants, opset))
        });
    }
}

struct Constants {
    zero: String,
    all: String,
    end: String,
}

/// Names of the tensors that are known to be of strings.
fn string_tensors(graph: &GraphProto) -> HashSet<&str> {
    let is_string = |elem_type: i32| elem_type == OnnxType::String as i32;
    let declared = graph.input.iter().chain(&graph.value_info);
    let declared =
        declared.filter(|it| tensor_type(it).is_some_and(|it| is_string(it.elem_type())));
    let mut strings: HashSet<&str> = declared.map(|it| it.name()).collect();
    let constants = graph.initializer.iter();
    let constants = constants.filter(|it| is_string(it.data_type()));
    strings.extend(constants.map(|it| it.name()));
    for node in &graph.node {
        let passes = PASS_STRINGS.contains(&node.op_type())
            && node
                .input
                .first()
                .is_some_and(|it| strings.contains(it.as_str()));
        let makes = is_op(node, "StringNormalizer") || is_op(node, "StringConcat");
        let casts = is_op(node, "Cast")
            && walk::attribute(node, "to").is_some_and(|to| to.i() == OnnxType::String as i64);
        if passes || makes || casts {
            strings.extend(node.output.iter().map(String::as_str));
        }
    }
    strings
}

/// The nodes that cast something to int32, by output.
fn casts(graph: &GraphProto) -> HashMap<&str, &NodeProto> {
    let to_int = |node: &&NodeProto| {
        is_op(node, "Cast")
            && walk::attribute(node, "to").is_some_and(|to| to.i() == OnnxType::Int32 as i64)
    };
    let casts = graph.node.iter().filter(to_int);
    casts
        .filter_map(|node| Some((node.output.first()?.as_str(), node)))
        .collect()
}

/// The strings that `equal` was meant to compare, if it was.
fn compared_strings(
    equal: &NodeProto,
    strings: &HashSet<&str>,
    casts: &HashMap<&str, &NodeProto>,
    opset: i64,
) -> Option<(String, String)> {
    let [a, b] = equal.input.as_slice() else {
        return None;
    };
    if strings.contains(a.as_str()) || strings.contains(b.as_str()) {
        return (opset < STRING_EQUAL_SINCE).then(|| (a.clone(), b.clone()));
    }
    // tf2onnx names the casts that it inserts after the node they are for; a conversion that the
    // model itself asks for has a name of its own.
    let inserted = |name: &String| {
        let cast = casts.get(name.as_str())?;
        let number = cast.name().strip_prefix(equal.name())?.strip_prefix("__")?;
        let is_number = !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit());
        cast.input.first().filter(|_| is_number)
    };
    let (a, b) = (inserted(a)?, inserted(b)?);
    let known = strings.contains(a.as_str()) || strings.contains(b.as_str());
    known.then(|| (a.clone(), b.clone()))
}

/// `output = (a == b)`: numbers all strings of both sides, and compares the numbers.
fn compare(a: &str, b: &str, output: &str, constants: &Constants, opset: i64) -> Vec<NodeProto> {
    let name = |part: &str| format!("{output}/strings/{part}");
    let (flat_a, flat_b, both) = (name("flat_a"), name("flat_b"), name("both"));
    let (count, numbers) = (name("count"), name("numbers"));
    let mut concat = node("Concat", &[&flat_a, &flat_b], &both);
    concat.attribute.push(int_attribute("axis", 0));
    let mut unique = node("Unique", &[&both], &name("distinct"));
    unique.attribute.push(int_attribute("sorted", 0));
    unique.output.extend([name("first"), numbers.clone()]);
    let mut nodes = vec![
        node("Reshape", &[a, &constants.all], &flat_a),
        node("Reshape", &[b, &constants.all], &flat_b),
        concat,
        unique,
        node("Shape", &[&flat_a], &count),
    ];
    for (side, original, from, to) in [
        ("a", a, &constants.zero, &count),
        ("b", b, &count, &constants.end),
    ] {
        let (part, shape, numbered) = (
            name(&format!("part_{side}")),
            name(&format!("shape_{side}")),
            name(&format!("number_{side}")),
        );
        let mut reshape = node("Reshape", &[&part, &shape], &numbered);
        if opset >= 14 {
            reshape.attribute.push(int_attribute("allowzero", 1));
        }
        nodes.extend([
            node("Slice", &[&numbers, from, to, &constants.zero], &part),
            node("Shape", &[original], &shape),
            reshape,
        ]);
    }
    nodes.push(node(
        "Equal",
        &[&name("number_a"), &name("number_b")],
        output,
    ));
    nodes
}
