//! Follows tensors that were cast from strings, so that the strings themselves can be compared.
//!
//! Every tensor of numbers cast from strings gets a counterpart that holds the strings: nodes that move the
//! elements of one also move those of the other, and nested graphs take and return both. Unread nodes are
//! dropped later (`unread`). Constants are tracked by scope: two graphs can use one name for different ones.
//!
//! Not here: the nodes of a comparison (`comparison`), the element types (`known`).

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::comparison::{Comparison, EMPTY};
use super::{is_cast_to, is_integer_cast, moved};
use crate::constant::{constant_node, to_tensor};
use crate::interface::tensor_value;
use crate::known::{Elem, Facts, Functions, INT32, STRING, Scopes};
use crate::visit::Names;
use crate::{OnnxModel, is_onnx_domain, is_op, node, traverse};
use base::tensor::Tensor;
use proto::onnx::{
    GraphProto, NodeProto, TensorProto, ValueInfoProto, tensor_proto::DataType as OnnxType,
};

/// The opsets in which strings must be numbered to be compared: with `Unique`, which exists from 11 on. From
/// 19 on `Equal` takes strings, and a cast of them is intended by the model.
const NUMBERED: std::ops::Range<i64> = 11..19;
/// Longer constants are skipped.
const MAX_NUMBERS: usize = 1 << 16;
/// How many times in total loop bodies are visited again because they do not pass strings on.
const MAX_RETRIES: usize = 64;

impl OnnxModel {
    /// Changes comparisons to compare strings. Returns the names of the added strings, or `None` if it
    /// changed nothing.
    pub(super) fn follow_strings(&mut self) -> Option<HashSet<String>> {
        let original = self.proto.functions.clone();
        let mut visit = Visit {
            scopes: Scopes::of_model(self.quantizes(), self.has_defaults()),
            functions: Functions::new(&original),
            opset: self.opset(),
            names: self.names(),
            sources: Vec::new(),
            added: HashSet::new(),
            retries: MAX_RETRIES,
            is_changed: false,
        };
        let inputs = self.graph().input.iter().map(|it| it.name());
        let defaults = inputs.filter(|name| self.is_default(name));
        let defaults: Vec<String> = defaults.map(str::to_owned).collect();
        let graph = self.graph_mut();
        visit.scopes.enter_main(graph, |_| false);
        visit.enter(graph);
        for name in &defaults {
            visit.insert(name, None);
        }
        visit.nodes(&mut graph.node);
        visit.leave();
        for function in &mut self.proto.functions {
            let Some(inputs) = visit.functions.called_with(function) else {
                continue;
            };
            let inputs: Vec<Facts> = inputs.to_vec();
            visit.scopes.enter_function(function, &inputs);
            visit.sources.push(HashMap::new());
            let onnx = function.opset_import.iter();
            let onnx = onnx.filter(|it| is_onnx_domain(it.domain()));
            visit.opset = onnx.map(|it| it.version()).max().unwrap_or(1);
            visit.nodes(&mut function.node);
            visit.leave();
        }
        visit.is_changed.then_some(visit.added)
    }
}

/// The values that the numbers in a tensor stand for.
#[derive(Clone)]
enum Source {
    /// The strings in a tensor of this name, certain to be strings if `is_sure`.
    Strings { name: String, is_sure: bool },
    /// Constants, as int32.
    Numbers(Rc<Tensor>),
}

struct Visit<'a> {
    scopes: Scopes,
    functions: Functions<'a>,
    opset: i64,
    names: Names,
    /// The known sources of the names in each scope, the innermost last; `None` hides one further out.
    sources: Vec<HashMap<String, Option<Source>>>,
    added: HashSet<String>,
    retries: usize,
    is_changed: bool,
}

