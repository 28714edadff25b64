//! Comparing strings.
//!
//! ONNX compares strings from opset 19 on. Before, tf2onnx casts both sides to int32, which loads and
//! then fails with every run. Here both sides get the numbers of their distinct strings.
//!
//! A comparison is one of strings where both sides are strings, or were cast from strings to int32: what
//! is cast is followed through scopes, because one cast may serve several comparisons, also in nested
//! graphs. A cast that something else reads stays for that.
//!
//! Constant strings that are numbers, tf2onnx casts itself. So the other side of a cast may be an int32
//! constant, which stands for its decimal text. A model that parses numbers of strings to compare them has
//! the same nodes, and gets the same answers for decimal texts without leading zeros.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::border::int_attribute;
use super::constant::{constant_node, to_tensor};
use super::known::{Elem, Facts, INT32, STRING};
use super::visit::{Place, Replaced};
use super::{OnnxModel, is_op, node, walk};
use crate::error::Result;
use crate::proto::onnx::{GraphProto, NodeProto, tensor_proto::DataType as OnnxType};
use crate::tensor::Tensor;

/// The opset from which on `Unique`, with which strings are numbered, exists.
const UNIQUE_SINCE: i64 = 11;
/// The opset from which on `Reshape` can keep a size of 0.
const ALLOW_ZERO_SINCE: i64 = 14;
/// The opset from which on `Equal` takes strings.
const STRING_EQUAL_SINCE: i64 = 19;

/// What tf2onnx writes for an empty string, as for the text itself.
const EMPTY: i64 = -1;
/// Longer constants are not looked at.
const MAX_NUMBERS: usize = 1 << 16;

impl OnnxModel {
    /// Mends comparisons of strings everywhere in the model; see the module. Returns whether there were
    /// any.
    ///
    /// # Errors
    ///
    /// None of its own.
    pub(super) fn rewrite_string_equal(&mut self) -> Result<bool> {
        if !self.has_operator(&|op_type| op_type == "Equal") {
            return Ok(false);
        }
        let mut is_changed = false;
        let constants = self.int32_constants();
        self.replace_everywhere(&HashSet::new(), &mut |equal, place| {
            let replaced = compared(equal, &constants, place)?;
            is_changed |= replaced.is_some();
            Ok(replaced)
        })?;
        if is_changed {
            drop_unread_casts(self.graph_mut());
            for function in &mut self.proto.functions {
                drop_unread_casts_of(&mut function.node, &function.output);
            }
        }
        Ok(is_changed)
    }

    /// The names that nested graphs and functions define themselves.
    fn names_inside(&self) -> HashSet<&str> {
        let mut names = HashSet::new();
        walk::for_each_node(&self.graph().node, &mut |node| {
            for graph in walk::subgraphs(node) {
                names.extend(
                    walk::names(graph)
                        .into_iter()
                        .filter(|it| walk::defines(graph, it)),
                );
            }
        });
        for function in &self.proto.functions {
            names.extend(function.input.iter().map(String::as_str));
            walk::collect_node_names(&function.node, &mut names);
        }
        names
    }

    /// The int32 constants of the main graph.
    fn int32_constants(&self) -> HashMap<String, Tensor> {
        let constants = self.graph().initializer.iter();
        let constants = constants.filter(|it| {
            let mut sizes = it.dims.iter();
            let count = sizes.try_fold(1_usize, |count, &size| {
                count.checked_mul(usize::try_from(size).ok()?)
            });
            it.data_type() == INT32
                && count.is_some_and(|count| count <= MAX_NUMBERS)
                && !self.is_default(it.name())
        });
        let hidden = self.names_inside();
        constants
            .filter(|it| !hidden.contains(it.name()))
            .filter_map(|it| Some((it.name().to_owned(), to_tensor(it)?)))
            .collect()
    }
}

/// What a comparison is replaced by if it is one of strings.
fn compared(
    equal: &NodeProto,
    constants: &HashMap<String, Tensor>,
    place: &mut Place<'_>,
) -> Replaced {
    if !is_op(equal, "Equal") || place.is_call || place.opset < UNIQUE_SINCE {
        return Ok(None);
    }
    let ([a, b], [output]) = (equal.input.as_slice(), equal.output.as_slice()) else {
        return Ok(None);
    };
    let [a, b] = [a, b].map(|name| Side::of(name, constants, place));
    let mut comparison = Comparison {
        place,
        output,
        nodes: Vec::new(),
    };
    let is_replaced = match (&a, &b) {
        (Side::Strings(a), Side::Strings(b)) if comparison.is_old() => {
            comparison.finish(a, b, output)
        }
        (Side::Strings(a), Side::Unknown(b)) | (Side::Unknown(a), Side::Strings(b))
            if comparison.is_old() =>
        {
            comparison.finish(a, b, output)
        }
        (Side::Cast(a), Side::Cast(b))
        | (Side::Cast(a), Side::CastUnknown(b))
        | (Side::CastUnknown(a), Side::Cast(b)) => comparison.finish(a, b, output),
        (Side::Cast(strings), Side::Numbers(numbers))
        | (Side::Numbers(numbers), Side::Cast(strings)) => {
            comparison.with_numbers(strings, numbers)
        }
        _ => return Ok(None),
    };
    Ok(is_replaced.map(|()| comparison.nodes))
}

