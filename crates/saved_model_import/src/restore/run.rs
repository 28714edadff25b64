//! Follows the ops that set variables before the first request, without running them: which entry of the
//! checkpoint, or which constant, each assignment writes.
//!
//! Not here: which ops those are (`restore`).

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use base::tensor::Tensor as Elements;
use proto::tensorflow::{NodeDef, attr_value};

use crate::constants::Constants;
use crate::graph::resource_name;
use crate::graph::{Body, Graph, TensorRef, attribute, function_names};
use crate::outputs;

/// How many nodes are followed: a function counts as often as it is called.
const MAX_NODES: usize = 250_000;
/// How deep calls can nest.
const MAX_DEPTH: usize = 100;

/// Where a variable's value comes from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// An entry of the checkpoint, and the part of it as `RestoreV2` names it.
    Entry { key: Rc<str>, part: Rc<str> },
    /// A constant of the graph.
    Constant(Elements),
    /// Another operator computes it.
    Computed(Rc<str>),
}

/// The value of an output, as far as it matters for assignments.
#[derive(Clone)]
enum Symbol {
    /// The path of the checkpoint.
    Path,
    Variable(Rc<str>),
    Value(Source),
}

/// The ops that have been followed.
pub(super) struct Run<'a, 'g> {
    graph: &'g Graph<'a>,
    constants: &'g Constants,
    sources: HashMap<Rc<str>, Source>,
    nodes: usize,
    calls: Vec<&'a str>,
}

type Symbols<'a> = HashMap<&'a str, Vec<Symbol>>;

impl<'a, 'g> Run<'a, 'g> {
    pub(super) fn new(graph: &'g Graph<'a>, constants: &'g Constants) -> Self {
        Self {
            graph,
            constants,
            sources: HashMap::new(),
            nodes: 0,
            calls: Vec::new(),
        }
    }

    /// Follows an op of the main graph. `path` is the tensor that TensorFlow feeds with the checkpoint's path.
    pub(super) fn main(&mut self, op: &str, path: Option<TensorRef<'_>>) {
        let graph = self.graph;
        let mut symbols = Symbols::new();
        if let Some((name, _)) = path.and_then(|it| graph.main.nodes.get_key_value(it.node)) {
            symbols.insert(name, vec![Symbol::Path]);
        }
        if let Some((name, _)) = graph.main.nodes.get_key_value(op) {
            self.body(&graph.main, &mut symbols, [*name].into_iter());
        }
    }

    /// The source of each variable that was assigned.
    pub(super) fn finish(self) -> HashMap<Rc<str>, Source> {
        self.sources
    }

    /// Follows the roots and all that they need or wait for.
    fn body(
        &mut self,
        body: &Body<'a>,
        symbols: &mut Symbols<'a>,
        roots: impl Iterator<Item = &'a str>,
    ) {
        let mut seen = HashSet::new();
        for root in roots {
            let mut stack: Vec<(&'a NodeDef, usize)> = Vec::new();
            let mut enter = |name: &'a str, symbols: &Symbols<'a>, stack: &mut Vec<_>| {
                if !symbols.contains_key(name)
                    && let Some(node) = body.nodes.get(name)
                    && seen.insert(name)
                {
                    stack.push((*node, 0));
                }
            };
            enter(root, symbols, &mut stack);
            while let Some((node, next)) = stack.last_mut() {
                let node: &'a NodeDef = node;
                match node.input.get(*next) {
                    Some(input) => {
                        *next += 1;
                        let name = match input.strip_prefix('^') {
                            Some(name) => Some(name),
                            None => TensorRef::parse(input).map(|it| it.node),
                        };
                        if let Some(name) = name {
                            enter(name, symbols, &mut stack);
                        }
                    }
                    None => {
                        stack.pop();
                        let outputs = self.node(node, body, symbols);
                        symbols.insert(&node.name, outputs);
                    }
                }
            }
        }
    }

    fn node(&mut self, node: &'a NodeDef, body: &Body<'a>, symbols: &Symbols<'a>) -> Vec<Symbol> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Vec::new();
        }
        let references = node.input.iter().filter_map(|it| TensorRef::parse(it));
        let inputs: Vec<_> = references.map(|it| lookup(body, symbols, it)).collect();
        let input = |index: usize| inputs.get(index).cloned().flatten();
        match node.op.as_str() {
            "Const" => {
                let elements = self.constants.get(node);
                let source = elements.map_or_else(|_| computed(node), Source::Constant);
                vec![Symbol::Value(source)]
            }
            "CheckNumerics"
            | "EnsureShape"
            | "Identity"
            | "PlaceholderWithDefault"
            | "Snapshot"
            | "StopGradient" => input(0).into_iter().collect(),
            "ReadVariableOp" => match input(0) {
                Some(variable) => vec![Symbol::Value(self.source(node, Some(variable)))],
                None => Vec::new(),
            },
            "VarHandleOp" | "VariableV2" | "Variable" => {
                vec![Symbol::Variable(resource_name(node))]
            }
            "RestoreV2" => restored(&inputs),
            "Assign" | "AssignVariableOp" => {
                if let Some(Symbol::Variable(name)) = input(0) {
                    let source = self.source(node, input(1));
                    self.sources.insert(name, source);
                }
                input(0).into_iter().collect()
            }
            "PartitionedCall" | "StatefulPartitionedCall" => match attribute(node, "f") {
                Some(attr_value::Value::Func(function)) => self.call(node, &function.name, inputs),
                _ => Vec::new(),
            },
            op if self.graph.functions.contains_key(op) => self.call(node, op, inputs),
            _ => self.other(node, &inputs),
        }
    }