impl Visit<'_> {
    fn enter(&mut self, graph: &GraphProto) {
        let inputs = graph.input.iter().map(|it| (it.name().to_owned(), None));
        let mut scope: HashMap<String, Option<Source>> = inputs.collect();
        for tensor in &graph.initializer {
            scope.insert(tensor.name().to_owned(), numbers_of(tensor));
        }
        for values in graph.sparse_initializer.iter().flat_map(|it| &it.values) {
            scope.insert(values.name().to_owned(), None);
        }
        self.sources.push(scope);
    }

    fn leave(&mut self) {
        self.scopes.leave();
        self.sources.pop();
    }

    fn source(&self, name: &str) -> Option<Source> {
        let mut scopes = self.sources.iter().rev();
        scopes.find_map(|scope| scope.get(name))?.clone()
    }

    fn insert(&mut self, name: &str, source: Option<Source>) {
        if let Some(scope) = self.sources.last_mut() {
            scope.insert(name.to_owned(), source);
        }
    }

    /// A new name for the strings of `name`.
    fn strings_name(&mut self, name: &str) -> String {
        let name = self.names.take(&format!("{name}/strings"));
        self.added.insert(name.clone());
        name
    }

    fn nodes(&mut self, nodes: &mut Vec<NodeProto>) {
        for mut node in std::mem::take(nodes) {
            let is_call = self.functions.has(&node);
            let original = node.clone();
            let made = match node.op_type() {
                _ if is_call || !is_onnx_domain(node.domain()) => self.visit_nested(&mut node, &[]),
                "If" => self.choice(&mut node),
                "Loop" | "Scan" => self.rounds(&mut node, nodes),
                _ => self.visit_nested(&mut node, &[]),
            };
            let bodies: Vec<Vec<Facts>> = made.facts;
            self.scopes.learn(&original, &bodies, &mut self.functions);
            for output in &node.output {
                self.insert(output, None);
            }
            for (output, source) in made.outputs {
                self.insert(&output, Some(source));
            }
            let mut added = Vec::new();
            if !is_call {
                if let Some(comparison) = self.compared(&node) {
                    self.is_changed = true;
                    nodes.extend(comparison);
                    continue;
                }
                self.follow(&node, &mut added);
            }
            nodes.push(node);
            nodes.extend(added);
        }
    }

    /// Records the sources of a node's outputs, and adds nodes for the strings.
    fn follow(&mut self, node: &NodeProto, added: &mut Vec<NodeProto>) {
        let Some(output) = node.output.first() else {
            return;
        };
        if is_op(node, "Constant") {
            self.insert(output, numbers_of_constant(node));
            return;
        }
        if is_integer_cast(node) || is_op(node, "Identity") {
            let Some(input) = node.input.first() else {
                return;
            };
            let elem = self.scopes.facts(input).elem;
            if is_cast_to(node, INT32) && matches!(elem, Elem::Unknown | Elem::Is(STRING)) {
                // A nested graph might hide the strings' own name, so they get a new one.
                let name = self.strings_name(output);
                added.push(crate::node("Identity", &[input], &name));
                let is_sure = elem == Elem::Is(STRING);
                self.insert(output, Some(Source::Strings { name, is_sure }));
            } else {
                let source = self.source(input);
                self.insert(output, source);
            }
            return;
        }
        self.move_strings(node, added);
    }

    /// Moves strings in the same way as their numbers.
    fn move_strings(&mut self, node: &NodeProto, added: &mut Vec<NodeProto>) {
        let moved = moved(node);
        let sources = moved.iter().map(|&index| node.input.get(index));
        let sources: Option<Vec<Source>> = sources.map(|it| self.source(it?)).collect();
        let Some(sources) = sources.filter(|it| !it.is_empty()) else {
            return;
        };
        let mut copy = node.clone();
        copy.name = None;
        let mut are_sure = false;
        for (&index, source) in moved.iter().zip(sources) {
            let Some((name, is_sure)) = self.as_strings(source, added) else {
                return;
            };
            are_sure |= is_sure;
            copy.input[index] = name;
        }
        for output in &mut copy.output {
            if output.is_empty() {
                continue;
            }
            let name = self.strings_name(output);
            let source = Source::Strings {
                name: name.clone(),
                is_sure: are_sure,
            };
            self.insert(output, Some(source));
            *output = name;
        }
        added.push(copy);
    }

    /// The name of the strings, and whether they are certain to come from the model. Numbers become their
    /// texts, unless they include the number that tf2onnx writes for two different texts.
    fn as_strings(&mut self, source: Source, added: &mut Vec<NodeProto>) -> Option<(String, bool)> {
        match source {
            Source::Strings { name, is_sure } => Some((name, is_sure)),
            Source::Numbers(numbers) => {
                let values = numbers
                    .as_slice::<i32>()
                    .filter(|it| !it.contains(&EMPTY))?;
                let texts = values.iter().map(|number| number.to_string().into());
                let texts = Tensor::from_strings(numbers.shape(), texts.collect())?;
                let name = self.strings_name("texts");
                added.push(constant_node(&name, &texts)?);
                Some((name, false))
            }
        }
    }

    /// The nodes that replace a comparison if it is one of strings.
    fn compared(&mut self, equal: &NodeProto) -> Option<Vec<NodeProto>> {
        if !is_op(equal, "Equal") || !NUMBERED.contains(&self.opset) {
            return None;
        }
        let ([a, b], [output]) = (equal.input.as_slice(), equal.output.as_slice()) else {
            return None;
        };
        let sources = [a, b].map(|name| self.source(name));
        let elems = [a, b].map(|name| self.scopes.facts(name).elem);
        let mut comparison = Comparison {
            opset: self.opset,
            names: &mut self.names,
            output,
            nodes: Vec::new(),
        };
        match &sources {
            [
                Some(Source::Strings {
                    name: a,
                    is_sure: one,
                }),
                Some(Source::Strings {
                    name: b,
                    is_sure: other,
                }),
            ] if *one || *other => comparison.finish(a, b, output),
            [
                Some(Source::Strings {
                    name,
                    is_sure: true,
                }),
                Some(Source::Numbers(numbers)),
            ]
            | [
                Some(Source::Numbers(numbers)),
                Some(Source::Strings {
                    name,
                    is_sure: true,
                }),
            ] => comparison.with_numbers(name, numbers),
            [None, None] => match elems {
                [Elem::Is(STRING), Elem::Is(STRING) | Elem::Unknown]
                | [Elem::Unknown, Elem::Is(STRING)] => comparison.finish(a, b, output),
                _ => None,
            },
            _ => None,
        }?;
        Some(comparison.nodes)
    }

    /// Visits the graphs in a node. `given` are the sources of the inputs of each.
    fn visit_nested(&mut self, node: &mut NodeProto, given: &[(usize, Source)]) -> Made {
        let mut made = Made::default();
        // The graphs are moved out, to be changed while the rest of the node is read.
        let mut graphs: Vec<GraphProto> =
            traverse::subgraphs_mut(node).map(std::mem::take).collect();
        for graph in &mut graphs {
            self.scopes.enter_nested(node, graph);
            self.enter(graph);
            for (index, source) in given {
                let name = graph.input[*index].name().to_owned();
                self.insert(&name, Some(source.clone()));
            }
            self.nodes(&mut graph.node);
            made.facts.push(self.scopes.results(graph));
            let outputs = graph.output.iter();
            let sources = outputs.map(|it| self.source(it.name())).collect();
            made.results.push(sources);
            self.leave();
        }
        for (place, graph) in traverse::subgraphs_mut(node).zip(graphs) {
            *place = graph;
        }
        made
    }

    /// The strings that a nested graph returns: a tensor that it makes itself.
    fn result(&mut self, graph: &mut GraphProto, source: Source) -> Option<(ValueInfoProto, bool)> {
        let (from, is_sure) = self.as_strings(source, &mut graph.node)?;
        let name = self.strings_name(&from);
        graph.node.push(node("Identity", &[&from], &name));
        Some((strings_value(&name, is_sure), is_sure))
    }

    /// An `If` returns strings if all its branches do.
    fn choice(&mut self, node: &mut NodeProto) -> Made {
        let mut made = self.visit_nested(node, &[]);
        for index in 0..node.output.len() {
            let sources = made
                .results
                .iter()
                .map(|it| it.get(index).cloned().flatten());
            let sources: Option<Vec<Source>> = sources.collect();
            let Some(sources) = sources.filter(|it| it.len() == 2) else {
                continue;
            };
            let is_text = |it: &Source| match it {
                Source::Strings { .. } => true,
                Source::Numbers(it) => it.as_slice::<i32>().is_some_and(|it| !it.contains(&EMPTY)),
            };
            if !sources.iter().all(is_text)
                || sources.iter().all(|it| matches!(it, Source::Numbers(_)))
            {
                continue;
            }
            let mut are_sure = false;
            let mut graphs: Vec<GraphProto> =
                traverse::subgraphs_mut(node).map(std::mem::take).collect();
            for (graph, source) in graphs.iter_mut().zip(sources) {
                if let Some((value, is_sure)) = self.result(graph, source) {
                    graph.output.push(value);
                    are_sure |= is_sure;
                }
            }
            for (place, graph) in traverse::subgraphs_mut(node).zip(graphs) {
                *place = graph;
            }
            let output = node.output[index].clone();
            let name = self.strings_name(&output);
            node.output.push(name.clone());
            let is_sure = are_sure;
            made.outputs
                .push((output, Source::Strings { name, is_sure }));
        }
        made
    }

    /// A loop also carries the strings of a carried tensor if every round returns strings for it. A scan also
    /// scans the strings of a scanned one.
    fn rounds(&mut self, node: &mut NodeProto, before: &mut Vec<NodeProto>) -> Made {
        let Some(plan) = Plan::of(node) else {
            return self.visit_nested(node, &[]);
        };
        let mut taken = Vec::new();
        for index in plan.carried.clone().chain(plan.scanned.clone()) {
            if let Some(source @ Source::Strings { .. }) = self.source(&node.input[index]) {
                let inner = self.strings_name(&node.input[index]);
                taken.push((index, inner, source));
            }
        }
        loop {
            if self.retries == 0 {
                taken.clear();
            }
            let given = taken.iter().map(|(index, inner, source)| {
                let is_sure = matches!(source, Source::Strings { is_sure: true, .. });
                let name = inner.clone();
                (*index, Source::Strings { name, is_sure })
            });
            let given: Vec<(usize, Source)> = given.collect();
            let mut tried = node.clone();
            let was_changed = self.is_changed;
            let made = self.visit_nested(&mut tried, &given);
            let results = made.results.first().cloned().unwrap_or_default();
            let result = |index: usize| results.get(plan.result_of(index)).cloned().flatten();
            let is_passed = |index: usize| {
                plan.scanned.contains(&index)
                    || matches!(result(index), Some(Source::Strings { .. }))
            };
            if taken.iter().all(|(index, ..)| is_passed(*index)) {
                *node = tried;
                return self.take_strings(node, &plan, taken, &results, made, before);
            }
            self.is_changed = was_changed;
            self.retries = self.retries.saturating_sub(1);
            taken.retain(|(index, ..)| is_passed(*index));
        }
    }

    /// Adds the inputs and outputs for strings to a loop or scan.
    fn take_strings(
        &mut self,
        node: &mut NodeProto,
        plan: &Plan,
        taken: Vec<(usize, String, Source)>,
        results: &[Option<Source>],
        mut made: Made,
        before: &mut Vec<NodeProto>,
    ) -> Made {
        let Some(mut graph) = traverse::subgraphs_mut(node).next().map(std::mem::take) else {
            return made;
        };
        // Carried strings are inserted after the other carried inputs; scanned ones go to the end.
        let (mut scanned, mut at) = (Vec::new(), plan.carried.end);
        let old_outputs = node.output.clone();
        for (index, inner, source) in taken {
            let Some((from, is_sure)) = self.as_strings(source, before) else {
                continue;
            };
            let value = strings_value(&inner, is_sure);
            if plan.scanned.contains(&index) {
                scanned.push(index);
                node.input.push(from);
                graph.input.push(value);
                continue;
            }
            let result = results.get(plan.result_of(index)).cloned().flatten();
            let Some((result, _)) = result.and_then(|it| self.result(&mut graph, it)) else {
                continue;
            };
            node.input.insert(at, from);
            graph.input.insert(at, value);
            graph.output.insert(plan.result_of(at), result);
            let outer = at - plan.carried.start;
            let name = self.strings_name(&inner);
            node.output.insert(outer, name.clone());
            let output = old_outputs[index - plan.carried.start].clone();
            made.outputs
                .push((output, Source::Strings { name, is_sure }));
            at += 1;
        }
        for attribute in &mut node.attribute {
            let count = scanned.len() as i64;
            match attribute.name() {
                "num_scan_inputs" => attribute.i = attribute.i.map(|it| it + count),
                "scan_input_axes" | "scan_input_directions" => {
                    let of =
                        |index: &usize| attribute.ints.get(index - plan.scanned.start).copied();
                    let more: Vec<i64> = scanned.iter().filter_map(of).collect();
                    attribute.ints.extend(more);
                }
                _ => {}
            }
        }
        if let Some(place) = traverse::subgraphs_mut(node).next() {
            *place = graph;
        }
        made
    }
}

