//! Small steps through unchecked text for the fast path; `None` for anything unexpected.

use std::borrow::Cow;

use super::column::Scan;
use codec::json::text::{byte_at, skip_whitespace};
use codec::json::{string, syntax};

/// A position in unchecked text.
pub(super) struct Reader<'a> {
    pub(super) text: &'a [u8],
    pub(super) pos: usize,
}

impl<'a> Reader<'a> {
    /// The next byte that is not white space.
    #[inline(always)]
    pub(super) fn peek(&mut self) -> u8 {
        if byte_at(self.text, self.pos) <= b' ' {
            self.pos = skip_whitespace(self.text, self.pos);
        }
        byte_at(self.text, self.pos)
    }

    #[inline(always)]
    pub(super) fn expect(&mut self, byte: u8) -> Option<()> {
        if self.peek() != byte {
            return None;
        }
        self.pos += 1;
        Some(())
    }

    /// Whether a comma follows rather than the closing `end`.
    #[inline(always)]
    pub(super) fn comma_or(&mut self, end: u8) -> Option<bool> {
        let byte = self.peek();
        if byte != b',' && byte != end {
            return None;
        }
        self.pos += 1;
        Some(byte == b',')
    }

    /// A key, and its colon. A key with a zero byte is left to the exact path.
    #[inline(always)]
    pub(super) fn key(&mut self) -> Option<Cow<'a, [u8]>> {
        self.expect(b'"')?;
        let start = self.pos;
        let end = string::plain_end(self.text, start);
        let key = if byte_at(self.text, end) == b'"' {
            self.pos = end + 1;
            Cow::Borrowed(self.text.get(start..end)?)
        } else {
            self.escaped_key(start - 1)?
        };
        self.expect(b':')?;
        Some(key)
    }

    #[cold]
    fn escaped_key(&mut self, quote: usize) -> Option<Cow<'a, [u8]>> {
        let mut key = Vec::new();
        self.pos = string::read(self.text, quote, &mut key).ok()?;
        (!key.contains(&0)).then_some(Cow::Owned(key))
    }

    pub(super) fn string(&mut self) -> Option<String> {
        if self.peek() != b'"' {
            return None;
        }
        let mut bytes = Vec::new();
        self.pos = string::read(self.text, self.pos, &mut bytes).ok()?;
        String::from_utf8(bytes).ok()
    }

    pub(super) fn strings(&mut self) -> Option<Vec<String>> {
        let mut strings = Vec::new();
        self.expect(b'[')?;
        if self.peek() == b']' {
            self.pos += 1;
            return Some(strings);
        }
        loop {
            strings.push(self.string()?);
            if !self.comma_or(b']')? {
                return Some(strings);
            }
        }
    }

    pub(super) fn skip_value(&mut self) -> Option<()> {
        self.pos = syntax::check_value(self.text, self.pos).ok()?;
        Some(())
    }

    /// Reads leaves up to the closing bracket of their list and returns their number.
    #[inline(always)]
    pub(super) fn leaves(&mut self, leaves: &mut impl Scan) -> Option<usize> {
        let mut count = 0;
        loop {
            self.pos = leaves.scan(self.text, self.pos)?;
            count += 1;
            match self.peek() {
                b',' => self.pos += 1,
                b']' => return Some(count),
                _ => return None,
            }
            self.peek();
        }
    }
}
