//! TensorFlow's `ParseExample` operators, which converters leave in the file and no runtime supports.
//!
//! They are cut out: their outputs become inputs of the graph, fed by this server's own parser.
//!
//! Not here: parsing tf.Example (`codec::example`).

use super::constant::MAX_HOPS;
use super::interface::{data_type, elem_type, tensor_value, value_info};
use super::{OnnxModel, is_op, traverse};
use base::error::{Result, ServingError};
use base::tensor::{DataType, Tensor};
use codec::example::{PARSE_OPS, ParseKeys, open_shape};
use proto::onnx::NodeProto;

/// A parse node that was cut out of a graph.
///
/// Its features are not `codec::example`'s, because a file can lack a part of them: tf2onnx drops the
/// attributes `Tdense` and `dense_shapes`. Anything that the file does not give is `None`.
#[derive(Clone, Debug)]
pub struct ParseExample {
    /// The node's name.
    pub name: String,
    /// `ParseExample` or `ParseExampleV2`.
    pub op_type: String,
    /// The tensor with the serialized examples.
    pub serialized: String,
    /// In the node's order.
    pub sparse: Vec<SparseKey>,
    /// In the node's order.
    pub dense: Vec<DenseKey>,
    /// In the node's order.
    pub ragged: Vec<RaggedKey>,
}

/// A dense feature and the tensor it goes to.
#[derive(Clone, Debug)]
pub struct DenseKey {
    /// The feature's key.
    pub key: String,
    /// From the default value.
    pub dtype: Option<DataType>,
    /// Of one example.
    pub shape: Option<Vec<Option<usize>>>,
    /// `None`: required.
    pub default: Option<Tensor>,
    /// The graph input that takes it.
    pub tensor: String,
}

/// A sparse feature and the tensors it goes to.
#[derive(Clone, Debug)]
pub struct SparseKey {
    /// The feature's key.
    pub key: String,
    /// Of the values.
    pub dtype: Option<DataType>,
    /// Graph inputs: indices, values, dense shape.
    pub tensors: [String; 3],
}

/// A ragged feature and the tensors it goes to.
#[derive(Clone, Debug)]
pub struct RaggedKey {
    /// The feature's key.
    pub key: String,
    /// Of the values.
    pub dtype: Option<DataType>,
    /// Of the row splits.
    pub splits_dtype: Option<DataType>,
    /// Graph inputs: values, row splits.
    pub tensors: [String; 2],
}

impl OnnxModel {
    /// Cuts every `ParseExample` and `ParseExampleV2` out of the graph. Their outputs become inputs.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` if a node's keys are not constants or do not match its inputs and outputs;
    /// `UNIMPLEMENTED` for `ParseSingleExample`, which parses one example without a batch.
    pub fn cut_parse_examples(&mut self) -> Result<Vec<ParseExample>> {
        let mut nodes = self.graph().node.iter();
        if let Some(node) = nodes.find(|node| is_op(node, "ParseSingleExample")) {
            return Err(ServingError::unimplemented(format!(
                "{}: the node '{}' is a ParseSingleExample, which this server does not run; parse \
                 batches with tf.io.parse_example before the model is converted",
                self.origin,
                node.name()
            )));
        }
        let is_parse = |node: &NodeProto| PARSE_OPS.iter().any(|op| is_op(node, op));
        let nodes = self.graph().node.iter().filter(|node| is_parse(node));
        let cut = nodes
            .map(|node| self.read_parse_node(node))
            .collect::<Result<Vec<_>>>()?;
        self.graph_mut().node.retain(|node| !is_parse(node));
        for parse in &cut {
            self.feed_outputs(parse);
        }
        Ok(cut)
    }

    /// Reads a node. Its outputs are those of the sparse keys, of the dense and of the ragged ones.
    fn read_parse_node(&self, node: &NodeProto) -> Result<ParseExample> {
        let malformed = |what: &str| {
            ServingError::invalid_argument(format!(
                "{}: cannot read the node '{}' ({}): {what}",
                self.origin,
                node.name(),
                node.op_type()
            ))
        };
        let count = |name: &str| usize::try_from(traverse::attribute(node, name)?.i()).ok();
        let constant = |input: &str| self.constant(input);
        let keys = ParseKeys::read(node.op_type(), &node.input, constant, count)
            .ok_or_else(|| malformed("its keys are not constants"))?;
        let defaults = &node.input[keys.inputs_before_defaults..];
        let (count, dense_count) = (keys.sparse.len(), keys.dense.len());
        let ragged_count = keys.ragged.len();
        if defaults.len() < dense_count
            || node.output.len() > 3 * count + dense_count + 2 * ragged_count
        {
            return Err(malformed(
                "the numbers of keys, defaults and outputs differ",
            ));
        }
        let outputs = ParseOutputs::of(node, count, dense_count, ragged_count);
        let sparse_types = dtypes(node, "sparse_types");
        let (value_types, split_types) = (
            dtypes(node, "ragged_value_types"),
            dtypes(node, "ragged_split_types"),
        );
        let at = |types: &[Option<DataType>], index: usize| types.get(index).copied().flatten();
        let sparse = keys.sparse.into_iter().zip(outputs.sparse).enumerate();
        let dense = keys.dense.into_iter().zip(outputs.dense).zip(defaults);
        let ragged = keys.ragged.into_iter().zip(outputs.ragged).enumerate();
        Ok(ParseExample {
            name: node.name().to_owned(),
            op_type: node.op_type().to_owned(),
            serialized: self.behind_identities(&node.input[0]),
            sparse: sparse
                .map(|(index, (key, tensors))| SparseKey {
                    key,
                    dtype: at(&sparse_types, index),
                    tensors,
                })
                .collect(),
            dense: dense
                .map(|((key, tensor), default)| self.dense_key(key, tensor, default))
                .collect(),
            ragged: ragged
                .map(|(index, (key, tensors))| RaggedKey {
                    key,
                    dtype: at(&value_types, index),
                    splits_dtype: at(&split_types, index),
                    tensors,
                })
                .collect(),
        })
    }