/// The results of visiting the graphs in a node.
#[derive(Default)]
struct Made {
    /// The known facts about the results of each graph.
    facts: Vec<Vec<Facts>>,
    /// The sources of the results of each graph.
    results: Vec<Vec<Option<Source>>>,
    /// The sources of the node's outputs.
    outputs: Vec<(String, Source)>,
}

/// Which inputs of a loop or a scan are carried from round to round, and which are scanned.
pub(super) struct Plan {
    pub(super) carried: std::ops::Range<usize>,
    pub(super) scanned: std::ops::Range<usize>,
}

impl Plan {
    pub(super) fn of(node: &NodeProto) -> Option<Self> {
        let graph = traverse::subgraphs(node).next()?;
        let count = node.input.len();
        let (start, end) = match node.op_type() {
            "Loop" => (2, count),
            // In the first version, an input with lengths precedes the rest.
            _ => {
                let scanned =
                    usize::try_from(traverse::attribute(node, "num_scan_inputs")?.i()).ok()?;
                (0, count.checked_sub(scanned)?)
            }
        };
        let is_whole = start <= end
            && graph.input.len() == count
            && node.output.len() >= end - start
            && graph.output.len() >= end - start + start.min(1);
        is_whole.then_some(Self {
            carried: start..end,
            scanned: end..count,
        })
    }

