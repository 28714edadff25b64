//! Walks from the outputs of a signature through graph and functions, and translates each node once.
//!
//! Calls of functions are translated in place of the call, so the result has no functions.
//!
//! Not here: single operators (`ops`, `structure`), which signatures there are (`signature`).

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use base::error::ServingError;
use proto::tensorflow::NodeDef;

use crate::builder::Builder;
use crate::effects::{self, Effects};
use crate::fused;
use crate::graph::{Body, Graph, TensorRef};
use crate::list::Loops;
use crate::op::{Op, Translated};
use crate::order;
use crate::refusal::Refusal;
use crate::resources::Resources;
use crate::value::{Tensor, Value};
use crate::values::Values;

/// How many TensorFlow nodes are translated for a signature: a function counts as often as it is called, and
/// calls can double at each level.
const MAX_NODES: usize = 250_000;
/// How many refused nodes are noted; each is compared with the others.
const MAX_REFUSED: usize = 1000;
/// How many are translated for all signatures together.
const MAX_ALL_NODES: usize = 1_000_000;
/// How deep calls can nest.
const MAX_DEPTH: usize = 100;

/// A node that cannot be translated.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RefusedNode {
    pub(crate) op: String,
    pub(crate) node: String,
    /// In words that follow the operator's name; `None`: the operator is not supported.
    pub(crate) reason: Option<String>,
}

