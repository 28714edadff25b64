//! Refuses files that need far more memory decoded than they have bytes.
//!
//! An empty message is two bytes in the file and hundreds in memory. Real models with millions of messages
//! have contents in them. So beyond [`FREE_MESSAGES`], the file must have [`BYTES_PER_MESSAGE`] per message.
//! Decoding then needs at most half a gigabyte, plus sixteen times the file's size, which lists of empty
//! strings can reach.

use codec::proto_wire::{Fields, Malformed, Value};

/// The number of messages that any file is allowed.
const FREE_MESSAGES: usize = 1 << 20;
/// The bytes that the file must have for each further message.
const BYTES_PER_MESSAGE: usize = 64;
/// The limit of prost, which refuses messages nested deeper.
const MAX_DEPTH: usize = 100;

/// The kinds of messages in onnx.proto that hold others.
#[derive(Clone, Copy)]
enum MessageKind {
    Model,
    Graph,
    Function,
    Training,
    Node,
    Attribute,
    Tensor,
    SparseTensor,
    Value,
    Type,
    TensorType,
    ElementType,
    Shape,
    /// Holds no messages, or few.
    Leaf,
}

/// Whether the decoded size of these bytes of a `ModelProto` is bounded. Malformed bytes count as bounded:
/// decoding refuses them.
pub(super) fn is_bounded(model: &[u8]) -> bool {
    let allowed = FREE_MESSAGES.max(model.len() / BYTES_PER_MESSAGE);
    let mut left = allowed;
    count(MessageKind::Model, model, MAX_DEPTH, &mut left).is_some()
}

/// Subtracts the messages within one from `left`; `None` if there are more than that.
fn count(kind: MessageKind, message: &[u8], depth: usize, left: &mut usize) -> Option<()> {
    if depth == 0 {
        return Some(());
    }
    let mut fields = Fields::new(message);
    loop {
        let (number, value) = match fields.next() {
            Ok(Some(field)) => field,
            Ok(None) | Err(Malformed) => return Some(()),
        };
        let (Value::Delimited(inner), Some(kind)) = (value, kind.field(number)) else {
            continue;
        };
        *left = left.checked_sub(1)?;
        if !matches!(kind, MessageKind::Leaf) {
            count(kind, inner, depth - 1, left)?;
        }
    }
}

impl MessageKind {
    /// The kind of the messages in a field; `None` if it holds no messages.
    fn field(self, number: u32) -> Option<Self> {
        Some(match (self, number) {
            (Self::Model, 7) => Self::Graph,
            (Self::Model, 20) => Self::Training,
            (Self::Model, 25) => Self::Function,
            (Self::Model, 8 | 14 | 26) => Self::Leaf,
            (Self::Training, 1 | 2) => Self::Graph,
            (Self::Training, 3 | 4) => Self::Leaf,
            (Self::Graph, 1) | (Self::Function, 7) => Self::Node,
            (Self::Graph, 5) => Self::Tensor,
            (Self::Graph, 11..=13) | (Self::Function, 12) => Self::Value,
            (Self::Graph, 15) => Self::SparseTensor,
            (Self::Graph, 14 | 16) => Self::Leaf,
            (Self::Function, 11) => Self::Attribute,
            (Self::Function, 9 | 14) => Self::Leaf,
            (Self::Node, 5) => Self::Attribute,
            (Self::Node, 9 | 10) => Self::Leaf,
            (Self::Attribute, 5 | 10) => Self::Tensor,
            (Self::Attribute, 6 | 11) => Self::Graph,
            (Self::Attribute, 14 | 15) => Self::Type,
            (Self::Attribute, 22 | 23) => Self::SparseTensor,
            (Self::SparseTensor, 1 | 2) => Self::Tensor,
            (Self::Tensor, 3 | 13 | 16) => Self::Leaf,
            (Self::Value, 2) => Self::Type,
            (Self::Value, 4) => Self::Leaf,
            (Self::Type, 1 | 8) => Self::TensorType,
            (Self::Type, 4 | 5 | 9) => Self::ElementType,
            (Self::Type, 7) => Self::Leaf,
            (Self::TensorType, 2) => Self::Shape,
            // A sequence's or an optional's type is field 1, a map's field 2.
            (Self::ElementType, 1 | 2) => Self::Type,
            (Self::Shape, 1) => Self::Leaf,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use proto::onnx::{AttributeProto, GraphProto, ModelProto, NodeProto};

    fn model(graph: GraphProto) -> Vec<u8> {
        let model = ModelProto {
            graph: Some(graph),
            ..ModelProto::default()
        };
        model.encode_to_vec()
    }

    fn nodes(count: usize, node: &NodeProto) -> Vec<u8> {
        model(GraphProto {
            node: vec![node.clone(); count],
            ..GraphProto::default()
        })
    }

    #[test]
    fn empty_nodes_by_the_million_are_refused() {
        assert!(is_bounded(&nodes(1000, &NodeProto::default())));
        assert!(!is_bounded(&nodes(
            FREE_MESSAGES + 1,
            &NodeProto::default()
        )));
    }

    #[test]
    fn empty_attributes_of_nested_graphs_are_refused() {
        let inner = NodeProto {
            attribute: vec![AttributeProto::default(); FREE_MESSAGES],
            ..NodeProto::default()
        };
        let outer = AttributeProto {
            g: Some(GraphProto {
                node: vec![inner],
                ..GraphProto::default()
            }),
            ..AttributeProto::default()
        };
        let node = NodeProto {
            attribute: vec![outer],
            ..NodeProto::default()
        };
        assert!(!is_bounded(&nodes(1, &node)));
    }

    #[test]
    fn many_nodes_that_say_something_are_allowed() {
        let node = NodeProto {
            name: Some("a name that is as long as those of converters often are, or longer".into()),
            ..NodeProto::default()
        };
        assert!(is_bounded(&nodes(FREE_MESSAGES + 1, &node)));
    }

    #[test]
    fn malformed_bytes_are_left_to_the_decoder() {
        assert!(is_bounded(b"\xff\xff\xff not a model"));
    }
}
