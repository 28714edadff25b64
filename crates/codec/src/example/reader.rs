//! Reads the protobuf wire format as TensorFlow's parser does, without a message tree.
//!
//! As in `CodedInputStream::PushLimit`, a length that reaches beyond the surrounding message is cut
//! to it rather than refused; only bytes that are then missing are an error. Nothing here can panic.
//!
//! Not here: the lists of values inside a feature (`list`); reading messages without these
//! leniencies (`proto_wire`).

use crate::proto_wire::read_varint;

/// Tags of this format's fields: the field's number and its wire type, always one byte.
pub(super) mod tag {
    /// Field 1 as a varint.
    pub(in super::super) const VARINT_1: u8 = 1 << 3;
    /// Field 1 with a length in front.
    pub(in super::super) const DELIMITED_1: u8 = (1 << 3) | 2;
    /// Field 2 with a length in front.
    pub(in super::super) const DELIMITED_2: u8 = (2 << 3) | 2;
    /// Field 3 with a length in front.
    pub(in super::super) const DELIMITED_3: u8 = (3 << 3) | 2;
    /// Field 1 as four bytes.
    pub(in super::super) const FIXED32_1: u8 = (1 << 3) | 5;
}

/// The unread rest of a part of a message.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// Whether its length reached beyond the surrounding message.
    is_cut: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            is_cut: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Skips `tag` if it comes next, and returns whether it did.
    pub(super) fn expect_tag(&mut self, tag: u8) -> bool {
        match self.rest.split_first() {
            Some((&first, rest)) if first == tag => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// A number in the format's variable-length encoding. Bits past the 64th are dropped.
    pub(super) fn varint(&mut self) -> Option<u64> {
        read_varint(&mut self.rest).ok()
    }

    /// Exactly `count` bytes.
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    /// A length and that many bytes.
    pub(super) fn delimited(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }

    /// A length and that many bytes, or all remaining bytes if there are fewer.
    pub(super) fn section(&mut self) -> Option<Reader<'a>> {
        let length = self.length()?;
        let is_cut = length > self.rest.len();
        let rest = self.take(length.min(self.rest.len()))?;
        Some(Reader { rest, is_cut })
    }

    /// As TensorFlow does for lengths and tags, keeps the low 32 bits of a longer varint.
    fn length(&mut self) -> Option<usize> {
        self.varint().map(|length| length as u32 as usize)
    }

    /// Skips a field that is not needed, tag included; groups are not supported.
    fn skip_field(&mut self) -> Option<()> {
        match self.varint()? & 7 {
            0 => self.varint().map(drop),
            1 => self.take(8).map(drop),
            2 => self.section().map(drop),
            5 => self.take(4).map(drop),
            _ => None,
        }
    }
}

/// Calls `visit` with the key and the serialized `Feature` of every map entry, in order.
///
/// Returns `None` if `serialized` is not one or more `Example` messages.
pub(super) fn visit_features<'a>(
    serialized: &'a [u8],
    mut visit: impl FnMut(&'a [u8], &'a [u8]),
) -> Option<()> {
    let mut example = Reader::new(serialized);
    while !example.is_empty() {
        if !example.expect_tag(tag::DELIMITED_1) {
            example.skip_field()?;
            continue;
        }
        let mut features = example.section()?;
        while !features.is_empty() {
            if !features.expect_tag(tag::DELIMITED_1) {
                return None;
            }
            let (key, feature) = map_entry(features.section()?)?;
            visit(key, feature);
        }
    }
    Some(())
}

/// Key and value of a map entry, in either order.
///
/// An absent key or value counts as empty, because some encoders leave empty ones out. TensorFlow
/// refuses such bytes only inside a string tensor: it serializes an RPC's examples again before it
/// reads them. An entry that was cut off is an error.
fn map_entry(mut entry: Reader<'_>) -> Option<(&[u8], &[u8])> {
    let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
    for _ in 0..2 {
        if entry.is_empty() && !entry.is_cut {
            break;
        }
        match u8::try_from(entry.varint()? as u32).ok()? {
            tag::DELIMITED_1 => key = entry.delimited()?,
            tag::DELIMITED_2 => value = entry.delimited()?,
            _ => return None,
        }
    }
    entry.is_empty().then_some((key, value))
}
