//! The functions of a model: facts about their inputs that hold in all calls, and the results of each call.
//!
//! Nodes and calls are followed together: a function is followed when a node calls it.
//!
//! Not here: the rules for single operators (`rules`).

use std::collections::{HashMap, HashSet};

use super::facts::{Elem, Facts};
use super::rules::Rule;
use super::scopes::Scopes;
use crate::traverse;
use proto::onnx::{FunctionProto, GraphProto, NodeProto};

/// The maximum depth to which calls in functions are followed. Deeper calls have unknown results.
const MAX_CALL_DEPTH: usize = 32;

/// Identifies a function in the way that a call does: domain, name, overload.
pub(crate) type FunctionKey = (String, String, String);

/// The functions of a model, and the facts about the inputs that their callers give them.
#[derive(Default)]
pub(crate) struct Functions<'a> {
    by_key: HashMap<FunctionKey, &'a FunctionProto>,
    /// The facts about the inputs that hold in all calls seen so far.
    called_with: HashMap<FunctionKey, Vec<Facts>>,
    /// Results of calls.
    results: HashMap<(FunctionKey, Vec<Facts>), Vec<Facts>>,
    depth: usize,
}

impl<'a> Functions<'a> {
    pub(crate) fn new(functions: &'a [FunctionProto]) -> Self {
        let keyed = functions.iter().map(|it| (key_of(it), it));
        Self {
            by_key: keyed.collect(),
            ..Self::default()
        }
    }

    /// The facts about the inputs of a function that hold in all calls; `None` if it is not called.
    pub(crate) fn called_with(&self, function: &FunctionProto) -> Option<&[Facts]> {
        self.called_with.get(&key_of(function)).map(Vec::as_slice)
    }

    /// Whether a node calls a function of the model.
    pub(crate) fn has(&self, node: &NodeProto) -> bool {
        !self.by_key.is_empty() && self.by_key.contains_key(&call_key(node))
    }

    /// The facts about the results of a call; `None` if the node does not call a function of the model.
    pub(super) fn call(&mut self, node: &NodeProto, inputs: Vec<Facts>) -> Option<Vec<Facts>> {
        let key = call_key(node);
        let function = *self.by_key.get(&key)?;
        // Calls that differ only in the number or in the tensor they pass count as the same call.
        let inputs = inputs.into_iter();
        let alike = |it: Facts| Facts {
            single: None,
            emptied_with: None,
            ..it
        };
        let inputs: Vec<Facts> = inputs.map(alike).collect();
        let known = self.called_with.get(&key);
        let common = match known {
            Some(known) => {
                let pairs = known.iter().zip(&inputs);
                pairs.map(|(one, other)| one.common(*other)).collect()
            }
            None => inputs.clone(),
        };
        self.called_with.insert(key.clone(), common);
        let call = (key, inputs);
        if let Some(results) = self.results.get(&call) {
            return Some(results.clone());
        }
        if self.depth >= MAX_CALL_DEPTH {
            self.forget_callees(&call.0);
            return Some(Vec::new());
        }
        self.depth += 1;
        let mut scopes = Scopes::default();
        scopes.enter_function(function, &call.1);
        scopes.learn_all(&function.node, self);
        self.depth -= 1;
        let results = function.output.iter().map(|name| scopes.facts(name));
        let results: Vec<Facts> = match may_be_operator(&call.0.0) {
            true => vec![unknown(); function.output.len()],
            false => results.collect(),
        };
        self.results.insert(call, results.clone());
        Some(results)
    }

    /// Records that nothing is known about the calls that a function makes, directly or through others.
    fn forget_callees(&mut self, caller: &FunctionKey) {
        let mut callers = vec![caller.clone()];
        let mut seen = HashSet::new();
        while let Some(caller) = callers.pop() {
            let Some(function) = self.by_key.get(&caller) else {
                continue;
            };
            traverse::for_each_node(&function.node, &mut |node| {
                let callee = call_key(node);
                if let Some(function) = self.by_key.get(&callee)
                    && seen.insert(callee.clone())
                {
                    let unknown = vec![unknown(); function.input.len()];
                    self.called_with.insert(callee.clone(), unknown);
                    callers.push(callee);
                }
            });
        }
    }
}

impl Scopes {
    /// Records the facts that follow for the outputs of nodes, in order.
    pub(crate) fn learn_all(&mut self, nodes: &[NodeProto], functions: &mut Functions<'_>) {
        for node in nodes {
            // A function can use a graph that it is given at a place where its names mean other tensors.
            let around = functions.has(node).then(|| self.take_all());
            let bodies = traverse::subgraphs(node).map(|graph| self.body(node, graph, functions));
            let bodies: Vec<Vec<Facts>> = bodies.collect();
            if let Some(around) = around {
                self.put_back(around);
            }
            self.learn(node, &bodies, functions);
        }
    }

    /// The facts about the results of a nested graph.
    fn body(
        &mut self,
        node: &NodeProto,
        graph: &GraphProto,
        functions: &mut Functions<'_>,
    ) -> Vec<Facts> {
        self.enter_nested(node, graph);
        self.learn_all(&graph.node, functions);
        let results = self.results(graph);
        self.leave();
        results
    }

    /// Records the facts that follow for a node's outputs; `bodies` has those about the results of its nested
    /// graphs.
    pub(crate) fn learn(
        &mut self,
        node: &NodeProto,
        bodies: &[Vec<Facts>],
        functions: &mut Functions<'_>,
    ) {
        let inputs = (0..node.input.len()).map(|index| self.input(node, index));
        let inputs: Vec<Facts> = inputs.collect();
        let called = functions.call(node, inputs.clone());
        for (index, output) in node.output.iter().enumerate() {
            if output.is_empty() {
                continue;
            }
            let mut facts = match &called {
                Some(results) => results.get(index).copied().unwrap_or_default(),
                None => Rule {
                    node,
                    inputs: &inputs,
                    bodies,
                    opset: self.opset,
                }
                .output(index),
            };
            if facts.elem == Elem::Unknown {
                // The declared type, if there is one.
                facts.elem = self.own(output).unwrap_or_default().elem;
            }
            facts.emptied_with = facts.emptied_with.or_else(|| self.own_emptied_with(output));
            self.insert(output, facts);
        }
    }
}

/// The facts about an unknown tensor.
fn unknown() -> Facts {
    Facts {
        has_sizes: true,
        ..Facts::default()
    }
}

/// Whether backends have operators in this domain. If an operator and a function have one name, a backend
/// uses the operator, so the facts that follow from the function's body are not certain.
pub(crate) fn may_be_operator(domain: &str) -> bool {
    let own = ["ai.onnx", "com.microsoft", "com.ms"];
    domain.is_empty() || own.iter().any(|it| domain.starts_with(it))
}

/// The key of a function.
pub(crate) fn key_of(function: &FunctionProto) -> FunctionKey {
    let parts = [function.domain(), function.name(), function.overload()];
    let [domain, name, overload] = parts.map(str::to_owned);
    (domain, name, overload)
}

/// The key of the function that a node would call.
pub(crate) fn call_key(node: &NodeProto) -> FunctionKey {
    let parts = [node.domain(), node.op_type(), node.overload()];
    let [domain, name, overload] = parts.map(str::to_owned);
    (domain, name, overload)
}
