//! Visiting a graph with the graphs nested in it.
//!
//! Recursion is bounded: what was decoded is nested at most as deep as protobuf allows.

use std::collections::HashSet;

use crate::proto::onnx::{AttributeProto, GraphProto, NodeProto};

/// Calls `visit` for every node, also of nested graphs; an outer node comes before its inner ones.
pub(super) fn for_each_node<'a>(nodes: &'a [NodeProto], visit: &mut impl FnMut(&'a NodeProto)) {
    for node in nodes {
        visit(node);
        for graph in subgraphs(node) {
            for_each_node(&graph.node, visit);
        }
    }
}

/// The graphs in a node's attributes.
pub(super) fn subgraphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute
        .iter()
        .flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
}

/// The graphs in a node's attributes, to be changed.
pub(super) fn subgraphs_mut(node: &mut NodeProto) -> impl Iterator<Item = &mut GraphProto> {
    node.attribute
        .iter_mut()
        .flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs))
}

/// Every tensor that a node may read: its inputs, and whatever its nested graphs mention (some of
/// these are their own; in ONNX no two of nested graphs share a name).
pub(super) fn for_each_name_read<'a>(node: &'a NodeProto, visit: &mut impl FnMut(&'a str)) {
    for name in node.input.iter().filter(|name| !name.is_empty()) {
        visit(name);
    }
    for graph in subgraphs(node) {
        for output in &graph.output {
            visit(output.name());
        }
        for inner in &graph.node {
            for_each_name_read(inner, visit);
        }
    }
}

/// Every tensor name that occurs in a graph or in those nested in it.
pub(super) fn names(graph: &GraphProto) -> HashSet<&str> {
    let mut names = HashSet::new();
    collect_names(graph, &mut names);
    names
}

fn collect_names<'a>(graph: &'a GraphProto, names: &mut HashSet<&'a str>) {
    let values = graph.input.iter().chain(&graph.output);
    names.extend(values.map(|value| value.name()));
    names.extend(graph.initializer.iter().map(|tensor| tensor.name()));
    for node in &graph.node {
        names.extend(node.input.iter().chain(&node.output).map(String::as_str));
        for inner in subgraphs(node) {
            collect_names(inner, names);
        }
    }
}

/// The attribute of this name.
pub(super) fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute
        .iter()
        .find(|attribute| attribute.name() == name)
}
