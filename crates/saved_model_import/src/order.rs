//! Which nodes of a graph the outputs need, and in which order.
//!
//! TensorFlow runs a node after all that it waits for. Only nodes that write variables have to be waited for here,
//! and those that lead to one; but among the nodes that are translated, all waiting counts: a variable that is
//! read before it is written has its old value.
//!
//! Not here: which operators write (`effects`).

use std::collections::HashMap;

use proto::tensorflow::NodeDef;

use crate::effects::Effects;
use crate::graph::{Body, TensorRef};
use crate::values::Values;

/// Nodes of models have two inputs in the mean.
const INPUTS_PER_NODE: usize = 16;

/// Nodes to translate.
pub(crate) struct Order<'a> {
    pub(crate) nodes: Vec<&'a NodeDef>,
    /// How many others were looked at; many inputs count as a node, too.
    pub(crate) skipped: usize,
}

/// The nodes that the results need, and those in `waited` that write or lead to a write, with all that they need
/// themselves. Each comes after those that it needs or waits for.
pub(crate) fn order<'a>(
    body: &Body<'a>,
    values: &Values<'a>,
    effects: &Effects,
    results: impl Iterator<Item = &'a str>,
    waited: impl Iterator<Item = &'a str>,
) -> Order<'a> {
    let mut walk = Walk {
        body,
        values,
        effects,
        found: Vec::new(),
        places: HashMap::new(),
        inputs: 0,
    };
    let results: Vec<&str> = results.collect();
    let waited: Vec<&str> = waited.filter(|_| effects.any()).collect();
    for root in results.iter().chain(&waited) {
        walk.visit(root);
    }
    walk.needed(&results, &waited)
}

struct Walk<'a, 'w> {
    body: &'w Body<'a>,
    values: &'w Values<'a>,
    effects: &'w Effects,
    /// Each node after all that it reads or waits for.
    found: Vec<Found<'a>>,
    places: HashMap<&'a str, Option<usize>>,
    /// How many inputs of nodes were looked at.
    inputs: usize,
}

struct Found<'a> {
    node: &'a NodeDef,
    /// Whether it writes a variable, or reads or waits for a node that does.
    has_effect: bool,
    is_needed: bool,
}

