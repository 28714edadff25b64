//! Visiting a graph with the graphs nested in it.
//!
//! Recursion is bounded: decoded messages are nested at most as deep as protobuf allows.

use std::collections::HashSet;

use proto::onnx::{AttributeProto, GraphProto, NodeProto};

/// Calls `visit` for every node, including those of nested graphs; an outer node comes before its inner ones.
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

/// The graphs in a node's attributes, mutable.
pub(super) fn subgraphs_mut(node: &mut NodeProto) -> impl Iterator<Item = &mut GraphProto> {
    node.attribute
        .iter_mut()
        .flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs))
}

/// Every tensor that a node can read from its graph: its inputs, and the outer names that its nested graphs
/// read.
pub(super) fn for_each_name_read<'a>(node: &'a NodeProto, visit: &mut impl FnMut(&'a str)) {
    read_names(node, &mut Vec::new(), visit);
}

/// `inner` are the names that the graphs around the node define themselves before it.
fn read_names<'a>(
    node: &'a NodeProto,
    inner: &mut Vec<HashSet<&'a str>>,
    visit: &mut impl FnMut(&'a str),
) {
    let is_inner =
        |inner: &[HashSet<&str>], name: &str| inner.iter().any(|names| names.contains(name));
    for name in node.input.iter().filter(|name| !name.is_empty()) {
        if !is_inner(inner, name) {
            visit(name);
        }
    }
    for graph in subgraphs(node) {
        inner.push(given_names(graph).collect());
        for nested in &graph.node {
            read_names(nested, inner, visit);
            if let Some(names) = inner.last_mut() {
                names.extend(nested.output.iter().map(String::as_str));
            }
        }
        for output in &graph.output {
            if !is_inner(inner, output.name()) {
                visit(output.name());
            }
        }
        inner.pop();
    }
}

/// The names of a graph's inputs and initializers.
fn given_names(graph: &GraphProto) -> impl Iterator<Item = &str> {
    let sparse = graph.sparse_initializer.iter();
    let inputs = graph.input.iter().map(|value| value.name());
    inputs
        .chain(graph.initializer.iter().map(|tensor| tensor.name()))
        .chain(sparse.flat_map(|it| &it.values).map(|it| it.name()))
}

/// Whether a graph has a tensor of this name, which hides one of the graph around it.
pub(super) fn defines(graph: &GraphProto, name: &str) -> bool {
    let mut made = graph.node.iter().flat_map(|node| &node.output);
    given_names(graph).any(|it| it == name) || made.any(|it| it == name)
}

/// Every tensor name that occurs in a graph or in those nested in it.
pub(super) fn names(graph: &GraphProto) -> HashSet<&str> {
    let mut names = HashSet::new();
    collect_names(graph, &mut names);
    names
}

fn collect_names<'a>(graph: &'a GraphProto, names: &mut HashSet<&'a str>) {
    names.extend(given_names(graph));
    let declared = graph.output.iter().chain(&graph.value_info);
    names.extend(declared.map(|value| value.name()));
    collect_node_names(&graph.node, names);
}

/// Every tensor name that occurs in nodes or in graphs nested in them.
pub(super) fn collect_node_names<'a>(nodes: &'a [NodeProto], names: &mut HashSet<&'a str>) {
    for node in nodes {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node;
    use proto::onnx::ValueInfoProto;

    #[test]
    fn names_that_a_nested_graph_makes_are_its_own() {
        let named = |name: &str| ValueInfoProto {
            name: Some(name.to_owned()),
            ..ValueInfoProto::default()
        };
        let inner = GraphProto {
            input: vec![named("given")],
            node: vec![
                node("Add", &["outer", "given"], "made"),
                // Read before it is made here: it refers to the outer one.
                node("Neg", &["late"], "copy"),
                node("Mul", &["made", "copy"], "late"),
            ],
            output: vec![named("late"), named("passed")],
            ..GraphProto::default()
        };
        let mut outer = node("Loop", &["x", ""], "y");
        outer.attribute.push(AttributeProto {
            g: Some(inner),
            ..AttributeProto::default()
        });
        let mut read = Vec::new();
        for_each_name_read(&outer, &mut |name| read.push(name));
        assert_eq!(read, ["x", "outer", "late", "passed"]);
    }
}
