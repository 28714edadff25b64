//! Walks over JSON text that [`syntax`](super::syntax) has checked: kinds, members, elements.
//!
//! The text is the document: no tree is built, and the start of a value identifies it. On text that
//! was not checked the results are meaningless, but the walk ends and does not panic.

use super::number::Number;
use super::string;
use super::text::{byte_at, skip_whitespace};

/// The kind of value that starts at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonKind {
    /// `null`.
    Null,
    /// `false`.
    False,
    /// `true`.
    True,
    /// `{…}`.
    Object,
    /// `[…]`.
    Array,
    /// `"…"`.
    String,
    /// An integer or a floating-point number.
    Number,
}

impl JsonKind {
    /// The name used in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "Null",
            Self::False => "False",
            Self::True => "True",
            Self::Object => "Object",
            Self::Array => "Array",
            Self::String => "String",
            Self::Number => "Number",
        }
    }
}

/// A position in a checked text.
#[derive(Clone, Copy)]
pub struct Cursor<'a> {
    text: &'a [u8],
    pos: usize,
}

impl<'a> Cursor<'a> {
    /// At the value that starts at `pos`, or after white space there.
    pub fn new(text: &'a [u8], pos: usize) -> Self {
        let pos = skip_whitespace(text, pos);
        Self { text, pos }
    }

    /// The kind of the value here.
    pub fn kind(&self) -> JsonKind {
        match byte_at(self.text, self.pos) {
            b'n' => JsonKind::Null,
            b'f' => JsonKind::False,
            b't' => JsonKind::True,
            b'{' => JsonKind::Object,
            b'[' => JsonKind::Array,
            b'"' => JsonKind::String,
            _ => JsonKind::Number,
        }
    }

    /// The bytes of the string here.
    pub fn string(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Reading cannot fail: the text was checked.
        let _ = string::read(self.text, self.pos, &mut bytes);
        bytes
    }

    /// Appends the bytes of the string here to `out`.
    pub fn read_string(&self, out: &mut Vec<u8>) {
        let _ = string::read(self.text, self.pos, out);
    }

    /// The number here.
    pub fn number(&self) -> Number {
        Number::read(&self.text[self.pos..self.scalar_end()])
    }

    /// The elements of the list here.
    pub fn elements(&self) -> Elements<'a> {
        Elements(self.children())
    }

    /// The members of the object here.
    pub fn members(&self) -> Members<'a> {
        Members(self.children())
    }

    /// The text of a base64 object: one with the single member `b64`, which is a string.
    pub fn base64_text(&self) -> Option<Vec<u8>> {
        if self.kind() != JsonKind::Object {
            return None;
        }
        let mut members = self.members();
        let (key, value) = members.next()?;
        if key != b"b64" || value.kind() != JsonKind::String || members.next().is_some() {
            return None;
        }
        Some(value.string())
    }

    /// After the value here.
    pub fn behind(self) -> Self {
        Self::new(self.text, self.end())
    }

    /// After the bracket here: inside the list it opens, or after the one it closes.
    pub fn step(self) -> Self {
        Self::new(self.text, self.pos + 1)
    }

    /// The value after the comma here, if there is one.
    pub fn after_comma(self) -> Option<Self> {
        (byte_at(self.text, self.pos) == b',').then(|| self.step())
    }

    /// Whether a list or an object ends here.
    pub fn closes(&self) -> bool {
        matches!(byte_at(self.text, self.pos), b']' | b'}')
    }

    /// Where the value here ends.
    fn end(&self) -> usize {
        let mut depth = 0usize;
        let mut pos = self.pos;
        loop {
            match byte_at(self.text, pos) {
                b'[' | b'{' => depth += 1,
                b']' | b'}' => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        return pos + 1;
                    }
                }
                b'"' => {
                    pos = string::skip(self.text, pos).unwrap_or(self.text.len());
                    if depth == 0 {
                        return pos;
                    }
                    continue;
                }
                _ if depth == 0 => return Self { pos, ..*self }.scalar_end(),
                _ if pos >= self.text.len() => return pos,
                _ => {}
            }
            pos += 1;
        }
    }

    /// Where the number or word here ends.
    fn scalar_end(&self) -> usize {
        let rest = &self.text[self.pos..];
        let in_scalar = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'+' | b'-' | b'.');
        self.pos + rest.iter().take_while(|byte| in_scalar(byte)).count()
    }

    fn children(&self) -> Children<'a> {
        Children {
            text: self.text,
            pos: self.pos,
            last: None,
        }
    }
}

/// Steps from one child of a list or an object to the next.
struct Children<'a> {
    text: &'a [u8],
    /// Position of the opening bracket, until the first step.
    pos: usize,
    last: Option<Cursor<'a>>,
}

impl<'a> Children<'a> {
    /// Moves to the next child; `None` at the end.
    fn step(&mut self) -> Option<Cursor<'a>> {
        if let Some(last) = self.last {
            self.pos = skip_whitespace(self.text, last.end());
            if byte_at(self.text, self.pos) != b',' {
                return None;
            }
        }
        let child = Cursor::new(self.text, self.pos + 1);
        let closing = matches!(byte_at(child.text, child.pos), b']' | b'}' | 0);
        (!closing).then_some(child)
    }
}

/// See [`Cursor::elements`].
pub struct Elements<'a>(Children<'a>);

impl<'a> Iterator for Elements<'a> {
    type Item = Cursor<'a>;

    fn next(&mut self) -> Option<Cursor<'a>> {
        self.0.last = Some(self.0.step()?);
        self.0.last
    }
}

/// See [`Cursor::members`].
pub struct Members<'a>(Children<'a>);

impl<'a> Iterator for Members<'a> {
    /// The key's bytes, and its value.
    type Item = (Vec<u8>, Cursor<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let name = self.0.step()?;
        let colon = skip_whitespace(self.0.text, name.end());
        let value = Cursor::new(self.0.text, colon + 1);
        self.0.last = Some(value);
        Some((name.string(), value))
    }
}