/// A node that another one reads or waits for.
enum Input<'a> {
    Read(&'a str),
    Waited(&'a str),
}

impl<'a> Input<'a> {
    /// `None` for an output that has a value already.
    fn of(text: &'a str, values: &Values<'a>) -> Option<Self> {
        match text.strip_prefix('^') {
            Some(name) => Some(Self::Waited(name)),
            None => {
                let reference = TensorRef::parse(text)?;
                let is_fed = values.fed.contains_key(&(reference.node, reference.index));
                (!is_fed).then_some(Self::Read(reference.node))
            }
        }
    }
}

impl<'a> Walk<'a, '_> {
    fn visit(&mut self, root: &'a str) {
        let mut stack: Vec<(&'a NodeDef, usize)> = Vec::new();
        self.enter(root, &mut stack);
        while let Some((node, next)) = stack.last_mut() {
            let node: &'a NodeDef = node;
            let Some(input) = node.input.get(*next) else {
                stack.pop();
                let has_effect = self.effects.of_node(node) || self.leads_to_effect(node);
                self.places.insert(&node.name, Some(self.found.len()));
                self.found.push(Found {
                    node,
                    has_effect,
                    is_needed: false,
                });
                continue;
            };
            *next += 1;
            self.inputs += 1;
            match Input::of(input, self.values) {
                Some(Input::Read(name)) => self.enter(name, &mut stack),
                Some(Input::Waited(name)) if self.effects.any() => self.enter(name, &mut stack),
                _ => {}
            }
        }
    }

    fn enter(&mut self, name: &'a str, stack: &mut Vec<(&'a NodeDef, usize)>) {
        if !self.values.by_node.contains_key(name)
            && !self.places.contains_key(name)
            && let Some(node) = self.body.nodes.get(name)
        {
            self.places.insert(name, None);
            stack.push((node, 0));
        }
    }

    fn leads_to_effect(&self, node: &'a NodeDef) -> bool {
        let inputs = node.input.iter();
        let mut inputs = inputs.filter_map(|it| Input::of(it, self.values));
        inputs.any(|it| match it {
            Input::Read(name) | Input::Waited(name) => self.has_effect(name),
        })
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied().flatten()
    }

    fn has_effect(&self, name: &str) -> bool {
        let found = self.place(name).and_then(|it| self.found.get(it));
        found.is_some_and(|it| it.has_effect)
    }

    fn need(&mut self, name: &str) {
        if let Some(found) = self.place(name).and_then(|it| self.found.get_mut(it)) {
            found.is_needed = true;
        }
    }

    /// From the roots back: each node comes before those that it needs.
    fn needed(mut self, results: &[&'a str], waited: &[&'a str]) -> Order<'a> {
        results.iter().for_each(|it| self.need(it));
        for name in waited {
            if self.has_effect(name) {
                self.need(name);
            }
        }
        for index in (0..self.found.len()).rev() {
            let Found {
                node, is_needed, ..
            } = self.found[index];
            if !is_needed {
                continue;
            }
            for input in node.input.iter() {
                match Input::of(input, self.values) {
                    Some(Input::Read(name)) => self.need(name),
                    Some(Input::Waited(name)) if self.has_effect(name) => self.need(name),
                    _ => {}
                }
            }
        }
        let needed = self.found.iter().filter(|it| it.is_needed);
        let nodes: Vec<_> = needed.map(|it| it.node).collect();
        Order {
            skipped: self.found.len() - nodes.len() + self.inputs / INPUTS_PER_NODE,
            nodes,
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::tensorflow::GraphDef;

    use super::*;
    use crate::graph::Graph;

    fn node(name: &str, op: &str, inputs: &[&str]) -> NodeDef {
        NodeDef {
            name: name.to_owned(),
            op: op.to_owned(),
            input: inputs.iter().map(|it| (*it).to_owned()).collect(),
            ..NodeDef::default()
        }
    }

    #[track_caller]
    fn check(
        nodes: Vec<NodeDef>,
        results: &[&'static str],
        waited: &[&'static str],
        expected: &[&str],
    ) {
        let graph = GraphDef {
            node: nodes,
            ..GraphDef::default()
        };
        let graph = Graph::new(&graph);
        let effects = Effects::of(&graph);
        let values = Values::default();
        let results = results.iter().copied();
        let ordered = order(
            &graph.main,
            &values,
            &effects,
            results,
            waited.iter().copied(),
        );
        let names: Vec<&str> = ordered.nodes.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn a_read_comes_before_the_write_that_waits_for_it() {
        let nodes = vec![
            node("v", "VarHandleOp", &[]),
            node("x", "Placeholder", &[]),
            node("old", "ReadVariableOp", &["v"]),
            node("join", "NoOp", &["^old"]),
            node("write", "AssignVariableOp", &["v", "x", "^join"]),
            node("first", "Identity", &["x", "^write"]),
        ];
        let expected = ["x", "v", "old", "write", "first"];
        check(nodes, &["first", "old"], &[], &expected);
    }

    #[test]
    fn a_write_is_waited_for_through_other_operators() {
        let nodes = vec![
            node("v", "VarHandleOp", &[]),
            node("x", "Placeholder", &[]),
            node("write", "AssignVariableOp", &["v", "x"]),
            node("sum", "Add", &["x", "x", "^write"]),
            node("read", "ReadVariableOp", &["v", "^sum"]),
        ];
        check(nodes, &["read"], &[], &["v", "x", "write", "sum", "read"]);
    }

    #[test]
    fn what_has_no_effect_is_not_waited_for() {
        let nodes = vec![
            node("v", "VarHandleOp", &[]),
            node("x", "Placeholder", &[]),
            node("write", "AssignVariableOp", &["v", "x"]),
            node("assert", "Assert", &["x", "x"]),
            node("y", "Identity", &["x", "^assert"]),
        ];
        check(nodes.clone(), &["y"], &["assert"], &["x", "y"]);
        check(
            nodes,
            &["y"],
            &["assert", "write"],
            &["x", "y", "v", "write"],
        );
    }

    #[test]
    fn a_circle_ends() {
        let nodes = vec![
            node("a", "Merge", &["b"]),
            node("b", "NextIteration", &["a"]),
        ];
        check(nodes, &["a"], &[], &["b", "a"]);
    }
}
