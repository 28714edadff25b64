//! Reads and writes the protobuf wire format by hand, where generated messages would cost copies
//! or lose bytes.
//!
//! This module knows only the format; the callers know the meaning of the fields.

use bytes::BufMut;

/// Bytes that are not a protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The value of one field on the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1, little-endian.
    Fixed64([u8; 8]),
    /// Wire type 5, little-endian.
    Fixed32([u8; 4]),
    /// A string, bytes, a message, or packed numbers.
    Delimited(&'a [u8]),
}

/// Walks the fields of a message in wire order. Groups are skipped.
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of `message`, from its start.
    pub fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The next field's number and value; `None` at the end.
    #[expect(
        clippy::should_implement_trait,
        reason = "`?` on each field reads better than an iterator of results"
    )]
    pub fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, Malformed> {
        loop {
            if self.rest.is_empty() {
                return Ok(None);
            }
            let (number, wire_type) = self.tag()?;
            let value = match wire_type {
                0 => Value::Varint(read_varint(&mut self.rest)?),
                1 => Value::Fixed64(self.fixed()?),
                2 => Value::Delimited(self.delimited()?),
                3 => {
                    self.skip_group(number)?;
                    continue;
                }
                5 => Value::Fixed32(self.fixed()?),
                _ => return Err(Malformed),
            };
            return Ok(Some((number, value)));
        }
    }

    /// The bytes after the fields that were returned.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn tag(&mut self) -> Result<(u32, u8), Malformed> {
        let tag = u32::try_from(read_varint(&mut self.rest)?).map_err(|_| Malformed)?;
        let number = tag >> 3;
        if number == 0 {
            Err(Malformed)
        } else {
            Ok((number, (tag & 7) as u8))
        }
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (value, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*value)
    }

    fn delimited(&mut self) -> Result<&'a [u8], Malformed> {
        let len = usize::try_from(read_varint(&mut self.rest)?).map_err(|_| Malformed)?;
        let (value, rest) = self.rest.split_at_checked(len).ok_or(Malformed)?;
        self.rest = rest;
        Ok(value)
    }

    /// Skips to the end of a group, iteratively: nesting costs no stack.
    fn skip_group(&mut self, number: u32) -> Result<(), Malformed> {
        /// The default of `CodedInputStream::SetRecursionLimit` in C++.
        const MAX_DEPTH: usize = 100;
        let mut open = vec![number];
        while let Some(&innermost) = open.last() {
            if open.len() > MAX_DEPTH {
                return Err(Malformed);
            }
            let (number, wire_type) = self.tag()?;
            match wire_type {
                0 => drop(read_varint(&mut self.rest)?),
                1 => drop(self.fixed::<8>()?),
                2 => drop(self.delimited()?),
                3 => open.push(number),
                4 if number == innermost => drop(open.pop()),
                5 => drop(self.fixed::<4>()?),
                _ => return Err(Malformed),
            }
        }
        Ok(())
    }
}

/// Takes a varint off the front. More than ten bytes are malformed; bits above 64 are dropped.
///
/// Most tags and lengths have one byte: that case alone is inlined.
#[inline]
pub fn read_varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    match bytes.split_first() {
        Some((&byte, rest)) if byte < 0x80 => {
            *bytes = rest;
            Ok(byte.into())
        }
        _ => read_long_varint(bytes),
    }
}

#[inline(never)]
fn read_long_varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *bytes = &bytes[index + 1..];
            return Ok(value);
        }
    }
    Err(Malformed)
}

/// A string field's text.
pub fn read_string(bytes: &[u8]) -> Result<String, Malformed> {
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|_| Malformed)
}

/// The number of bytes of `value` as a varint.
pub fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Writes a varint.
pub fn put_varint(buf: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        buf.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    buf.put_u8(value as u8);
}

/// The number of bytes of a length-delimited field of `len` bytes, for field numbers below 2048.
pub fn delimited_len(number: u32, len: usize) -> usize {
    varint_len(u64::from(number) << 3) + varint_len(len as u64) + len
}

/// Writes the tag and length of a length-delimited field; `len` bytes have to follow.
pub fn put_delimited(buf: &mut impl BufMut, number: u32, len: usize) {
    put_varint(buf, u64::from(number) << 3 | 2);
    put_varint(buf, len as u64);
}

/// Writes a varint field.
pub fn put_varint_field(buf: &mut impl BufMut, number: u32, value: u64) {
    put_varint(buf, u64::from(number) << 3);
    put_varint(buf, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_have_the_stated_length() {
        for value in [0, 1, 127, 128, 16383, 16384, u64::from(u32::MAX), u64::MAX] {
            let mut buf = Vec::new();
            put_varint(&mut buf, value);
            assert_eq!(buf.len(), varint_len(value));
            assert_eq!(read_varint(&mut buf.as_slice()), Ok(value));
        }
    }

    #[test]
    fn groups_are_skipped_down_to_a_depth() {
        for (depth, expected) in [
            (1, Ok(Some((2, Value::Varint(7))))),
            (100, Ok(Some((2, Value::Varint(7))))),
            (101, Err(Malformed)),
            (500_000, Err(Malformed)),
        ] {
            let mut message = vec![0x0b; depth];
            message.extend(vec![0x0c; depth]);
            message.extend([0x10, 7]);
            assert_eq!(Fields::new(&message).next(), expected, "{depth}");
        }
    }

    #[test]
    fn truncated_fields_are_malformed() {
        for message in [
            &[0x08][..],
            &[0x0a, 5, 1],
            &[0x0d, 0, 0],
            &[0x0b, 0x08],
            &[0x00],
        ] {
            assert_eq!(Fields::new(message).next(), Err(Malformed), "{message:?}");
        }
    }
}