/// One side of a comparison.
enum Side {
    /// A tensor of strings.
    Strings(String),
    /// Strings that were cast to int32, by the name of the strings.
    Cast(String),
    /// What was cast to int32 and may be strings.
    CastUnknown(String),
    /// Constants of int32.
    Numbers(Tensor),
    /// A tensor of a type that is not known.
    Unknown(String),
    Other,
}

impl Side {
    fn of(name: &str, constants: &HashMap<String, Tensor>, place: &Place<'_>) -> Self {
        let facts = place.known.facts(name);
        if let Some(source) = place.known.cast_from(name) {
            return match place.known.facts(source).elem {
                Elem::Is(STRING) => Self::Cast(source.to_owned()),
                _ => Self::CastUnknown(source.to_owned()),
            };
        }
        match facts.elem {
            Elem::Is(STRING) => Self::Strings(name.to_owned()),
            Elem::Is(INT32) => match numbers(name, facts, constants) {
                Some(numbers) => Self::Numbers(numbers),
                None => Self::Other,
            },
            Elem::Unknown => Self::Unknown(name.to_owned()),
            _ => Self::Other,
        }
    }
}

/// The int32 constants in a tensor of this name.
fn numbers(name: &str, facts: Facts, constants: &HashMap<String, Tensor>) -> Option<Tensor> {
    if let Some(number) = facts.single {
        let shape = vec![1; facts.rank?];
        return Tensor::from_vec(&shape, vec![i32::try_from(number).ok()?]);
    }
    // Another tensor of the name, in a nested graph, would be no constant.
    let constant = constants.get(name).filter(|_| facts.is_constant());
    constant.cloned()
}

struct Comparison<'a, 'b> {
    place: &'a mut Place<'b>,
    /// The tensor that holds the result.
    output: &'a str,
    nodes: Vec<NodeProto>,
}

impl Comparison<'_, '_> {
    fn is_old(&self) -> bool {
        self.place.opset < STRING_EQUAL_SINCE
    }

    fn name(&mut self, part: &str) -> String {
        let wish = format!("{}/strings/{part}", self.output);
        self.place.names.take(&wish)
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

    /// `output = (strings == numbers)`, by their texts.
    fn with_numbers(&mut self, strings: &str, numbers: &Tensor) -> Option<()> {
        let values = numbers.as_slice::<i32>()?;
        let texts = values.iter().map(|number| number.to_string().into());
        let texts = Tensor::from_strings(numbers.shape(), texts.collect());
        let texts = self.constant(texts, "texts")?;
        if values.iter().all(|number| i64::from(*number) != EMPTY) {
            return self.finish(strings, &texts, self.output);
        }
        let or_empty = values.iter().map(|number| match i64::from(*number) {
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

    /// `output = (a == b)`: numbers all strings of both sides, and compares the numbers.
    fn finish(&mut self, a: &str, b: &str, output: &str) -> Option<()> {
        if !self.is_old() {
            self.nodes.push(node("Equal", &[a, b], output));
            return Some(());
        }
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
            if self.place.opset >= ALLOW_ZERO_SINCE {
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

/// Drops casts to integers, and what passes them on, whose numbers are not read any more: a backend may run them, and fail.
fn drop_unread_casts(graph: &mut GraphProto) {
    let outputs: Vec<String> = graph.output.iter().map(|it| it.name().to_owned()).collect();
    drop_unread_casts_of(&mut graph.node, &outputs);
}

fn drop_unread_casts_of(nodes: &mut Vec<NodeProto>, outputs: &[String]) {
    for graph in nodes.iter_mut().flat_map(walk::subgraphs_mut) {
        drop_unread_casts(graph);
    }
    // A cast may be read by one that is not read itself.
    loop {
        let mut read: HashSet<&str> = outputs.iter().map(String::as_str).collect();
        for node in nodes.iter() {
            walk::for_each_name_read(node, &mut |name| {
                read.insert(name);
            });
        }
        let is_unread = |node: &NodeProto| {
            is_cast_or_copy(node) && !node.output.iter().any(|it| read.contains(it.as_str()))
        };
        let unread: Vec<bool> = nodes.iter().map(is_unread).collect();
        if !unread.contains(&true) {
            return;
        }
        let mut unread = unread.into_iter();
        nodes.retain(|_| !unread.next().unwrap_or_default());
    }
}

fn is_cast_or_copy(node: &NodeProto) -> bool {
    let integers = [OnnxType::Int32, OnnxType::Int64].map(|it| it as i64);
    let to = walk::attribute(node, "to").map(|to| to.i());
    is_op(node, "Identity") || (is_op(node, "Cast") && to.is_some_and(|to| integers.contains(&to)))
}
