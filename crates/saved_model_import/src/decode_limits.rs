//! Refuses a meta graph that needs far more memory decoded than it has bytes.
//!
//! An empty message is two bytes in the file and hundreds in memory. So the memory of all messages is added up
//! before they are decoded, by the size of each kind. Real graphs, whose attributes are small messages, take up to
//! thirty times their size in the file.
//!
//! Not here: the same for ONNX files (`onnx`).

use std::mem::size_of;

use codec::proto_wire::{Fields, Malformed, Value};
use proto::tensorflow::{
    AttrValue, FunctionDef, NodeDef, OpDef, SavedConcreteFunction, SavedObject, StructuredValue,
    TensorInfo, TensorProto, TensorShapeProto,
};

/// The memory that any file is allowed.
const FREE_BYTES: usize = 1 << 29;
/// The memory that it is allowed for each of its bytes.
const BYTES_PER_BYTE: usize = 48;
/// The limit of prost, which refuses messages nested deeper.
const MAX_DEPTH: usize = 100;

/// The kinds of messages that hold others, and some groups of those that do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    MetaGraph,
    MetaInfo,
    OpList,
    Op,
    Argument,
    ArgumentAttribute,
    Graph,
    Library,
    Function,
    FunctionArguments,
    ArgumentAttributes,
    Node,
    AttributeEntry,
    Attribute,
    AttributeList,
    Call,
    FullType,
    Shape,
    Tensor,
    Handle,
    HandleShape,
    Variant,
    CollectionEntry,
    Collection,
    AnyList,
    SignatureEntry,
    Signature,
    InfoEntry,
    Info,
    Composite,
    TensorEntry,
    Objects,
    Object,
    SavedFunction,
    SavedFunctionSpec,
    SavedVariable,
    SavedValue,
    ConcreteEntry,
    Concrete,
    Structured,
    StructuredList,
    StructuredEntry,
    StructuredNamed,
    Spec,
    BoundedSpec,
    TypeSpec,
    /// Holds no messages, or few.
    Leaf,
}

/// Whether the memory that these bytes of a `MetaGraphDef` take is bounded. Malformed bytes count as bounded:
/// decoding refuses them.
pub(crate) fn is_bounded(meta_graph: &[u8]) -> bool {
    is_bounded_by(meta_graph, FREE_BYTES)
}

fn is_bounded_by(meta_graph: &[u8], free: usize) -> bool {
    let allowed = meta_graph.len().saturating_mul(BYTES_PER_BYTE);
    let mut left = allowed.saturating_add(free);
    count(Kind::MetaGraph, meta_graph, MAX_DEPTH, &mut left).is_some()
}

/// Subtracts the memory of the messages within one from `left`; `None` if it does not suffice.
fn count(kind: Kind, message: &[u8], depth: usize, left: &mut usize) -> Option<()> {
    if depth == 0 {
        return Some(());
    }
    let mut fields = Fields::new(message);
    loop {
        let (number, value) = match fields.next() {
            Ok(Some(field)) => field,
            Ok(None) | Err(Malformed) => return Some(()),
        };
        let Value::Delimited(inner) = value else {
            continue;
        };
        let Some(kind) = kind.field(number) else {
            // A string, in the largest case.
            *left = left.checked_sub(size_of::<String>())?;
            continue;
        };
        *left = left.checked_sub(kind.memory())?;
        if kind != Kind::Leaf {
            count(kind, inner, depth - 1, left)?;
        }
    }
}

impl Kind {
    /// The memory of a message without its contents.
    fn memory(self) -> usize {
        match self {
            Self::Node => size_of::<NodeDef>(),
            Self::Function | Self::Library => size_of::<FunctionDef>(),
            Self::Op => size_of::<OpDef>(),
            Self::Tensor | Self::TensorEntry => size_of::<TensorProto>(),
            Self::Attribute | Self::AttributeEntry => size_of::<AttrValue>(),
            Self::Shape => size_of::<TensorShapeProto>(),
            Self::Info | Self::InfoEntry => size_of::<TensorInfo>(),
            Self::Object => size_of::<SavedObject>(),
            Self::Concrete | Self::ConcreteEntry => size_of::<SavedConcreteFunction>(),
            Self::Structured | Self::StructuredEntry => size_of::<StructuredValue>(),
            Self::Leaf => 64,
            _ => 128,
        }
    }

    /// The kind of the messages in a field; `None` if it holds no messages.
    fn field(self, number: u32) -> Option<Self> {
        self.of_graph(number)
            .or_else(|| self.of_description(number))
    }

