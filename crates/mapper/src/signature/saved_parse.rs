//! Finds the parse nodes in the graph of a `saved_model.pb`: the features that a model reads from
//! tf.Example.

use std::collections::HashMap;

use bytes::Bytes;
use prost::{DecodeError, Message};

use base::tensor::{DataType, Tensor};
use codec::example::{
    DeclaredFeatures, DenseFeature, PARSE_OPS, ParseKeys, RaggedFeature, SparseFeature, open_shape,
    takes_scalar,
};
use codec::tensor_proto::message::from_message;
use proto::tensorflow::{AttrValue, NodeDef, TensorShapeProto, attr_value};

/// How many nodes to follow from an input of a parse node to a constant.
const MAX_HOPS: usize = 16;

/// A `ParseExample` or `ParseExampleV2` node.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedParseNode {
    /// The node's name; within its function, if it is in one.
    pub name: String,
    /// Whether it is in a function.
    pub is_in_function: bool,
    /// The tensor with the serialized examples; an argument's name inside a function.
    pub serialized: String,
    /// Whether it is a `ParseExampleV2`, which takes one example as a scalar too.
    pub takes_scalar: bool,
    /// In the node's order.
    pub features: DeclaredFeatures,
}

/// `tensorflow.GraphDef`, as far as needed.
#[derive(Clone, PartialEq, Message)]
struct GraphHead {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    node: Vec<Bytes>,
    #[prost(message, optional, tag = "2")]
    library: Option<LibraryHead>,
}

/// `tensorflow.FunctionDefLibrary`, as far as needed.
#[derive(Clone, PartialEq, Message)]
struct LibraryHead {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    function: Vec<Bytes>,
}

/// `tensorflow.FunctionDef`, as far as needed.
#[derive(Clone, PartialEq, Message)]
struct FunctionHead {
    #[prost(bytes = "bytes", repeated, tag = "3")]
    node_def: Vec<Bytes>,
}

/// `tensorflow.NodeDef`, as far as needed.
#[derive(Clone, PartialEq, Message)]
struct NodeHead {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    op: String,
}

/// The parse nodes of a serialized `GraphDef`, including its functions. A node whose keys or defaults are
/// not constants is left out; the ONNX file or a map then has to declare its features.
pub(super) fn read(graph: Bytes) -> Result<Vec<SavedParseNode>, DecodeError> {
    let graph = GraphHead::decode(graph)?;
    let mut found = parse_nodes(&graph.node)?;
    for function in graph.library.unwrap_or_default().function {
        let function = FunctionHead::decode(function)?;
        let nodes = parse_nodes(&function.node_def)?.into_iter();
        found.extend(nodes.map(|node| SavedParseNode {
            is_in_function: true,
            ..node
        }));
    }
    Ok(found)
}

fn parse_nodes(nodes: &[Bytes]) -> Result<Vec<SavedParseNode>, DecodeError> {
    let mut parse = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        // For a node with large constants, only its name and operator are decoded here.
        let head = NodeHead::decode(node.clone())?;
        if PARSE_OPS.contains(&head.op.as_str()) {
            parse.push(index);
        }
    }
    if parse.is_empty() {
        return Ok(Vec::new());
    }
    let mut by_name = HashMap::with_capacity(nodes.len());
    for node in nodes {
        by_name.insert(NodeHead::decode(node.clone())?.name, node);
    }
    let scope = Scope { by_name };
    let mut found = Vec::new();
    for index in parse {
        let node = NodeDef::decode(nodes[index].clone())?;
        found.extend(scope.parse_node(&node));
    }
    Ok(found)
}

/// The nodes of a graph or of a function.
struct Scope<'a> {
    by_name: HashMap<String, &'a Bytes>,
}

