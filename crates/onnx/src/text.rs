//! Text of an ONNX file that is not UTF-8.
//!
//! The format is proto2, where C++ accepts any bytes as a string, and so does ONNX Runtime. Here U+FFFD
//! replaces bytes that are not UTF-8, in the same way everywhere in the file; two different texts stay
//! different.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::LazyLock;

use bytes::Buf;
use prost::Message;
use prost_reflect::{DescriptorPool, Kind, MessageDescriptor};

use codec::proto_wire::{Fields, Value, put_varint};
use proto::ONNX_DESCRIPTORS;
use proto::onnx::ModelProto;

/// The limit of prost, which refuses messages nested deeper.
const MAX_DEPTH: usize = 100;
/// The wire type of strings, bytes and messages.
const DELIMITED: u64 = 2;

/// The file's bytes for each text that was changed here.
pub(super) type NotUtf8 = HashMap<String, Vec<u8>>;

static MODEL: LazyLock<Option<MessageDescriptor>> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(ONNX_DESCRIPTORS).ok()?;
    pool.get_message_by_name("onnx.ModelProto")
});

/// Decodes a model with text that is not UTF-8, and also returns the bytes of that text; `None` if the model
/// is malformed in some other way.
pub(super) fn decode(model: &[u8]) -> Option<(ModelProto, NotUtf8)> {
    let descriptor = MODEL.as_ref()?;
    let mut taken = HashSet::new();
    rewritten(descriptor, model, MAX_DEPTH, &mut |text| {
        let text = std::str::from_utf8(text).ok()?;
        if text.contains(char::REPLACEMENT_CHARACTER) {
            taken.insert(text.to_owned());
        }
        None
    });
    let mut texts: HashMap<Vec<u8>, String> = HashMap::new();
    let pieces = rewritten(descriptor, model, MAX_DEPTH, &mut |text| {
        if std::str::from_utf8(text).is_ok() {
            return None;
        }
        let known = texts.get(text).cloned();
        let new = known.unwrap_or_else(|| unused(&String::from_utf8_lossy(text), &mut taken));
        texts.insert(text.to_vec(), new.clone());
        Some(new.into_bytes())
    })?;
    let decoded = ModelProto::decode(Pieces::new(pieces)).ok()?;
    let not_utf8 = texts.into_iter().map(|(bytes, text)| (text, bytes));
    Some((decoded, not_utf8.collect()))
}

/// A text that differs from all others, made from `wish`.
fn unused(wish: &str, taken: &mut HashSet<String>) -> String {
    let mut text = wish.to_owned();
    let mut number = 0;
    while !taken.insert(text.clone()) {
        number += 1;
        text = format!("{wish}.{number}");
    }
    text
}

/// A part of a message, either unchanged or newly made.
enum Piece<'a> {
    Kept(&'a [u8]),
    Made(Vec<u8>),
}

impl Piece<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Kept(bytes) => bytes,
            Self::Made(bytes) => bytes,
        }
    }
}

/// A message with strings replaced: `replace` returns the new one for each. `None` if all stay, and if the
/// message is malformed.
fn rewritten<'a>(
    message: &MessageDescriptor,
    bytes: &'a [u8],
    depth: usize,
    replace: &mut dyn FnMut(&'a [u8]) -> Option<Vec<u8>>,
) -> Option<Vec<Piece<'a>>> {
    let mut fields = Fields::new(bytes);
    let mut pieces = Vec::new();
    let mut kept_from = 0;
    loop {
        let start = bytes.len() - fields.rest().len();
        let Some((number, value)) = fields.next().ok()? else {
            break;
        };
        let (Value::Delimited(inner), Some(field)) = (value, message.get_field(number)) else {
            continue;
        };
        let replaced = match field.kind() {
            Kind::String => replace(inner).map(|text| vec![Piece::Made(text)]),
            Kind::Message(kind) if depth > 0 => rewritten(&kind, inner, depth - 1, replace),
            _ => None,
        };
        let Some(replaced) = replaced else {
            continue;
        };
        let len: usize = replaced.iter().map(|it| it.bytes().len()).sum();
        let mut head = Vec::new();
        put_varint(&mut head, u64::from(number) << 3 | DELIMITED);
        put_varint(&mut head, len as u64);
        pieces.extend([Piece::Kept(&bytes[kept_from..start]), Piece::Made(head)]);
        pieces.extend(replaced);
        kept_from = bytes.len() - fields.rest().len();
    }
    if pieces.is_empty() {
        return None;
    }
    pieces.push(Piece::Kept(&bytes[kept_from..]));
    Some(pieces)
}