    /// An operator that is not followed. It can set the variables that it gets, itself or by a function.
    fn other(&mut self, node: &NodeDef, inputs: &[Option<Symbol>]) -> Vec<Symbol> {
        let calls = function_names(node).into_iter();
        let calls = calls
            .filter(|it| self.graph.functions.contains_key(it))
            .count();
        if calls > 0 || crate::effects::is_write(node) {
            for input in inputs.iter().flatten() {
                if let Symbol::Variable(name) = input {
                    self.sources.insert(Rc::clone(name), computed(node));
                }
            }
        }
        // An operator with more outputs only leads to values that are not known.
        vec![Symbol::Value(computed(node))]
    }

    /// The source of an assigned value.
    fn source(&self, node: &NodeDef, value: Option<Symbol>) -> Source {
        match value {
            Some(Symbol::Value(source)) => source,
            Some(Symbol::Variable(name)) => {
                let source = self.sources.get(&name).cloned();
                source.unwrap_or_else(|| computed(node))
            }
            Some(Symbol::Path) | None => computed(node),
        }
    }

    fn call(&mut self, node: &NodeDef, name: &str, arguments: Vec<Option<Symbol>>) -> Vec<Symbol> {
        let graph = self.graph;
        let found = graph.functions.get_key_value(name);
        let Some((name, function)) =
            found.filter(|(name, _)| self.calls.len() < MAX_DEPTH && !self.calls.contains(name))
        else {
            return Vec::new();
        };
        let mut symbols = Symbols::new();
        for (input, argument) in function.inputs().iter().zip(arguments) {
            symbols.insert(&input.name, argument.into_iter().collect());
        }
        self.calls.push(name);
        // All nodes with effects are run, also those that no result needs.
        let roots = function
            .definition
            .node_def
            .iter()
            .map(|it| it.name.as_str());
        self.body(&function.body, &mut symbols, roots);
        self.calls.pop();
        let results = function
            .results()
            .into_iter()
            .map(|result| lookup(&function.body, &symbols, result?));
        results
            .map(|it| it.unwrap_or_else(|| Symbol::Value(computed(node))))
            .collect()
    }
}

fn computed(node: &NodeDef) -> Source {
    Source::Computed(Rc::from(node.op.as_str()))
}

fn lookup(body: &Body<'_>, symbols: &Symbols<'_>, reference: TensorRef<'_>) -> Option<Symbol> {
    let position = match body.nodes.get(reference.node) {
        Some(node) => outputs::position(node, reference.output, reference.index)?,
        None => reference.index,
    };
    symbols.get(reference.node)?.get(position).cloned()
}

/// The outputs of `RestoreV2`: one for each name.
fn restored(inputs: &[Option<Symbol>]) -> Vec<Symbol> {
    let strings = |index: usize| match inputs.get(index)?.as_ref()? {
        Symbol::Value(Source::Constant(elements)) => elements.strings(),
        _ => None,
    };
    let (Some(Some(Symbol::Path)), Some(names), Some(parts)) =
        (inputs.first(), strings(1), strings(2))
    else {
        return Vec::new();
    };
    let text = |bytes: &[u8]| Rc::from(String::from_utf8_lossy(bytes).as_ref());
    let entries = names.iter().zip(parts).map(|(name, part)| {
        Symbol::Value(Source::Entry {
            key: text(name),
            part: text(part),
        })
    });
    entries.collect()
}

#[cfg(test)]
mod tests;
