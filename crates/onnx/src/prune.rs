//! Reduces a graph to the parts that some of its outputs need.

use std::collections::{HashMap, HashSet};

use super::edit::Edit;
use super::{OnnxModel, traverse};
use proto::onnx::GraphProto;

impl OnnxModel {
    /// Makes `outputs` the graph's outputs, in this order, each once, and drops every node, initializer and
    /// input that they do not need. Names that the graph does not declare as outputs are left out. If the
    /// edit is turned off, unneeded nodes stay unless they need further inputs.
    pub fn prune(&mut self, outputs: &[String]) {
        let keeps_nodes = !self.edits.wants(Edit::UnneededNodes);
        let graph = self.graph_mut();
        let mut kept = Vec::with_capacity(outputs.len());
        for name in outputs {
            if kept.iter().any(|it: &_| name_of(it) == name) {
                continue;
            }
            kept.extend(graph.output.iter().find(|it| it.name() == name).cloned());
        }
        graph.output = kept;
        let count = graph.node.len();
        drop_unneeded(graph, keeps_nodes);
        let is_changed = graph.node.len() != count;
        self.edits.note(Edit::UnneededNodes, is_changed);
    }
}

fn name_of(value: &proto::onnx::ValueInfoProto) -> &str {
    value.name()
}

/// Drops everything that no output depends on. An input that has a value in the file becomes a plain
/// constant.
fn drop_unneeded(graph: &mut GraphProto, keeps_nodes: bool) {
    let outputs = graph.output.iter().map(|output| output.name());
    let mut needed = needed_names(graph, outputs.collect());
    if keeps_nodes {
        let beyond = names_beyond(graph, &needed);
        let outputs = graph.node.iter().flat_map(|node| &node.output);
        let within = outputs.filter(|name| !name.is_empty() && !beyond.contains(name.as_str()));
        let outputs = graph.output.iter().map(|output| output.name());
        needed = needed_names(graph, outputs.chain(within.map(String::as_str)).collect());
    }
    graph
        .node
        .retain(|node| node.output.iter().any(|name| needed.contains(name)));
    graph
        .initializer
        .retain(|tensor| needed.contains(tensor.name()));
    graph.sparse_initializer.retain(|sparse| {
        let values = sparse.values.as_ref();
        values.is_some_and(|values| needed.contains(values.name()))
    });
    let mut constants: HashSet<&str> = graph.initializer.iter().map(|it| it.name()).collect();
    let sparse = graph.sparse_initializer.iter();
    constants.extend(sparse.flat_map(|it| &it.values).map(|it| it.name()));
    graph
        .input
        .retain(|input| needed.contains(input.name()) && !constants.contains(input.name()));
    graph
        .value_info
        .retain(|value| needed.contains(value.name()));
}

/// The names of all tensors that depend on inputs outside `needed`.
fn names_beyond<'a>(graph: &'a GraphProto, needed: &HashSet<String>) -> HashSet<&'a str> {
    let has_value = |name: &str| graph.initializer.iter().any(|it| it.name() == name);
    let inputs = graph.input.iter().map(|it| it.name());
    let mut beyond: HashSet<&str> = inputs
        .filter(|name| !needed.contains(*name) && !has_value(name))
        .collect();
    // Nodes can be in any order.
    loop {
        let count = beyond.len();
        for node in &graph.node {
            let mut is_beyond = false;
            traverse::for_each_name_read(node, &mut |name| is_beyond |= beyond.contains(name));
            if is_beyond {
                let outputs = node.output.iter().filter(|name| !name.is_empty());
                beyond.extend(outputs.map(String::as_str));
            }
        }
        if beyond.len() == count {
            return beyond;
        }
    }
}

/// The names of all tensors that `outputs` depend on.
fn needed_names<'a>(graph: &'a GraphProto, outputs: Vec<&'a str>) -> HashSet<String> {
    let mut makers: HashMap<&str, usize> = HashMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        for output in node.output.iter().filter(|name| !name.is_empty()) {
            makers.insert(output, index);
        }
    }
    let mut needed: HashSet<String> = HashSet::new();
    let mut open = outputs;
    while let Some(name) = open.pop() {
        if !needed.insert(name.to_owned()) {
            continue;
        }
        if let Some(&index) = makers.get(name) {
            traverse::for_each_name_read(&graph.node[index], &mut |name| open.push(name));
        }
    }
    needed
}
