//! The names that a place in a model sees.
//!
//! A nested graph sees the names around it, and two nested graphs may use one name for different tensors.
//! A function sees its own inputs only; what is known of them is what all its callers agree on.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::facts::{Elem, Facts, INT64};
use super::functions::Functions;
use super::rules::Rule;
use crate::traverse;
use proto::onnx::{
    FunctionProto, GraphProto, NodeProto, TypeProto, ValueInfoProto,
    tensor_proto::DataType as OnnxType, type_proto,
};

/// The names that a place in a model sees, the innermost scope last.
#[derive(Default)]
pub(crate) struct Scopes {
    scopes: Vec<Scope>,
    /// It quantizes and dequantizes. No request has an input without elements then.
    pub(crate) quantizes: bool,
    /// An input's value in the file is a default that a client may replace.
    has_defaults: bool,
    /// The outermost scope is the main graph.
    is_of_main: bool,
}

/// The names of one graph or function.
#[derive(Default)]
pub(crate) struct Scope {
    facts: HashMap<String, Facts>,
}

impl Scopes {
    /// Nothing is known yet but what operators the model has, and whether the values of inputs are
    /// defaults.
    pub(crate) fn of_model(quantizes: bool, has_defaults: bool) -> Self {
        Self {
            quantizes,
            has_defaults,
            ..Self::default()
        }
    }

    /// What is known of a tensor that is visible here.
    pub(crate) fn facts(&self, name: &str) -> Facts {
        let mut scopes = self.scopes.iter().rev();
        let found = scopes.find_map(|scope| scope.facts.get(name));
        found.copied().unwrap_or_default()
    }

    /// The facts of a node's input; nothing is known of one that is left out.
    pub(crate) fn input(&self, node: &NodeProto, index: usize) -> Facts {
        let name = node.input.get(index).filter(|name| !name.is_empty());
        name.map_or_else(Facts::default, |name| self.facts(name))
    }

    /// Enters the main graph. Of the inputs that `is_ranked` the declared rank is sure.
    pub(crate) fn enter_main(&mut self, graph: &GraphProto, is_ranked: impl Fn(&str) -> bool) {
        let filled = Facts {
            is_filled: self.quantizes,
            ..Facts::default()
        };
        let inputs = graph.input.iter().map(|it| (it.name().to_owned(), filled));
        self.scopes.push(Scope {
            facts: inputs.collect(),
        });
        self.is_of_main = true;
        self.declare(graph, is_ranked);
        if self.has_defaults {
            self.forget_defaults(graph);
        }
    }

    /// Of an input that has a value in the file, a client may send another of its type.
    fn forget_defaults(&mut self, graph: &GraphProto) {
        for input in &graph.input {
            let facts = self.facts(input.name());
            if facts.is_constant {
                let kept = Facts {
                    elem: facts.elem,
                    is_filled: self.quantizes,
                    ..Facts::default()
                };
                self.insert(input.name(), kept);
            }
        }
    }

    /// Enters a graph in an attribute of `node`, which is a node of the scope around it.
    pub(crate) fn enter_nested(&mut self, node: &NodeProto, graph: &GraphProto) {
        let given = self.nested_inputs(node, graph);
        self.scopes.push(Scope::default());
        for (input, facts) in graph.input.iter().zip(given) {
            self.insert(input.name(), facts);
        }
        self.declare(graph, |_| false);
    }

    /// Enters a function that is called with `inputs`.
    pub(crate) fn enter_function(&mut self, function: &FunctionProto, inputs: &[Facts]) {
        self.is_of_main = false;
        self.scopes.push(Scope::default());
        for (name, facts) in function.input.iter().zip(inputs) {
            self.insert(name, *facts);
        }
    }

    pub(crate) fn leave(&mut self) {
        self.scopes.pop();
    }

    /// Leaves all scopes, so that every name is unknown. `put_back` enters them again.
    pub(crate) fn take_all(&mut self) -> Vec<Scope> {
        // The scope that is entered next is not the main graph.
        std::mem::replace(&mut self.scopes, vec![Scope::default()])
    }

    /// Enters scopes that were left by `take_all`.
    pub(crate) fn put_back(&mut self, scopes: Vec<Scope>) {
        self.scopes = scopes;
    }

    /// What is known of the inputs of a nested graph from those of its node.
    fn nested_inputs(&self, node: &NodeProto, graph: &GraphProto) -> Vec<Facts> {
        let elem = |index| Facts {
            elem: self.input(node, index).elem,
            is_sequence: node.op_type() == "Loop" && self.input(node, index).is_sequence,
            ..Facts::default()
        };
        let inputs = 0..graph.input.len();
        match node.op_type() {
            "Loop" => inputs
                .map(|index| match index {
                    0 => Facts::of_type(INT64),
                    1 => Facts::of_type(OnnxType::Bool as i32),
                    _ => elem(index),
                })
                .collect(),
            // The first version had the lengths of sequences before the rest.
            "Scan" if graph.input.len() < node.input.len() => {
                inputs.map(|index| elem(index + 1)).collect()
            }
            "Scan" | "SequenceMap" => inputs.map(elem).collect(),
            _ => Vec::new(),
        }
    }