    /// The output of the body that becomes the carried input at `index`. The first output of a loop's body is
    /// its condition.
    pub(super) fn result_of(&self, index: usize) -> usize {
        index - self.carried.start + self.carried.start.min(1)
    }
}

fn strings_value(name: &str, is_sure: bool) -> ValueInfoProto {
    if is_sure {
        return tensor_value(name, STRING);
    }
    ValueInfoProto {
        name: Some(name.to_owned()),
        ..ValueInfoProto::default()
    }
}

/// The integers of a constant.
fn numbers_of(tensor: &TensorProto) -> Option<Source> {
    let mut sizes = tensor.dims.iter();
    let count = sizes.try_fold(1_usize, |count, &size| {
        count.checked_mul(usize::try_from(size).ok()?)
    });
    let is_integer = [OnnxType::Int32 as i32, OnnxType::Int64 as i32].contains(&tensor.data_type());
    if !is_integer || count.is_none_or(|count| count > MAX_NUMBERS) {
        return None;
    }
    let tensor = to_tensor(tensor)?;
    if tensor.as_slice::<i32>().is_some() {
        return Some(Source::Numbers(Rc::new(tensor)));
    }
    narrow(tensor.shape(), tensor.as_slice::<i64>()?)
}

fn narrow(shape: &[usize], values: &[i64]) -> Option<Source> {
    let values = values.iter().map(|&it| i32::try_from(it).ok());
    let values: Vec<i32> = values.collect::<Option<_>>()?;
    Tensor::from_vec(shape, values).map(|it| Source::Numbers(Rc::new(it)))
}

fn numbers_of_constant(constant: &NodeProto) -> Option<Source> {
    let attribute = constant.attribute.first()?;
    if !attribute.ref_attr_name().is_empty() {
        return None;
    }
    match attribute.name() {
        "value" => numbers_of(attribute.t.as_ref()?),
        "value_int" => narrow(&[], &[attribute.i()]),
        "value_ints" if attribute.ints.len() <= MAX_NUMBERS => {
            narrow(&[attribute.ints.len()], &attribute.ints)
        }
        _ => None,
    }
}