    fn dense_key(&self, key: String, tensor: String, default: &str) -> DenseKey {
        let default = self.constant(default);
        let (declared_dtype, declared_shape) = self.declared(&tensor);
        // The first dim of the node's output is the batch.
        let declared_shape = declared_shape.and_then(|shape| Some(open_shape(shape.get(1..)?)));
        let dtype = default.as_ref().map(Tensor::dtype).or(declared_dtype);
        let default = default.filter(|it| !it.is_empty());
        let default_shape = default.as_ref();
        let default_shape = default_shape.map(|it| it.shape().iter().copied().map(Some).collect());
        DenseKey {
            key,
            dtype,
            shape: declared_shape.or(default_shape),
            default,
            tensor,
        }
    }

    /// The dtype and shape of a tensor according to `value_info` or an output's declaration.
    fn declared(&self, name: &str) -> (Option<DataType>, Option<Vec<i64>>) {
        let graph = self.graph();
        let mut values = graph.value_info.iter().chain(&graph.output);
        match values.find(|value| value.name() == name).map(value_info) {
            Some(info) => (info.dtype, info.shape),
            None => (None, None),
        }
    }

    /// The tensor that reaches `name` through `Identity` nodes.
    fn behind_identities(&self, name: &str) -> String {
        let nodes = &self.graph().node;
        let mut name = name;
        for _ in 0..MAX_HOPS {
            let maker = nodes
                .iter()
                .find(|node| is_op(node, "Identity") && node.output.iter().any(|it| it == name));
            match maker.and_then(|node| node.input.first()) {
                Some(input) => name = input,
                None => break,
            }
        }
        name.to_owned()
    }

    fn feed_outputs(&mut self, parse: &ParseExample) {
        let int64 = Some(DataType::Int64);
        let mut values = Vec::new();
        for it in &parse.dense {
            values.push((&it.tensor, it.dtype));
        }
        for it in &parse.sparse {
            let [indices, sparse_values, shape] = &it.tensors;
            values.extend([(indices, int64), (sparse_values, it.dtype), (shape, int64)]);
        }
        for it in &parse.ragged {
            let [ragged_values, splits] = &it.tensors;
            values.extend([(ragged_values, it.dtype), (splits, it.splits_dtype)]);
        }
        // Declared shapes have a batch, which the features of one example that is a scalar have not.
        let is_fed = |name: &str| values.iter().any(|(fed, _)| *fed == name);
        self.graph_mut().value_info.retain(|it| !is_fed(it.name()));
        let inputs = values.into_iter().filter(|(name, _)| !name.is_empty());
        let inputs: Vec<_> = inputs
            .map(|(name, dtype)| tensor_value(name, dtype.and_then(elem_type).unwrap_or_default()))
            .collect();
        self.graph_mut().input.extend(inputs);
    }
}

/// The dtypes in an attribute such as `sparse_types`, which tf2onnx keeps as ONNX's numbers.
fn dtypes(node: &NodeProto, name: &str) -> Vec<Option<DataType>> {
    let attribute = traverse::attribute(node, name);
    let numbers = attribute.into_iter().flat_map(|it| &it.ints);
    numbers
        .map(|&number| data_type(i32::try_from(number).unwrap_or_default()))
        .collect()
}

/// The names of a node's outputs.
struct ParseOutputs {
    /// Indices, values and shape of each sparse key.
    sparse: Vec<[String; 3]>,
    /// One for each dense key.
    dense: Vec<String>,
    /// Values and row splits of each ragged key.
    ragged: Vec<[String; 2]>,
}

impl ParseOutputs {
    /// The node lists all indices, then all values, all shapes, and so on. Missing names are empty.
    fn of(node: &NodeProto, sparse: usize, dense: usize, ragged: usize) -> Self {
        let mut outputs = node.output.iter().cloned();
        let mut take = |count: usize| -> Vec<String> {
            let names = (0..count).map(|_| outputs.next().unwrap_or_default());
            names.collect()
        };
        let (indices, values, shapes) = (take(sparse), take(sparse), take(sparse));
        let dense = take(dense);
        let (ragged_values, splits) = (take(ragged), take(ragged));
        let sparse = indices.into_iter().zip(values).zip(shapes);
        let ragged = ragged_values.into_iter().zip(splits);
        Self {
            sparse: sparse
                .map(|((indices, values), shape)| [indices, values, shape])
                .collect(),
            dense,
            ragged: ragged.map(|(values, splits)| [values, splits]).collect(),
        }
    }
}