    fn insert(&mut self, name: &str, facts: Facts) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.facts.insert(name.to_owned(), facts);
        }
    }

    /// Whether a node joins images that have elements in the same runs.
    pub(crate) fn joins_channels(&self, node: &NodeProto) -> bool {
        let inputs = (0..node.input.len()).map(|index| self.input(node, index));
        let inputs: Vec<Facts> = inputs.collect();
        let rule = Rule {
            node,
            inputs: &inputs,
            bodies: &[],
        };
        rule.joins_channels()
    }

    /// What a name of the main graph has elements with, if not with another.
    fn own_emptied_with(&self, name: &str) -> Option<u64> {
        let is_main = self.is_of_main && self.scopes.len() == 1;
        is_main.then(|| {
            let mut hasher = DefaultHasher::new();
            name.hash(&mut hasher);
            hasher.finish()
        })
    }

    /// What is known of a name of the innermost scope.
    fn own(&self, name: &str) -> Option<Facts> {
        self.scopes.last()?.facts.get(name).copied()
    }

    /// Takes note of what a graph declares.
    fn declare(&mut self, graph: &GraphProto, is_ranked: impl Fn(&str) -> bool) {
        for input in &graph.input {
            let mut facts = self.own(input.name()).unwrap_or_default();
            if let Some(declared) = declared(input) {
                facts.elem = declared.elem;
                facts.is_sequence = declared.is_sequence;
            }
            if is_ranked(input.name()) {
                facts.rank = declared_rank(input);
            }
            self.insert(input.name(), facts);
        }
        for value in graph.output.iter().chain(&graph.value_info) {
            if let Some(declared) = declared(value)
                && self.own(value.name()).is_none()
            {
                self.insert(value.name(), declared);
            }
        }
        for tensor in &graph.initializer {
            self.insert(tensor.name(), Facts::of_tensor(tensor));
        }
        for values in graph
            .sparse_initializer
            .iter()
            .filter_map(|it| it.values.as_ref())
        {
            self.insert(values.name(), Facts::of_type(values.data_type()));
        }
    }

    /// Takes note of what follows for the outputs of nodes in order.
    pub(crate) fn learn_all(&mut self, nodes: &[NodeProto], functions: &mut Functions<'_>) {
        for node in nodes {
            // A function can use a graph that it is given in a place where its names are others.
            let around = functions.has(node).then(|| self.take_all());
            let bodies = traverse::subgraphs(node).map(|graph| self.body(node, graph, functions));
            let bodies: Vec<Vec<Facts>> = bodies.collect();
            if let Some(around) = around {
                self.put_back(around);
            }
            self.learn(node, &bodies, functions);
        }
    }

    /// What a nested graph returns.
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

    /// What is known of the outputs of the graph that is entered.
    pub(crate) fn results(&self, graph: &GraphProto) -> Vec<Facts> {
        let outputs = graph.output.iter();
        outputs.map(|output| self.facts(output.name())).collect()
    }

    /// Takes note of what follows for a node's outputs; `bodies` are what its nested graphs return.
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
                }
                .output(index),
            };
            if facts.elem == Elem::Unknown {
                // As declared, if it was.
                facts.elem = self.own(output).unwrap_or_default().elem;
            }
            facts.emptied_with = facts.emptied_with.or_else(|| self.own_emptied_with(output));
            self.insert(output, facts);
        }
    }
}

/// What a declaration says of the type.
fn declared(value: &ValueInfoProto) -> Option<Facts> {
    of_type(value.r#type.as_ref()?)
}

fn of_type(ty: &TypeProto) -> Option<Facts> {
    match ty.value.as_ref()? {
        type_proto::Value::TensorType(tensor) => Some(tensor.elem_type())
            .filter(|it| *it != 0)
            .map(Facts::of_type),
        type_proto::Value::SequenceType(sequence) => Some(Facts {
            is_sequence: true,
            ..of_type(sequence.elem_type.as_ref()?)?
        }),
        type_proto::Value::OptionalType(optional) => of_type(optional.elem_type.as_ref()?),
        _ => None,
    }
}

fn declared_rank(value: &ValueInfoProto) -> Option<usize> {
    match value.r#type.as_ref()?.value.as_ref()? {
        type_proto::Value::TensorType(tensor) => tensor.shape.as_ref().map(|it| it.dim.len()),
        _ => None,
    }
}
