//! The names that are visible at a place in a model, with the facts about their tensors.
//!
//! A nested graph sees the names around it, and two nested graphs can use one name for different tensors.
//! A function sees its own inputs only; the facts about them are those that hold for all its callers.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::facts::{Facts, INT64};
use super::rules::Rule;
use crate::{is_onnx_domain, opset_of};
use proto::onnx::{
    FunctionProto, GraphProto, NodeProto, TypeProto, ValueInfoProto,
    tensor_proto::DataType as OnnxType, type_proto,
};

/// The names that are visible at a place in a model, the innermost scope last.
#[derive(Default)]
pub(crate) struct Scopes {
    scopes: Vec<Scope>,
    /// The model quantizes and dequantizes. Then no request has an input without elements.
    pub(crate) quantizes: bool,
    /// An input's value in the file is a default that a client can replace.
    has_defaults: bool,
    /// The outermost scope is the main graph.
    is_of_main: bool,
    /// The version of ONNX's own operators at this place.
    pub(crate) opset: i64,
}

/// The names of one graph or function.
#[derive(Default)]
pub(crate) struct Scope {
    facts: HashMap<String, Facts>,
}

impl Scopes {
    /// Starts without any names: only the model's operators and their version are known, and whether the values
    /// of inputs are defaults.
    pub(crate) fn of_model(quantizes: bool, has_defaults: bool, opset: i64) -> Self {
        Self {
            quantizes,
            has_defaults,
            opset,
            ..Self::default()
        }
    }

    /// The facts about a tensor that is visible here.
    pub(crate) fn facts(&self, name: &str) -> Facts {
        let mut scopes = self.scopes.iter().rev();
        let found = scopes.find_map(|scope| scope.facts.get(name));
        found.copied().unwrap_or_default()
    }

    /// The facts about a node's input; none if the input is left out.
    pub(crate) fn input(&self, node: &NodeProto, index: usize) -> Facts {
        let name = node.input.get(index).filter(|name| !name.is_empty());
        name.map_or_else(Facts::default, |name| self.facts(name))
    }

    /// Enters the main graph. The declared ranks of the inputs that satisfy `is_ranked` are certain.
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

    /// Keeps only the type of an input that has a value in the file: a client can send another value.
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
        self.leave_main(function);
        self.scopes.push(Scope::default());
        for (name, facts) in function.input.iter().zip(inputs) {
            self.insert(name, *facts);
        }
    }

    /// The scopes that are entered next belong to this function.
    pub(crate) fn leave_main(&mut self, function: &FunctionProto) {
        self.is_of_main = false;
        self.opset = opset_of(&function.opset_import);
    }

    /// Whether this place is in a function, or in a graph that is the default of a function's attribute.
    pub(crate) fn is_in_function(&self) -> bool {
        !self.is_of_main
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

    /// The facts about the inputs of a nested graph that follow from those of its node.
    fn nested_inputs(&self, node: &NodeProto, graph: &GraphProto) -> Vec<Facts> {
        let elem = |index| Facts {
            elem: self.input(node, index).elem,
            is_sequence: node.op_type() == "Loop" && self.input(node, index).is_sequence,
            ..Facts::default()
        };
        let single = |elem| Facts {
            is_filled: true,
            ..Facts::of_type(elem)
        };
        let inputs = 0..graph.input.len();
        match node.op_type() {
            _ if !is_onnx_domain(node.domain()) => Vec::new(),
            "Loop" => inputs
                .map(|index| match index {
                    0 => single(INT64),
                    // A condition without elements is refused, before the first round and after each (`guard`).
                    1 => single(OnnxType::Bool as i32),
                    _ => elem(index),
                })
                .collect(),
            // In the first version, an input with the lengths of sequences precedes the rest.
            "Scan" if graph.input.len() < node.input.len() => {
                inputs.map(|index| elem(index + 1)).collect()
            }
            "Scan" | "SequenceMap" => inputs.map(elem).collect(),
            _ => Vec::new(),
        }
    }

    pub(super) fn insert(&mut self, name: &str, facts: Facts) {
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
            opset: self.opset,
        };
        rule.joins_channels()
    }

    /// The number by which a tensor of the main graph is recognised, if it does not have elements together
    /// with another one.
    pub(super) fn own_emptied_with(&self, name: &str) -> Option<u64> {
        let is_main = self.is_of_main && self.scopes.len() == 1;
        is_main.then(|| {
            let mut hasher = DefaultHasher::new();
            name.hash(&mut hasher);
            hasher.finish()
        })
    }

    /// The facts about a name of the innermost scope.
    pub(super) fn own(&self, name: &str) -> Option<Facts> {
        self.scopes.last()?.facts.get(name).copied()
    }

    /// Records the facts that a graph declares.
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

    /// The facts about the outputs of the graph that was entered.
    pub(crate) fn results(&self, graph: &GraphProto) -> Vec<Facts> {
        let outputs = graph.output.iter();
        outputs.map(|output| self.facts(output.name())).collect()
    }
}

/// The facts about the type in a declaration.
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
