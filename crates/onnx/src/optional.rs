//! Graph inputs with a value in the file: a default that a run can replace (IR version 4 and later).
//!
//! Such an input becomes a plain one, and its value is kept for clients that do not send it. Some exporters
//! list every weight as an input, although clients are not meant to send them: if those are many or large,
//! they stay constants, unless a signature map names them.
//!
//! Not here: how clients see a default (`signature`), the graph for requests without any
//! (`mapper::version_dir`).

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::constant::to_tensor;
use super::interface::{data_type, is_served, shaped_tensor_value};
use super::{OnnxModel, is_onnx_domain, traverse};
use base::tensor::{DataType, Tensor};
use proto::onnx::{
    GraphProto, NodeProto, TensorProto, TensorShapeProto, ValueInfoProto,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};

/// The first version of the format in which a run can replace such a value.
const IR_VERSION: i64 = 4;

/// The maximum number of inputs offered to clients from a file that lists all its values as inputs.
const MAX_LISTED: usize = 16;
/// The maximum total size of those inputs in bytes.
const MAX_LISTED_BYTES: usize = 64 << 10;

/// Operators whose output is a weight if their first input is one.
const PASSES: [&str; 11] = [
    "Cast",
    "DequantizeLinear",
    "Flatten",
    "Identity",
    "QuantizeLinear",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

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
    /// Turns the inputs with a value that clients can send into plain inputs, and the others into constants.
    /// `named` are tensors that a signature names.
    pub fn open_optional_inputs(&mut self, named: &HashSet<String>) {
        if self.proto.ir_version() < IR_VERSION {
            return;
        }
        let graph = self.graph();
        let inputs: HashSet<&str> = graph.input.iter().map(|it| it.name()).collect();
        let offered = offered(graph, &inputs);
        let listed = graph.initializer.iter();
        let listed = listed.filter(|it| inputs.contains(it.name()));
        let sendable = listed.filter(|it| is_served(it.data_type()));
        let wanted = sendable.filter(|it| offered.contains(it.name()) || named.contains(it.name()));
        let defaults = wanted.filter_map(|it| Some((it.name().to_owned(), to_tensor(it)?)));
        let defaults: BTreeMap<String, Tensor> = defaults.collect();
        self.declare_by_value();
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

    /// Gives inputs without a declared type the type of their values.
    fn declare_by_value(&mut self) {
        let graph = self.graph_mut();
        for input in graph.input.iter_mut().filter(|it| is_untyped(it)) {
            let mut values = graph.initializer.iter();
            if let Some(value) = values.find(|it| it.name() == input.name()) {
                let dims = value.dims.iter().map(|&size| Dimension {
                    value: Some(dimension::Value::DimValue(size)),
                    ..Dimension::default()
                });
                let shape = TensorShapeProto {
                    dim: dims.collect(),
                };
                let declared = shaped_tensor_value(value.name(), value.data_type(), Some(shape));
                input.r#type = declared.r#type;
            }
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

/// The inputs with a value that clients can send even if no map names them. If the file lists all its values
/// and operators read some as weights: all inputs if they are few, otherwise those that are not weights.
fn offered<'a>(graph: &'a GraphProto, inputs: &HashSet<&str>) -> HashSet<&'a str> {
    let values = || graph.initializer.iter();
    let listed: Vec<&TensorProto> = values().filter(|it| inputs.contains(it.name())).collect();
    let weights = read_as_weights(graph);
    let has_weights = listed.iter().any(|it| weights.contains(it.name()));
    let names = |values: Vec<&'a TensorProto>| values.into_iter().map(|it| it.name()).collect();
    if listed.len() < values().count() || !has_weights || are_few(&listed) {
        return names(listed);
    }
    let mut read: HashSet<&str> = graph.output.iter().map(|it| it.name()).collect();
    for node in &graph.node {
        traverse::for_each_name_read(node, &mut |name| {
            read.insert(name);
        });
    }
    let is_other = |it: &&TensorProto| read.contains(it.name()) && !weights.contains(it.name());
    let others: Vec<&TensorProto> = listed.into_iter().filter(is_other).collect();
    if are_few(&others) {
        return names(others);
    }
    // Values that are added to the results of weights, or multiplied by them, were trained, too.
    let is_trained = |it: &TensorProto| {
        let is_float = data_type(it.data_type()).is_some_and(is_float);
        is_float && it.dims.iter().any(|&size| size != 1)
    };
    let others = others.into_iter().filter(|it| !is_trained(it));
    let others: Vec<&TensorProto> = others.collect();
    if are_few(&others) {
        names(others)
    } else {
        HashSet::new()
    }
}

fn are_few(values: &[&TensorProto]) -> bool {
    let bytes = values.iter().map(|it| byte_count(it));
    values.len() <= MAX_LISTED && bytes.fold(0, usize::saturating_add) <= MAX_LISTED_BYTES
}

fn byte_count(value: &TensorProto) -> usize {
    let strings = value.string_data.iter().map(bytes::Bytes::len);
    let size = data_type(value.data_type()).and_then(|it| it.size());
    let dims = value
        .dims
        .iter()
        .map(|&dim| usize::try_from(dim).unwrap_or(usize::MAX));
    let elements = dims.fold(size.unwrap_or(1), usize::saturating_mul);
    strings.fold(elements, usize::saturating_add)
}

/// The tensors that operators read as a trained weight, directly, converted or reshaped.
fn read_as_weights(graph: &GraphProto) -> HashSet<&str> {
    let mut nodes = Vec::new();
    traverse::for_each_node(&graph.node, &mut |node| nodes.push(node));
    let mut weights: HashSet<&str> = HashSet::new();
    for node in nodes.into_iter().rev() {
        weights.extend(
            node.input
                .iter()
                .skip(first_weight(node))
                .map(String::as_str),
        );
        let passes = is_onnx_domain(node.domain()) && PASSES.contains(&node.op_type());
        if passes && node.output.iter().any(|it| weights.contains(it.as_str())) {
            weights.extend(node.input.first().map(String::as_str));
        }
    }
    weights
}

fn is_float(dtype: DataType) -> bool {
    use DataType::{BFloat16, Double, Float, Half};
    matches!(dtype, Float | Double | Half | BFloat16)
}

/// Whether a declaration does not give the type.
fn is_untyped(value: &ValueInfoProto) -> bool {
    match value.r#type.as_ref().and_then(|it| it.value.as_ref()) {
        None => true,
        Some(type_proto::Value::TensorType(tensor)) => tensor.elem_type() == 0,
        Some(_) => false,
    }
}

fn first_weight(node: &NodeProto) -> usize {
    let known = TRAINED.iter().filter(|_| is_onnx_domain(node.domain()));
    let mut known = known.filter(|(op_type, _)| *op_type == node.op_type());
    known.next().map_or(usize::MAX, |&(_, first)| first)
}
