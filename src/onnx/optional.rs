//! Graph inputs that have a value in the file: a default that a run may replace (IR version 4 and later).
//!
//! Such an input is made a plain one, and its value is kept for whoever does without it. Exporters that
//! list every weight as an input do not mean that clients send them: those stay constants, unless a
//! signature map names them.
//!
//! Not here: what clients see of a default (`signature`), the graph for requests without any
//! (`lifecycle::loader`).

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::constant::to_tensor;
use super::interface::is_served;
use super::{OnnxModel, is_onnx_domain, walk};
use crate::proto::onnx::{GraphProto, NodeProto};
use crate::tensor::Tensor;

/// The first version of the format in which a run may replace such a value.
const IR_VERSION: i64 = 4;

/// Operators, and the first of their inputs that is a trained weight.
const TRAINED: [(&str, usize); 13] = [
    ("BatchNormalization", 1),
    ("Conv", 1),
    ("ConvInteger", 1),
    ("ConvTranspose", 1),
    ("GRU", 1),
    ("Gemm", 1),
    ("InstanceNormalization", 1),
    ("LSTM", 1),
    ("LayerNormalization", 1),
    ("MatMul", 0),
    ("MatMulInteger", 0),
    ("QLinearConv", 1),
    ("RNN", 1),
];

impl OnnxModel {
    /// Makes plain inputs of those that have a value in the file, and constants of the others. `named`
    /// are tensors that a signature names.
    pub fn open_optional_inputs(&mut self, named: &HashSet<String>) {
        if self.proto.ir_version() < IR_VERSION {
            return;
        }
        let graph = self.graph();
        let inputs: HashSet<&str> = graph.input.iter().map(|it| it.name()).collect();
        let are_weights = are_weights(graph, &inputs);
        let listed = graph.initializer.iter();
        let listed = listed.filter(|it| inputs.contains(it.name()));
        let sendable = listed.filter(|it| is_served(it.data_type()));
        let wanted = sendable.filter(|it| !are_weights || named.contains(it.name()));
        let defaults = wanted.filter_map(|it| Some((it.name().to_owned(), to_tensor(it)?)));
        let defaults: BTreeMap<String, Tensor> = defaults.collect();
        let graph = self.graph_mut();
        graph
            .initializer
            .retain(|it| !defaults.contains_key(it.name()));
        let mut constants: HashSet<&str> = graph.initializer.iter().map(|it| it.name()).collect();
        let sparse = graph.sparse_initializer.iter();
        constants.extend(sparse.flat_map(|it| &it.values).map(|it| it.name()));
        let before = graph.input.len();
        graph.input.retain(|it| !constants.contains(it.name()));
        let closed = before - graph.input.len();
        self.defaults = defaults;
        if closed > 0 {
            tracing::info!(
                model = self.origin,
                "{closed} inputs have a value in the file and are served as constants; a signature map \
                 that names one lets clients send it"
            );
        }
    }

    /// The inputs that need not be sent.
    pub fn inputs_with_defaults(&self) -> BTreeSet<String> {
        self.defaults.keys().cloned().collect()
    }

    /// The value that the file has for an input that need not be sent.
    pub fn default_of(&self, input: &str) -> Option<&Tensor> {
        self.defaults.get(input)
    }
}

/// Whether the values of inputs are what was trained: the file lists all it has as inputs, and an operator
/// reads one as a weight.
fn are_weights(graph: &GraphProto, inputs: &HashSet<&str>) -> bool {
    let mut values = graph.initializer.iter().map(|it| it.name());
    if !values.all(|name| inputs.contains(name)) {
        return false;
    }
    let values: HashSet<&str> = graph.initializer.iter().map(|it| it.name()).collect();
    let mut found = false;
    walk::for_each_node(&graph.node, &mut |node| {
        let mut weights = node.input.iter().skip(first_weight(node));
        found |= weights.any(|name| values.contains(name.as_str()));
    });
    found
}

fn first_weight(node: &NodeProto) -> usize {
    let known = TRAINED.iter().filter(|_| is_onnx_domain(node.domain()));
    let mut known = known.filter(|(op_type, _)| *op_type == node.op_type());
    known.next().map_or(usize::MAX, |&(_, first)| first)
}
