//! Leaves of a graph what some of its outputs need.

use std::collections::{HashMap, HashSet};

use super::{OnnxModel, walk};
use proto::onnx::GraphProto;

impl OnnxModel {
    /// Makes `outputs` the graph's outputs, in this order, each once, and drops every node,
    /// initializer and input that they do not need. Names that the graph does not declare as
    /// outputs are left out.
    pub fn prune(&mut self, outputs: &[String]) {
        let graph = self.graph_mut();
        let mut kept = Vec::with_capacity(outputs.len());
        for name in outputs {
            if kept.iter().any(|it: &_| name_of(it) == name) {
                continue;
            }
            kept.extend(graph.output.iter().find(|it| it.name() == name).cloned());
        }
        graph.output = kept;
        drop_unneeded(graph);
    }
}

fn name_of(value: &proto::onnx::ValueInfoProto) -> &str {
    value.name()
}

/// Drops what no output reaches. An input that has a value in the file becomes a plain constant.
fn drop_unneeded(graph: &mut GraphProto) {
    let needed = needed_names(graph);
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

/// The names of all tensors that the outputs depend on, and of everything that their nodes return.
fn needed_names(graph: &GraphProto) -> HashSet<String> {
    let mut makers: HashMap<&str, usize> = HashMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        for output in node.output.iter().filter(|name| !name.is_empty()) {
            makers.insert(output, index);
        }
    }
    let mut needed: HashSet<String> = HashSet::new();
    let mut open: Vec<&str> = graph.output.iter().map(|output| output.name()).collect();
    while let Some(name) = open.pop() {
        if !needed.insert(name.to_owned()) {
            continue;
        }
        if let Some(&index) = makers.get(name) {
            walk::for_each_name_read(&graph.node[index], &mut |name| open.push(name));
        }
    }
    needed
}