/// Pieces presented as one buffer, so that weights are not copied into another first.
struct Pieces<'a> {
    /// The first piece, if any, has unread bytes.
    pieces: VecDeque<Piece<'a>>,
    /// The number of bytes of the first piece that are already read.
    read: usize,
    remaining: usize,
}

impl<'a> Pieces<'a> {
    fn new(pieces: Vec<Piece<'a>>) -> Self {
        let pieces = pieces.into_iter().filter(|it| !it.bytes().is_empty());
        let pieces: VecDeque<Piece<'a>> = pieces.collect();
        let remaining = pieces.iter().map(|it| it.bytes().len()).sum();
        Self {
            pieces,
            read: 0,
            remaining,
        }
    }
}

impl Buf for Pieces<'_> {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        let first = self.pieces.front();
        first.map_or(&[], |piece| &piece.bytes()[self.read..])
    }

    fn advance(&mut self, count: usize) {
        self.remaining = self.remaining.saturating_sub(count);
        self.read += count;
        while let Some(piece) = self.pieces.front()
            && self.read >= piece.bytes().len()
        {
            self.read -= piece.bytes().len();
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::onnx::{GraphProto, NodeProto, TensorProto, ValueInfoProto};

    /// A model with a text in each kind of place; `~` is a byte that is not UTF-8.
    fn encoded(model: &ModelProto) -> Vec<u8> {
        let mut bytes = model.encode_to_vec();
        for byte in &mut bytes {
            if *byte == b'~' {
                *byte = 0xff;
            }
        }
        bytes
    }

    fn value(name: &str) -> ValueInfoProto {
        ValueInfoProto {
            name: Some(name.to_owned()),
            ..ValueInfoProto::default()
        }
    }

    #[test]
    fn one_text_is_the_same_everywhere_and_two_stay_two() {
        let node = NodeProto {
            input: vec!["x~".to_owned(), "w".to_owned()],
            output: vec!["~y".to_owned()],
            doc_string: Some("caf~".to_owned()),
            ..NodeProto::default()
        };
        let weights = TensorProto {
            name: Some("w".to_owned()),
            raw_data: Some(vec![b'~'; 300].into()),
            ..TensorProto::default()
        };
        let graph = GraphProto {
            input: vec![value("x~"), value("x\u{fffd}")],
            output: vec![value("~y")],
            node: vec![node],
            initializer: vec![weights],
            ..GraphProto::default()
        };
        let model = ModelProto {
            producer_name: Some("~".to_owned()),
            graph: Some(graph),
            ..ModelProto::default()
        };
        let (decoded, not_utf8) = decode(&encoded(&model)).unwrap();
        assert_eq!(decoded.producer_name(), "\u{fffd}");
        let graph = decoded.graph.unwrap();
        let names: Vec<&str> = graph.input.iter().map(|it| it.name()).collect();
        assert_eq!(names, ["x\u{fffd}.1", "x\u{fffd}"]);
        assert_eq!(graph.node[0].input, ["x\u{fffd}.1", "w"]);
        assert_eq!(graph.node[0].output[0], graph.output[0].name());
        assert_eq!(graph.node[0].doc_string(), "caf\u{fffd}");
        let raw = graph.initializer[0].raw_data.as_ref().unwrap();
        assert_eq!(raw, &vec![0xff; 300]);
        assert_eq!(not_utf8["caf\u{fffd}"], b"caf\xff");
    }

    #[test]
    fn what_is_malformed_otherwise_is_not_decoded() {
        assert!(decode(b"\xff\xff not a model").is_none());
        let model = ModelProto {
            producer_name: Some("~".to_owned()),
            ..ModelProto::default()
        };
        let mut cut = encoded(&model);
        cut.push(0x3a);
        assert!(decode(&cut).is_none());
    }
}