impl Scope<'_> {
    fn parse_node(&self, node: &NodeDef) -> Option<SavedParseNode> {
        let constant = |input: &str| self.constant(input);
        let keys = ParseKeys::read(&node.op, &node.input, constant, |name| count(node, name))?;
        Some(SavedParseNode {
            name: node.name.clone(),
            is_in_function: false,
            serialized: self.source(node.input.first()?),
            takes_scalar: takes_scalar(&node.op),
            features: self.features(node, keys)?,
        })
    }

    fn features(&self, node: &NodeDef, keys: ParseKeys) -> Option<DeclaredFeatures> {
        let dense_types = types(node, "Tdense");
        let shapes = shapes(node, "dense_shapes");
        let defaults = node.input.get(keys.inputs_before_defaults..)?;
        if dense_types.len() != keys.dense.len() || shapes.len() != keys.dense.len() {
            return None;
        }
        let mut dense = Vec::with_capacity(keys.dense.len());
        for (index, key) in keys.dense.into_iter().enumerate() {
            let default = self.constant(defaults.get(index)?)?;
            let dims: Vec<i64> = shapes[index].dim.iter().map(|dim| dim.size).collect();
            dense.push(DenseFeature {
                key,
                dtype: dense_types[index],
                shape: open_shape(&dims),
                default: Some(default).filter(|default| !default.is_empty()),
            });
        }
        let sparse = keys.sparse.into_iter().zip(types(node, "sparse_types"));
        let ragged = keys
            .ragged
            .into_iter()
            .zip(types(node, "ragged_value_types"));
        let ragged = ragged.zip(types(node, "ragged_split_types"));
        Some(DeclaredFeatures {
            dense,
            sparse: sparse
                .map(|(key, dtype)| SparseFeature { key, dtype })
                .collect(),
            ragged: ragged
                .map(|((key, dtype), splits_dtype)| RaggedFeature {
                    key,
                    dtype,
                    splits_dtype,
                })
                .collect(),
        })
    }

    /// The value of an input if it is a constant, possibly through Reshape and Identity nodes.
    fn constant(&self, input: &str) -> Option<Tensor> {
        let mut input = input.to_owned();
        let mut shape: Option<Vec<usize>> = None;
        for _ in 0..MAX_HOPS {
            let node = self.node(&input)?;
            match node.op.as_str() {
                "Const" => {
                    let Some(attr_value::Value::Tensor(value)) = &node.attr.get("value")?.value
                    else {
                        return None;
                    };
                    let value = from_message(value, None, None).ok()?;
                    return match shape {
                        Some(shape) => value.reshaped(&shape),
                        None => Some(value),
                    };
                }
                "Identity" => {}
                "Reshape" if shape.is_none() => {
                    let dims = self.constant_vector(node.input.get(1)?)?;
                    shape = Some(dims);
                }
                _ => return None,
            }
            input = node.input.first()?.clone();
        }
        None
    }

    /// A shape that is a plain constant; a shape with a dimension of -1 is not resolved.
    fn constant_vector(&self, input: &str) -> Option<Vec<usize>> {
        let node = self.node(input).filter(|node| node.op == "Const")?;
        let Some(attr_value::Value::Tensor(value)) = &node.attr.get("value")?.value else {
            return None;
        };
        let value = from_message(value, None, None).ok()?;
        if let Some(dims) = value.as_slice::<i32>() {
            return dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
        }
        let dims = value.as_slice::<i64>()?;
        dims.iter().map(|&dim| usize::try_from(dim).ok()).collect()
    }

    /// The name of the tensor that reaches `input` through `Identity` nodes.
    fn source(&self, input: &str) -> String {
        let mut input = input.to_owned();
        for _ in 0..MAX_HOPS {
            match self.node(&input) {
                Some(node) if node.op == "Identity" && !node.input.is_empty() => {
                    input = node.input[0].clone();
                }
                _ => break,
            }
        }
        input
    }

    /// The node that makes an input: `name`, `name:0`, or `name:output:0` within functions.
    fn node(&self, input: &str) -> Option<NodeDef> {
        let name = input.split(':').next()?;
        NodeDef::decode((*self.by_name.get(name)?).clone()).ok()
    }
}

/// The value of an integer attribute.
fn count(node: &NodeDef, name: &str) -> Option<usize> {
    match node.attr.get(name)?.value.as_ref()? {
        attr_value::Value::I(count) => usize::try_from(*count).ok(),
        _ => None,
    }
}

fn list<'a>(node: &'a NodeDef, name: &str) -> Option<&'a attr_value::ListValue> {
    match node.attr.get(name)? {
        AttrValue {
            value: Some(attr_value::Value::List(list)),
        } => Some(list),
        _ => None,
    }
}

fn types(node: &NodeDef, name: &str) -> Vec<DataType> {
    let numbers = list(node, name).into_iter().flat_map(|list| &list.r#type);
    numbers
        .filter_map(|&it| DataType::from_number(it))
        .collect()
}

fn shapes(node: &NodeDef, name: &str) -> Vec<TensorShapeProto> {
    list(node, name)
        .map(|list| list.shape.clone())
        .unwrap_or_default()
}
