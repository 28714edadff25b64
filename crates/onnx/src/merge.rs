//! One graph for signatures that differ only in their heads, so that the weights below the heads are in
//! memory once.
//!
//! Not here: which signatures exist (`mapper::version_dir`).

use std::collections::HashMap;

use super::{OnnxModel, is_onnx_domain, traverse};
use proto::onnx::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};

/// Operators that one signature can run on behalf of another: cheap compared with the shared weights, and
/// without requirements on values.
const HEAD_OPERATORS: &[&str] = &[
    "Add",
    "ArgMax",
    "ArgMin",
    "Cast",
    "Clip",
    "Concat",
    "Div",
    "Exp",
    "Flatten",
    "Gemm",
    "Identity",
    "Log",
    "LogSoftmax",
    "MatMul",
    "Max",
    "Min",
    "Mul",
    "Neg",
    "ReduceMax",
    "ReduceMean",
    "ReduceSum",
    "Relu",
    "Sigmoid",
    "Softmax",
    "Sqrt",
    "Sub",
    "Tanh",
    "Transpose",
];

/// Smaller models are not worth merging.
const MIN_COMMON_BYTES: usize = 1 << 20;
/// Each signature can lack at most one part in this many of the merged graph's weights.
const MAX_FOREIGN_PART: usize = 16;

impl OnnxModel {
    /// The graph that returns the outputs of both `self` and `other`, graphs of one file. `None` if merging
    /// is not worthwhile or would change the results: if they have different inputs, if one lacks more than
    /// a sixteenth of the merged weights, or if they differ in more than `HEAD_OPERATORS`.
    pub fn merged(&self, other: &Self) -> Option<Self> {
        if !is_same_but_graph(&self.proto, &other.proto) {
            return None;
        }
        let (mine, others) = (self.graph(), other.graph());
        if sorted(&mine.input) != sorted(&others.input)
            || mine.sparse_initializer != others.sparse_initializer
        {
            return None;
        }
        let foreign = foreign_parts(mine, others)?;
        // The parts of `self` that `other` lacks are subject to the same rules.
        foreign_parts(others, mine)?;
        let mut merged = self.clone();
        let graph = merged.graph_mut();
        graph.node.extend(foreign.nodes.into_iter().cloned());
        graph
            .initializer
            .extend(foreign.tensors.into_iter().cloned());
        for output in &others.output {
            match graph.output.iter().find(|it| it.name() == output.name()) {
                Some(known) if known != output => return None,
                Some(_) => {}
                None => graph.output.push(output.clone()),
            }
        }
        let total = merged.weight_bytes();
        let smaller = self.weight_bytes().min(other.weight_bytes());
        let is_worth_it =
            smaller >= MIN_COMMON_BYTES && (total - smaller) <= total / MAX_FOREIGN_PART;
        is_worth_it.then_some(merged)
    }
}

/// The parts of one graph that another lacks.
struct Foreign<'a> {
    nodes: Vec<&'a NodeProto>,
    tensors: Vec<&'a TensorProto>,
}

/// The parts of `others` that `mine` lacks; `None` if the graphs use one name for different things, or if a
/// foreign node is not part of a head.
fn foreign_parts<'a>(mine: &GraphProto, others: &'a GraphProto) -> Option<Foreign<'a>> {
    let mut makers: HashMap<&str, &NodeProto> = HashMap::new();
    for node in &mine.node {
        makers.extend(node.output.iter().map(|name| (name.as_str(), node)));
    }
    makers.remove("");
    let values = mine.initializer.iter().map(|it| (it.name(), it));
    let values: HashMap<&str, &TensorProto> = values.collect();
    // A name in a graph nested in mine would hide a foreign one.
    let taken = traverse::names(mine);

    let mut foreign = Foreign {
        nodes: Vec::new(),
        tensors: Vec::new(),
    };
    for node in &others.node {
        let names = || node.output.iter().filter(|name| !name.is_empty());
        match names().find_map(|name| makers.get(name.as_str())) {
            Some(known) if *known == node => {}
            None if is_head(node) && !names().any(|name| taken.contains(name.as_str())) => {
                foreign.nodes.push(node);
            }
            _ => return None,
        }
    }
    for tensor in &others.initializer {
        match values.get(tensor.name()) {
            Some(known) if is_same_tensor(known, tensor) => {}
            None if !taken.contains(tensor.name()) => foreign.tensors.push(tensor),
            _ => return None,
        }
    }
    Some(foreign)
}