/// How an operator is translated.
#[derive(Clone, Copy)]
pub(crate) enum Rule {
    /// From its inputs and attributes alone.
    Pure(fn(&mut Builder, &Op<'_>) -> Translated),
    /// With variables, tables or functions.
    Whole(fn(&mut Translation<'_>, &Op<'_>) -> Translated),
}

/// Finds the rule for a node; `None` if its operator is not supported.
pub(crate) type RuleOf = fn(&Op<'_>) -> Result<Option<Rule>, Refusal>;

/// A signature that is being translated.
pub(crate) struct Translation<'a> {
    pub(crate) builder: Builder,
    pub(crate) graph: &'a Graph<'a>,
    pub(crate) loops: Loops,
    resources: &'a Resources<'a>,
    effects: &'a Effects,
    rule_of: RuleOf,
    refused: Vec<RefusedNode>,
    translated_nodes: usize,
    /// The names of the functions that are being translated, the innermost last.
    calls: Vec<&'a str>,
    /// The values that the signature wrote to variables so far.
    written: HashMap<Rc<str>, Tensor>,
    /// Variables that were read before they were written.
    read_first: HashSet<Rc<str>>,
    variables: HashMap<Rc<str>, Tensor>,
    /// The error of a file that has to be read.
    failed: Option<ServingError>,
    is_beyond_limit: bool,
    folded: HashSet<*const NodeDef>,
}

impl<'a> Translation<'a> {
    pub(crate) fn new(
        graph: &'a Graph<'a>,
        resources: &'a Resources<'a>,
        effects: &'a Effects,
        rule_of: RuleOf,
    ) -> Self {
        Self {
            builder: Builder::new().sharing(Rc::clone(&resources.transposed)),
            graph,
            loops: Loops::default(),
            resources,
            effects,
            rule_of,
            refused: Vec::new(),
            translated_nodes: 0,
            calls: Vec::new(),
            written: HashMap::new(),
            read_first: HashSet::new(),
            variables: HashMap::new(),
            failed: None,
            is_beyond_limit: false,
            folded: HashSet::new(),
        }
    }

    /// Translates the nodes that the outputs need, and those of `effects` that write. `values` are those that are
    /// known already.
    pub(crate) fn run(
        &mut self,
        body: &Body<'a>,
        mut values: Values<'a>,
        outputs: &[TensorRef<'a>],
        effects: &[&'a str],
    ) -> Vec<Value> {
        let results = outputs.iter().filter(|it| !values.is_fed(it));
        let results: Vec<_> = results.map(|it| it.node).collect();
        let waited = effects.iter().copied();
        let order = order::order(body, &values, self.effects, results.into_iter(), waited);
        // A node that is only looked at takes time, too.
        self.count(order.skipped);
        for node in order.nodes {
            let translated = self.node(node, body, &values);
            values.by_node.insert(&node.name, translated);
        }
        outputs.iter().map(|it| values.get(body, *it)).collect()
    }

    fn count(&mut self, nodes: usize) {
        self.translated_nodes += nodes;
        let all = &self.resources.translated_nodes;
        all.set(all.get() + nodes);
    }

    /// The refusal of nodes beyond the limit, of which only the first is reported.
    fn beyond_limit(&mut self) -> Refusal {
        if std::mem::replace(&mut self.is_beyond_limit, true) {
            return Refusal::of_input();
        }
        Refusal::new(format!(
            "is beyond the {MAX_NODES} nodes that a signature can have, or the {MAX_ALL_NODES} of all signatures"
        ))
    }

    fn is_too_large(&self) -> bool {
        self.translated_nodes > MAX_NODES || self.resources.translated_nodes.get() > MAX_ALL_NODES
    }

    fn node(&mut self, node: &'a NodeDef, body: &Body<'a>, values: &Values<'a>) -> Vec<Value> {
        self.count(1);
        let mut inputs = Vec::with_capacity(node.input.len());
        for input in &node.input {
            if let Some(reference) = TensorRef::parse(input) {
                inputs.push(values.get(body, reference));
            }
        }
        let op = Op {
            node,
            inputs: &inputs,
        };
        let label = node.name.clone();
        self.builder.set_label(&label);
        let translated = match self.is_too_large() {
            true => Err(self.beyond_limit()),
            false => self.apply(&op),
        };
        match translated {
            Ok(outputs) => outputs
                .into_iter()
                .enumerate()
                .map(|(index, value)| match value {
                    Value::Tensor(tensor) => {
                        Value::Tensor(tensor.with_shape(op.noted_shape(index)))
                    }
                    other => other,
                })
                .collect(),
            Err(refusal) => {
                if let Some(reason) = refusal.reason() {
                    let refused = RefusedNode {
                        op: node.op.clone(),
                        node: label,
                        reason: Some(reason.to_owned()),
                    };
                    // The condition of a loop is translated twice.
                    if self.refused.len() < MAX_REFUSED && !self.refused.contains(&refused) {
                        self.refused.push(refused);
                    }
                }
                Vec::new()
            }
        }
    }

    fn apply(&mut self, op: &Op<'_>) -> Translated {
        match (self.rule_of)(op)? {
            Some(Rule::Pure(translate)) => {
                let mut inputs = op.inputs.to_vec();
                for input in &mut inputs {
                    if let Value::Reference(name) = input {
                        *input = Value::Tensor(self.read(name)?);
                    }
                }
                let read = Op {
                    node: op.node,
                    inputs: &inputs,
                };
                let outputs = translate(&mut self.builder, &read)?;
                let outputs = fused::improved(&mut self.builder, &read, outputs)?;
                self.builder.note_origin(op.node, &inputs, &outputs);
                if is_folded(op, &outputs) {
                    self.folded.insert(std::ptr::from_ref(op.node));
                }
                Ok(outputs)
            }
            Some(Rule::Whole(translate)) => translate(self, op),
            None if self.graph.functions.contains_key(op.node.op.as_str()) => {
                self.call(&op.node.op, op.inputs)
            }
            None if effects::is_write(op.node) => Err(Refusal::new(
                "changes values that later requests read, and requests are answered independently here",
            )),
            None => Err(Refusal::new("is not supported")),
        }
    }

    /// Translates a call of a function in its place.
    pub(crate) fn call(&mut self, name: &str, arguments: &[Value]) -> Translated {
        let Some((name, function)) = self.graph.functions.get_key_value(name) else {
            return Err(no_function(name));
        };
        let results = function.results();
        let Some(results) = results.into_iter().collect::<Option<Vec<_>>>() else {
            return Err(Refusal::new(format!(
                "calls the function '{name}', which is damaged"
            )));
        };
        let waited = function.definition.control_ret.values();
        let effects: Vec<&str> = waited.map(String::as_str).collect();
        self.enter(name, arguments, &results, &effects)
    }

    /// Translates tensors within a function instead of its results.
    pub(crate) fn call_for(
        &mut self,
        name: &str,
        arguments: &[Value],
        outputs: &[TensorRef<'a>],
    ) -> Translated {
        let Some((name, _)) = self.graph.functions.get_key_value(name) else {
            return Err(no_function(name));
        };
        self.enter(name, arguments, outputs, &[])
    }

    fn enter(
        &mut self,
        name: &'a str,
        arguments: &[Value],
        outputs: &[TensorRef<'a>],
        effects: &[&'a str],
    ) -> Translated {
        let graph: &'a Graph<'a> = self.graph;
        let Some(function) = graph.functions.get(name) else {
            return Err(no_function(name));
        };
        if self.calls.contains(&name) {
            return Err(Refusal::new(format!(
                "calls the function '{name}' within itself"
            )));
        }
        if self.calls.len() >= MAX_DEPTH {
            return Err(Refusal::new(format!(
                "is called through more than {MAX_DEPTH} functions"
            )));
        }
        let inputs = function.inputs();
        if inputs.len() != arguments.len() {
            return Err(Refusal::new(format!(
                "calls the function '{name}', which has {} arguments, with {}",
                inputs.len(),
                arguments.len()
            )));
        }
        let mut values = Values::default();
        for (input, argument) in inputs.iter().zip(arguments) {
            values.by_node.insert(&input.name, vec![argument.clone()]);
        }
        self.calls.push(name);
        let outputs = self.run(&function.body, values, outputs, effects);
        self.calls.pop();
        Ok(outputs)
    }

    /// The value of a variable at this point of the signature.
    pub(crate) fn read(&mut self, name: &Rc<str>) -> Result<Tensor, Refusal> {
        if let Some(written) = self.written.get(name) {
            return Ok(written.clone());
        }
        self.read_first.insert(Rc::clone(name));
        if let Some(known) = self.variables.get(name) {
            return Ok(known.clone());
        }
        let variables = &self.resources.variables;
        let value = variables.value(name).map_err(|error| {
            let refusal = Refusal::new(format!("reads a variable: {error}"));
            self.failed.get_or_insert(error);
            refusal
        })?;
        let value = value.ok_or_else(|| {
            Refusal::new(match variables.computed_by(name) {
                Some(op) => format!(
                    "reads the variable '{name}', which the operator {op} sets when the model is loaded"
                ),
                None => format!(
                    "reads the variable '{name}', which no checkpoint and no initialiser sets"
                ),
            })
        })?;
        let tensor = Tensor::constant(value);
        if let Err(constant) = tensor.name() {
            let _ = constant.name.set(Rc::clone(name));
        }
        self.variables.insert(Rc::clone(name), tensor.clone());
        Ok(tensor)
    }

    /// Whether a variable has a value at this point of the signature.
    pub(crate) fn is_set(&mut self, name: &Rc<str>) -> bool {
        let variables = &self.resources.variables;
        self.written.contains_key(name)
            || variables.computed_by(name).is_some()
            || variables.is_set(name).unwrap_or_else(|error| {
                self.failed.get_or_insert(error);
                false
            })
    }

    /// Notes a value that the signature writes to a variable.
    pub(crate) fn write(&mut self, name: &Rc<str>, value: Tensor) {
        self.written.insert(Rc::clone(name), value);
    }

    /// The contents of lookup tables and variables.
    pub(crate) fn resources(&self) -> &'a Resources<'a> {
        self.resources
    }

    /// Which nodes and functions write.
    pub(crate) fn effects(&self) -> &'a Effects {
        self.effects
    }

    /// Whether a function of the file joins the elements of lists.
    pub(crate) fn joins_lists(&mut self) -> bool {
        let functions = self.graph.functions.values();
        let mut nodes = functions.flat_map(|it| it.body.nodes.values());
        let known = &mut self.loops.joins_lists;
        *known.get_or_insert_with(|| nodes.any(|it| it.op.starts_with("TensorListConcat")))
    }

    /// The number of nodes that were refused so far.
    pub(crate) fn refusals(&self) -> usize {
        self.refused.len()
    }

    /// Forgets the refusals after the first `count`: those of an attempt that is repeated in another way.
    pub(crate) fn forget_refusals(&mut self, count: usize) {
        self.refused.truncate(count);
    }

    /// The refused nodes, and the variables that the signature writes, and reads before it does.
    pub(crate) fn finish(self) -> Finished {
        Finished {
            builder: self.builder,
            refused: self.refused,
            written: self.written.into_keys().collect(),
            read_first: self.read_first,
            failed: self.failed,
            folded: self.folded,
        }
    }
}

/// Whether a node that computes something became constants.
fn is_folded(op: &Op<'_>, outputs: &[Value]) -> bool {
    let is_constant =
        |it: &Value| matches!(it, Value::Tensor(tensor) if tensor.as_constant().is_some());
    let computes = !op.inputs.is_empty() && op.node.op != "Identity";
    computes && !outputs.is_empty() && outputs.iter().all(is_constant)
}

fn no_function(name: &str) -> Refusal {
    Refusal::new(format!(
        "calls the function '{name}', which is not in the file"
    ))
}

/// A translation that has ended.
pub(crate) struct Finished {
    pub(crate) builder: Builder,
    pub(crate) refused: Vec<RefusedNode>,
    pub(crate) written: HashSet<Rc<str>>,
    pub(crate) read_first: HashSet<Rc<str>>,
    /// The error of a damaged checkpoint: the model is not served, not even its other signatures.
    pub(crate) failed: Option<ServingError>,
    /// The nodes with inputs whose outputs are constants.
    pub(crate) folded: HashSet<*const NodeDef>,
}
