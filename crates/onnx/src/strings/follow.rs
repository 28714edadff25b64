//! Follows tensors that were cast from strings, so that the strings themselves can be compared.
//!
//! Every tensor of numbers cast from strings gets a counterpart that holds the strings: nodes that move the
//! elements of one also move those of the other, and nested graphs take and return both. Unread nodes are
//! dropped later (`unread`). Constants are tracked by scope: two graphs can use one name for different ones.
//!
//! Not here: nested graphs (`nested`), constants (`source`), the nodes of a comparison (`comparison`), the element types (`known`).

use std::collections::{HashMap, HashSet};

use super::comparison::{Comparison, EMPTY};
use super::source::{Source, numbers_of, numbers_of_constant};
use super::{is_cast_to, is_integer_cast, moved};
use crate::constant::constant_node;
use crate::known::{Elem, Facts, Functions, INT32, STRING, Scopes};
use crate::visit::Names;
use crate::{OnnxModel, is_onnx_domain, is_op};
use base::tensor::Tensor;
use proto::onnx::{GraphProto, NodeProto};

/// The opsets in which strings must be numbered to be compared: with `Unique`, which exists from 11 on. From
/// 19 on `Equal` takes strings, and a cast of them is intended by the model.
const NUMBERED: std::ops::Range<i64> = 11..19;
/// How many times in total loop bodies are visited again because they do not pass strings on.
const MAX_RETRIES: usize = 64;

impl OnnxModel {
    /// Changes comparisons to compare strings. Returns the names of the added strings, or `None` if it
    /// changed nothing.
    pub(super) fn follow_strings(&mut self) -> Option<HashSet<String>> {
        let original = self.proto.functions.clone();
        let mut visit = Visit {
            scopes: Scopes::of_model(self.quantizes(), self.has_defaults(), self.opset()),
            functions: Functions::new(&original),
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
            visit.nodes(&mut function.node);
            visit.leave();
        }
        visit.is_changed.then_some(visit.added)
    }
}

/// A visit of the nodes of a model, in order.
pub(super) struct Visit<'a> {
    pub(super) scopes: Scopes,
    pub(super) functions: Functions<'a>,
    pub(super) names: Names,
    /// The known sources of the names in each scope, the innermost last; `None` hides one further out.
    pub(super) sources: Vec<HashMap<String, Option<Source>>>,
    pub(super) added: HashSet<String>,
    pub(super) retries: usize,
    pub(super) is_changed: bool,
}

/// The results of visiting the graphs in a node.
#[derive(Default)]
pub(super) struct Made {
    /// The known facts about the results of each graph.
    pub(super) facts: Vec<Vec<Facts>>,
    /// The sources of the results of each graph.
    pub(super) results: Vec<Vec<Option<Source>>>,
    /// The sources of the node's outputs.
    pub(super) outputs: Vec<(String, Source)>,
}

impl Visit<'_> {
    pub(super) fn enter(&mut self, graph: &GraphProto) {
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

    pub(super) fn leave(&mut self) {
        self.scopes.leave();
        self.sources.pop();
    }

    pub(super) fn source(&self, name: &str) -> Option<Source> {
        let mut scopes = self.sources.iter().rev();
        scopes.find_map(|scope| scope.get(name))?.clone()
    }

    pub(super) fn insert(&mut self, name: &str, source: Option<Source>) {
        if let Some(scope) = self.sources.last_mut() {
            scope.insert(name.to_owned(), source);
        }
    }

    /// A new name for the strings of `name`.
    pub(super) fn strings_name(&mut self, name: &str) -> String {
        let name = self.names.take(&format!("{name}/strings"));
        self.added.insert(name.clone());
        name
    }

    pub(super) fn nodes(&mut self, nodes: &mut Vec<NodeProto>) {
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
    pub(super) fn as_strings(
        &mut self,
        source: Source,
        added: &mut Vec<NodeProto>,
    ) -> Option<(String, bool)> {
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
        if !is_op(equal, "Equal") || !NUMBERED.contains(&self.scopes.opset) {
            return None;
        }
        let ([a, b], [output]) = (equal.input.as_slice(), equal.output.as_slice()) else {
            return None;
        };
        let sources = [a, b].map(|name| self.source(name));
        let elems = [a, b].map(|name| self.scopes.facts(name).elem);
        let mut comparison = Comparison {
            opset: self.scopes.opset,
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
}