fn is_head(node: &NodeProto) -> bool {
    is_onnx_domain(node.domain()) && HEAD_OPERATORS.contains(&node.op_type())
}

/// Compares the bytes of two weights by their address: copies of one model share them.
fn is_same_tensor(one: &TensorProto, other: &TensorProto) -> bool {
    match (&one.raw_data, &other.raw_data) {
        (Some(a), Some(b)) if a.as_ptr() == b.as_ptr() && a.len() == b.len() => {
            one.dims == other.dims && one.data_type == other.data_type
        }
        _ => one == other,
    }
}

fn is_same_but_graph(one: &ModelProto, other: &ModelProto) -> bool {
    one.ir_version == other.ir_version
        && one.opset_import == other.opset_import
        && one.functions == other.functions
}

fn sorted(values: &[ValueInfoProto]) -> Vec<&ValueInfoProto> {
    let mut sorted: Vec<&ValueInfoProto> = values.iter().collect();
    sorted.sort_by_key(|value| value.name());
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::tensor_value;

    /// `x` multiplied by a weight of 1 MiB to give `y`, and then through these nodes to `output`.
    fn model(heads: &[(&str, &[&str], &str)], output: &str) -> OnnxModel {
        let mut graph = GraphProto {
            node: vec![super::super::node("MatMul", &["x", "w"], "y")],
            input: vec![tensor_value("x", 1)],
            output: vec![tensor_value(output, 1)],
            initializer: vec![weight("w", 512 * 512)],
            ..GraphProto::default()
        };
        let heads = heads.iter();
        graph
            .node
            .extend(heads.map(|(op, inputs, output)| super::super::node(op, inputs, output)));
        OnnxModel {
            origin: "test.onnx".to_owned(),
            proto: ModelProto {
                graph: Some(graph),
                ..ModelProto::default()
            },
            declared_shapes: HashMap::new(),
            defaults: Default::default(),
            sequences: Vec::new(),
            edits: Default::default(),
            not_utf8: HashMap::new(),
        }
    }

    fn weight(name: &str, elements: usize) -> TensorProto {
        TensorProto {
            name: Some(name.to_owned()),
            dims: vec![elements as i64],
            data_type: Some(1),
            raw_data: Some(vec![1; elements * 4].into()),
            ..TensorProto::default()
        }
    }

    fn names(model: &OnnxModel) -> Vec<String> {
        model.outputs().into_iter().map(|it| it.name).collect()
    }

    #[test]
    fn heads_of_one_trunk_become_one_graph() {
        let logits = model(&[("Tanh", &["y"], "t")], "t");
        let softmax = model(&[("Tanh", &["y"], "t"), ("Softmax", &["t"], "s")], "s");
        for merged in [logits.merged(&softmax), softmax.merged(&logits)] {
            let merged = merged.unwrap();
            assert_eq!(merged.graph().node.len(), 3);
            assert_eq!(merged.graph().initializer.len(), 1);
            let mut outputs = names(&merged);
            outputs.sort();
            assert_eq!(outputs, ["s", "t"]);
        }
    }

    #[test]
    fn costly_operators_stay_with_their_signature() {
        let plain = model(&[], "y");
        let costly = model(&[("NonZero", &["y"], "n")], "n");
        assert!(plain.merged(&costly).is_none());
        assert!(costly.merged(&plain).is_none());
    }

    #[test]
    fn weights_of_their_own_keep_graphs_apart() {
        let plain = model(&[], "y");
        let mut heavy = model(&[("MatMul", &["y", "v"], "z")], "z");
        heavy.graph_mut().initializer.push(weight("v", 512 * 64));
        assert!(plain.merged(&heavy).is_none());
    }

    #[test]
    fn other_inputs_keep_graphs_apart() {
        let plain = model(&[], "y");
        let mut more = model(&[("Add", &["y", "b"], "z")], "z");
        more.graph_mut().input.push(tensor_value("b", 1));
        assert!(plain.merged(&more).is_none());
    }

    #[test]
    fn name_of_two_meanings_keeps_graphs_apart() {
        let tanh = model(&[("Tanh", &["y"], "z")], "z");
        let relu = model(&[("Relu", &["y"], "z")], "z");
        assert!(tanh.merged(&relu).is_none());
    }

    #[test]
    fn small_models_are_left_apart() {
        let shrunk = |output: &str| {
            let mut model = model(&[("Tanh", &["y"], "z")], output);
            model.graph_mut().initializer = vec![weight("w", 64)];
            model
        };
        assert!(shrunk("y").merged(&shrunk("z")).is_none());
    }
}
