//! JSON strings: reads and writes them as RapidJSON does.
//!
//! Bytes pass through whether they are UTF-8 or not, as in TensorFlow Serving.

use super::syntax_error::SyntaxError;
use super::text::byte_at;

const ESCAPE_INVALID: &str = "Invalid escape character in string.";
const HEX_INVALID: &str = "Incorrect hex digit after \\u escape in string.";
const SURROGATE_INVALID: &str = "The surrogate pair in string is invalid.";
const MISS_QUOTE: &str = "Missing a closing quotation mark in string.";

/// Returns the position after the closing quote of the string whose opening quote is at `pos`.
#[inline]
pub(super) fn skip(text: &[u8], pos: usize) -> Result<usize, SyntaxError> {
    scan(text, pos, &mut ())
}

/// As `skip`, and also appends the string's unescaped bytes to `out`.
#[inline]
pub fn read(text: &[u8], pos: usize, out: &mut Vec<u8>) -> Result<usize, SyntaxError> {
    scan(text, pos, out)
}

/// Receives the contents of a string while they are read.
trait Output {
    fn run(&mut self, bytes: &[u8]);
}

impl Output for () {
    fn run(&mut self, _: &[u8]) {}
}

impl Output for Vec<u8> {
    fn run(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

fn scan(text: &[u8], pos: usize, out: &mut impl Output) -> Result<usize, SyntaxError> {
    let mut pos = pos + 1;
    loop {
        let end = plain_end(text, pos);
        out.run(&text[pos..end]);
        pos = end;
        match byte_at(text, pos) {
            b'"' => return Ok(pos + 1),
            b'\\' => pos = escape(text, pos, out)?,
            0 => return Err(SyntaxError::new(MISS_QUOTE, pos)),
            _ => return Err(SyntaxError::new(ESCAPE_INVALID, pos)),
        }
    }
}

/// The first position from `pos` on that holds a quote, a backslash or a control character, or
/// the end of `text`.
#[inline]
pub fn plain_end(text: &[u8], mut pos: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    while let Some((chunk, _)) = text.get(pos..).and_then(<[u8]>::split_first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        let quote = word ^ (ONES * u64::from(b'"'));
        let backslash = word ^ (ONES * u64::from(b'\\'));
        // The lowest marked byte is right; a borrow can wrongly mark only bytes above it.
        let marks = (word.wrapping_sub(ONES * 0x20) & !word)
            | (quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash);
        let marks = marks & HIGH;
        if marks != 0 {
            return pos + (marks.trailing_zeros() / 8) as usize;
        }
        pos += 8;
    }
    while pos < text.len() && !matches!(text[pos], b'"' | b'\\' | 0..0x20) {
        pos += 1;
    }
    pos
}

/// Reads the escape whose backslash is at `start`. All of its errors are reported at that position.
fn escape(text: &[u8], start: usize, out: &mut impl Output) -> Result<usize, SyntaxError> {
    let plain = match byte_at(text, start + 1) {
        byte @ (b'"' | b'/' | b'\\') => byte,
        b'b' => 0x08,
        b'f' => 0x0C,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'u' => return unicode_escape(text, start, out),
        _ => return Err(SyntaxError::new(ESCAPE_INVALID, start)),
    };
    out.run(&[plain]);
    Ok(start + 2)
}

fn unicode_escape(text: &[u8], start: usize, out: &mut impl Output) -> Result<usize, SyntaxError> {
    let invalid_hex = SyntaxError::new(HEX_INVALID, start);
    let invalid_surrogate = SyntaxError::new(SURROGATE_INVALID, start);
    let unit = hex4(text, start + 2).ok_or(invalid_hex)?;
    if !(0xD800..0xDC00).contains(&unit) {
        encode_utf8(unit, out);
        return Ok(start + 6);
    }
    if byte_at(text, start + 6) != b'\\' || byte_at(text, start + 7) != b'u' {
        return Err(invalid_surrogate);
    }
    let low = hex4(text, start + 8).ok_or(invalid_hex)?;
    if !(0xDC00..0xE000).contains(&low) {
        return Err(invalid_surrogate);
    }
    encode_utf8(0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00), out);
    Ok(start + 12)
}

fn hex4(text: &[u8], pos: usize) -> Option<u32> {
    (pos..pos + 4).try_fold(0, |value, pos| {
        let digit = char::from(byte_at(text, pos)).to_digit(16)?;
        Some(value << 4 | digit)
    })
}

/// Encodes a code point as UTF-8. Like RapidJSON, also encodes a lone low surrogate, as three bytes
/// that are not valid UTF-8.
fn encode_utf8(point: u32, out: &mut impl Output) {
    let tail = |shift: u32| 0x80 | (point >> shift & 0x3F) as u8;
    match point {
        0..0x80 => out.run(&[point as u8]),
        0x80..0x800 => out.run(&[0xC0 | (point >> 6) as u8, tail(0)]),
        0x800..0x1_0000 => out.run(&[0xE0 | (point >> 12) as u8, tail(6), tail(0)]),
        _ => out.run(&[0xF0 | (point >> 18) as u8, tail(12), tail(6), tail(0)]),
    }
}

/// Appends `bytes` as a JSON string, quotes included, escaped as RapidJSON's writer does.
pub fn write(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut pos = 0;
    loop {
        let end = plain_end(bytes, pos);
        out.extend_from_slice(&bytes[pos..end]);
        let Some(&byte) = bytes.get(end) else { break };
        write_escaped(byte, out);
        pos = end + 1;
    }
    out.push(b'"');
}

fn write_escaped(byte: u8, out: &mut Vec<u8>) {
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x0C => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            out.extend_from_slice(format!("\\u{byte:04X}").as_bytes());
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}
