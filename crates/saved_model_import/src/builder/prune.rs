//! Removes nodes that no output needs: ONNX Runtime runs all nodes of a graph, and a loop would do so in each
//! iteration.

use std::collections::HashSet;

use proto::onnx::{GraphProto, NodeProto, TensorProto};

/// Removes the nodes that the graph's outputs do not need. Nodes stand after those that they read.
pub(super) fn prune(graph: &mut GraphProto) {
    let mut needed: HashSet<String> = graph.output.iter().map(|it| it.name().to_owned()).collect();
    let mut kept = Vec::with_capacity(graph.node.len());
    for node in std::mem::take(&mut graph.node).into_iter().rev() {
        if node.output.iter().any(|it| needed.contains(it)) {
            read_by(&node, &mut needed);
            kept.push(node);
        }
    }
    kept.reverse();
    graph.node = kept;
}

/// Removes the initializers that no node reads.
pub(super) fn retain_read(graph: &GraphProto, initializers: &mut Vec<TensorProto>) {
    let mut names = HashSet::new();
    for node in &graph.node {
        read_by(node, &mut names);
    }
    initializers.retain(|it| names.contains(it.name()));
}

/// The names that a node and the graphs in it read.
fn read_by(node: &NodeProto, names: &mut HashSet<String>) {
    names.extend(node.input.iter().cloned());
    for graph in node.attribute.iter().filter_map(|it| it.g.as_ref()) {
        for node in &graph.node {
            read_by(node, names);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::onnx::{AttributeProto, ValueInfoProto};

    fn node(input: &str, output: &str) -> NodeProto {
        NodeProto {
            input: vec![input.to_owned()],
            output: vec![output.to_owned()],
            ..NodeProto::default()
        }
    }

    fn output(name: &str) -> ValueInfoProto {
        ValueInfoProto {
            name: Some(name.to_owned()),
            ..ValueInfoProto::default()
        }
    }

    #[test]
    fn what_only_a_nested_graph_reads_is_kept() {
        let mut outer = node("x", "branch");
        outer.attribute.push(AttributeProto {
            g: Some(GraphProto {
                node: vec![node("inner", "result")],
                ..GraphProto::default()
            }),
            ..AttributeProto::default()
        });
        let mut graph = GraphProto {
            node: vec![
                node("x", "inner"),
                node("x", "dead"),
                node("dead", "dead too"),
                outer,
            ],
            output: vec![output("branch")],
            ..GraphProto::default()
        };
        prune(&mut graph);
        let left: Vec<_> = graph.node.iter().map(|it| it.output[0].as_str()).collect();
        assert_eq!(left, ["inner", "branch"]);
    }
}