    /// Within graphs, functions and tensors.
    fn of_graph(self, number: u32) -> Option<Self> {
        Some(match (self, number) {
            (Self::MetaGraph, 2) => Self::Graph,
            (Self::Graph, 1) | (Self::Function, 3) => Self::Node,
            (Self::Graph, 2) => Self::Library,
            (Self::Graph, 4 | 5) | (Self::Library, 2 | 3) | (Self::Node, 6) => Self::Leaf,
            (Self::Library, 1) => Self::Function,
            (Self::Function, 1) | (Self::OpList, 1) => Self::Op,
            (Self::Function, 4 | 6 | 8) => Self::Leaf,
            (Self::Function, 7) => Self::FunctionArguments,
            (Self::FunctionArguments, 2) => Self::ArgumentAttributes,
            (Self::Node | Self::Function, 5) | (Self::Call, 2) | (Self::ArgumentAttributes, 1) => {
                Self::AttributeEntry
            }
            (Self::AttributeEntry, 2) | (Self::ArgumentAttribute, 3 | 7) => Self::Attribute,
            (Self::Op, 2 | 3) => Self::Argument,
            (Self::Op, 4) => Self::ArgumentAttribute,
            (Self::Argument, 7) | (Self::Handle, 6) => Self::HandleShape,
            (Self::Node, 7) | (Self::Argument, 17) | (Self::FullType, 2) => Self::FullType,
            (Self::Attribute, 1) => Self::AttributeList,
            (Self::Attribute | Self::AttributeList, 7) | (Self::Tensor | Self::HandleShape, 2) => {
                Self::Shape
            }
            (Self::Attribute | Self::AttributeList, 8) | (Self::Variant, 3) => Self::Tensor,
            (Self::Attribute, 10) | (Self::AttributeList, 9) => Self::Call,
            (Self::Tensor, 14) => Self::Handle,
            (Self::Tensor, 15) => Self::Variant,
            (Self::Op, 8) | (Self::Shape, 2) => Self::Leaf,
            _ => return None,
        })
    }

    /// Within signatures, collections and objects.
    fn of_description(self, number: u32) -> Option<Self> {
        Some(match (self, number) {
            (Self::MetaGraph, 1) => Self::MetaInfo,
            (Self::MetaInfo, 2) => Self::OpList,
            (Self::MetaGraph, 3 | 6) | (Self::MetaInfo, 3 | 9) => Self::Leaf,
            (Self::MetaGraph, 4) => Self::CollectionEntry,
            (Self::CollectionEntry, 2) => Self::Collection,
            (Self::Collection, 5) => Self::AnyList,
            (Self::Collection, 1..=4) | (Self::AnyList, 1) => Self::Leaf,
            (Self::MetaGraph, 5) => Self::SignatureEntry,
            (Self::SignatureEntry, 2) => Self::Signature,
            (Self::Signature, 1 | 2) => Self::InfoEntry,
            (Self::Signature, 4) => Self::TensorEntry,
            (Self::TensorEntry, 2) => Self::Tensor,
            (Self::InfoEntry, 2) | (Self::Composite, 2) => Self::Info,
            (Self::Info, 3) => Self::Shape,
            (Self::Info, 4) => Self::Leaf,
            (Self::Info, 5) => Self::Composite,
            (Self::MetaGraph, 7) => Self::Objects,
            (Self::Objects, 1) => Self::Object,
            (Self::Objects, 2) => Self::ConcreteEntry,
            (Self::ConcreteEntry, 2) => Self::Concrete,
            (Self::Object, 6) => Self::SavedFunction,
            (Self::Object, 7) => Self::SavedVariable,
            (Self::Object, 12) => Self::SavedValue,
            (Self::Object, _) => Self::Leaf,
            (Self::SavedFunction, 2) => Self::SavedFunctionSpec,
            (Self::SavedVariable, 2) => Self::Shape,
            (Self::SavedVariable, 8) => Self::SavedVariable,
            (Self::Concrete, 3 | 4)
            | (Self::SavedFunctionSpec, 1 | 3 | 5)
            | (Self::StructuredList, 1)
            | (Self::StructuredEntry, 2)
            | (Self::TypeSpec, 2) => Self::Structured,
            (Self::Composite, 1) | (Self::Structured, 34) => Self::TypeSpec,
            (Self::Structured, 31) | (Self::Spec, 2) | (Self::BoundedSpec, 2) => Self::Shape,
            (Self::Structured, 33) => Self::Spec,
            (Self::Structured, 35) => Self::BoundedSpec,
            (Self::BoundedSpec, 4 | 5) => Self::Tensor,
            (Self::Structured, 51 | 52) => Self::StructuredList,
            (Self::Structured, 53) => Self::StructuredNamed,
            (Self::Structured, 54) => Self::StructuredNamed,
            (Self::StructuredNamed, 1 | 2) => Self::StructuredEntry,
            (Self::Structured, _) => Self::Leaf,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use proto::tensorflow::{GraphDef, MetaGraphDef, attr_value};

    use super::*;

    fn is_bounded(meta_graph: &[u8]) -> bool {
        is_bounded_by(meta_graph, 1 << 20)
    }

    fn encoded(nodes: Vec<NodeDef>) -> Vec<u8> {
        let meta_graph = MetaGraphDef {
            graph_def: Some(GraphDef {
                node: nodes,
                ..GraphDef::default()
            }),
            ..MetaGraphDef::default()
        };
        meta_graph.encode_to_vec()
    }

    #[test]
    fn empty_nodes_in_great_numbers_are_refused() {
        assert!(is_bounded(&encoded(vec![NodeDef::default(); 1000])));
        assert!(!is_bounded(&encoded(vec![NodeDef::default(); 10_000])));
    }

    #[test]
    fn empty_tensors_in_great_numbers_are_refused() {
        let node = |count| {
            let list = attr_value::ListValue {
                tensor: vec![TensorProto::default(); count],
                ..attr_value::ListValue::default()
            };
            let value = AttrValue {
                value: Some(attr_value::Value::List(list.into())),
            };
            NodeDef {
                attr: [("values".to_owned(), value)].into(),
                ..NodeDef::default()
            }
        };
        assert!(is_bounded(&encoded(vec![node(1000)])));
        assert!(!is_bounded(&encoded(vec![node(1000); 10])));
    }

    #[test]
    fn malformed_bytes_are_left_to_the_decoder() {
        assert!(is_bounded(&[0xff; 100]));
        assert!(is_bounded(b""));
    }
}
