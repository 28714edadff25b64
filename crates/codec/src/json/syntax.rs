//! Checks JSON text as RapidJSON 1.1.0 does, with its error texts and offsets.
//!
//! TensorFlow Serving reads every body with that library (iterative, NaN and infinities allowed, stop
//! after the first value), so its definition of JSON, its quirks and its messages are part of the
//! protocol. Needs one bit of memory per nesting level; nothing recurses.
//!
//! Not here: the meaning of the values (`wire::tfs::json`).

use super::string;
use super::syntax_error::SyntaxError;
use super::text::{byte_at, digit_at, skip_whitespace};

const DOCUMENT_EMPTY: &str = "The document is empty.";
const VALUE_INVALID: &str = "Invalid value.";
const MISS_NAME: &str = "Missing a name for object member.";
const MISS_COLON: &str = "Missing a colon after a name of object member.";
const MISS_COMMA_OR_CURLY: &str = "Missing a comma or '}' after an object member.";
const MISS_COMMA_OR_SQUARE: &str = "Missing a comma or ']' after an array element.";
const NUMBER_TOO_BIG: &str = "Number too big to be stored in double.";
const MISS_FRACTION: &str = "Miss fraction part in number.";
const MISS_EXPONENT: &str = "Miss exponent in number.";

/// The last token, which decides which tokens are allowed next, and the error for any other.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Start,
    ObjectStart,
    Name,
    Colon,
    MemberValue,
    MemberComma,
    ArrayStart,
    Element,
    ElementComma,
}

impl State {
    /// The state after a value that began in this one.
    fn after_value(self) -> Self {
        match self {
            Self::ArrayStart | Self::ElementComma => Self::Element,
            _ => Self::MemberValue,
        }
    }

    /// The error for a token that is not allowed here.
    fn error(self) -> &'static str {
        match self {
            Self::Start => DOCUMENT_EMPTY,
            Self::ObjectStart | Self::MemberComma => MISS_NAME,
            Self::Name => MISS_COLON,
            Self::Colon | Self::ArrayStart | Self::ElementComma => VALUE_INVALID,
            Self::MemberValue => MISS_COMMA_OR_CURLY,
            Self::Element => MISS_COMMA_OR_SQUARE,
        }
    }

    fn wants_value(self) -> bool {
        matches!(
            self,
            Self::Start | Self::Colon | Self::ArrayStart | Self::ElementComma
        )
    }
}

/// Checks the one value at `pos`, with optional white space before it, and returns where it ends.
/// Does not look at the text after it.
pub fn check_value(text: &[u8], pos: usize) -> Result<usize, SyntaxError> {
    let mut open = Open::default();
    let mut state = State::Start;
    let mut pos = pos;
    loop {
        pos = skip_whitespace(text, pos);
        let byte = byte_at(text, pos);
        match byte {
            0 => return Err(SyntaxError::new(state.error(), pos)),
            b'"' if matches!(state, State::ObjectStart | State::MemberComma) => {
                pos = string::skip(text, pos)?;
                state = State::Name;
                continue;
            }
            b':' if state == State::Name => {
                pos += 1;
                state = State::Colon;
                continue;
            }
            b',' if state == State::MemberValue => {
                pos += 1;
                state = State::MemberComma;
                continue;
            }
            b',' if state == State::Element => {
                pos += 1;
                state = State::ElementComma;
                continue;
            }
            b'[' | b'{' if state.wants_value() => {
                let object = byte == b'{';
                open.push(object);
                state = [State::ArrayStart, State::ObjectStart][usize::from(object)];
                pos += 1;
                continue;
            }
            b']' if matches!(state, State::ArrayStart | State::Element) => pos += 1,
            b'}' if matches!(state, State::ObjectStart | State::MemberValue) => pos += 1,
            b']' | b'}' | b',' | b':' => return Err(SyntaxError::new(state.error(), pos)),
            _ if !state.wants_value() => return Err(SyntaxError::new(state.error(), pos)),
            _ => {
                pos = scalar(text, pos)?;
                if open.depth == 0 {
                    return Ok(pos);
                }
                state = state.after_value();
                continue;
            }
        }
        // A list or an object was closed.
        state = match open.close() {
            None => return Ok(pos),
            Some(true) => State::MemberValue,
            Some(false) => State::Element,
        };
    }
}

/// The open lists and objects, one bit each: a body that nests extremely deep needs little more
/// memory than its own bytes.
#[derive(Default)]
struct Open {
    depth: usize,
    /// Whether each level is an object.
    objects: Vec<u64>,
}

impl Open {
    fn push(&mut self, object: bool) {
        let (word, bit) = (self.depth / 64, self.depth % 64);
        if word == self.objects.len() {
            self.objects.push(0);
        }
        self.objects[word] &= !(1 << bit);
        self.objects[word] |= u64::from(object) << bit;
        self.depth += 1;
    }

    /// Closes the innermost and returns whether the one around it is an object.
    fn close(&mut self) -> Option<bool> {
        self.depth = self.depth.saturating_sub(1);
        let level = self.depth.checked_sub(1)?;
        Some(self.objects[level / 64] >> (level % 64) & 1 == 1)
    }
}

/// Checks a value that is neither a list nor an object, and returns where it ends.
fn scalar(text: &[u8], pos: usize) -> Result<usize, SyntaxError> {
    match byte_at(text, pos) {
        b'"' => string::skip(text, pos),
        b'n' => literal(text, pos, b"null"),
        b't' => literal(text, pos, b"true"),
        b'f' => literal(text, pos, b"false"),
        _ => number(text, pos),
    }
}

fn literal(text: &[u8], pos: usize, word: &[u8]) -> Result<usize, SyntaxError> {
    let same = matching(text, pos, word);
    if same == word.len() {
        Ok(pos + same)
    } else {
        Err(SyntaxError::new(VALUE_INVALID, pos + same))
    }
}

/// The number of bytes at `pos` that agree with `word`.
fn matching(text: &[u8], pos: usize, word: &[u8]) -> usize {
    let rest = text.get(pos..).unwrap_or_default();
    rest.iter().zip(word).take_while(|(a, b)| a == b).count()
}

/// Checks a number, or `NaN` or an infinity, and returns where it ends.
fn number(text: &[u8], start: usize) -> Result<usize, SyntaxError> {
    let minus = byte_at(text, start) == b'-';
    let first = start + usize::from(minus);
    let mut parts = match byte_at(text, first) {
        b'0' => Parts::after_integer(first + 1, 0, 0),
        b'1'..=b'9' => integer(text, start, first, minus)?,
        b'I' | b'N' => return non_finite(text, first),
        _ => return Err(SyntaxError::new(VALUE_INVALID, first)),
    };
    if byte_at(text, parts.pos) == b'.' {
        parts.pos += 1;
        fraction(text, &mut parts)?;
    }
    if matches!(byte_at(text, parts.pos), b'e' | b'E') {
        parts.pos += 1;
        exponent(text, start, &mut parts)?;
    }
    Ok(parts.pos)
}

/// RapidJSON's state within a number, from which it decides which exponents are too big.
struct Parts {
    pos: usize,
    /// The digits so far, as long as they fit.
    significand: u64,
    /// Whether the integer part did not fit 64 bits.
    double: bool,
    significant_digits: usize,
    /// Digits of the fraction that became part of the significand.
    fraction_digits: i64,
}

impl Parts {
    fn after_integer(pos: usize, significand: u64, significant_digits: usize) -> Self {
        Self {
            pos,
            significand,
            double: false,
            significant_digits,
            fraction_digits: 0,
        }
    }
}

/// The digits before point and exponent. Beyond 64 bits they continue as a double, which must stay
/// below the largest one.
fn integer(text: &[u8], start: usize, first: usize, minus: bool) -> Result<Parts, SyntaxError> {
    let limit = if minus { 1 << 63 } else { u64::MAX };
    let mut value: u64 = 0;
    let mut pos = first;
    while let Some(digit) = digit_at(text, pos) {
        let next = value
            .checked_mul(10)
            .and_then(|value| value.checked_add(u64::from(digit)))
            .filter(|&value| value <= limit);
        match next {
            Some(next) => value = next,
            None => break,
        }
        pos += 1;
    }
    let mut parts = Parts::after_integer(pos, value, pos - first - 1);
    let mut double = value as f64;
    while let Some(digit) = digit_at(text, parts.pos) {
        if double >= f64::MAX / 10.0 {
            return Err(SyntaxError::new(NUMBER_TOO_BIG, start));
        }
        double = double * 10.0 + f64::from(digit);
        parts.double = true;
        parts.pos += 1;
    }
    Ok(parts)
}

/// The digits after the point. Some do not count towards the exponent: see `fraction_digits`.
fn fraction(text: &[u8], parts: &mut Parts) -> Result<(), SyntaxError> {
    if digit_at(text, parts.pos).is_none() {
        return Err(SyntaxError::new(MISS_FRACTION, parts.pos));
    }
    if !parts.double {
        while let Some(digit) = digit_at(text, parts.pos) {
            if parts.significand >= 1 << 53 {
                break;
            }
            parts.significand = parts.significand * 10 + u64::from(digit);
            parts.fraction_digits += 1;
            parts.significant_digits += usize::from(parts.significand != 0);
            parts.pos += 1;
        }
    }
    while digit_at(text, parts.pos).is_some() {
        // The significand is not zero here: it has outgrown 53 bits.
        if parts.significant_digits < 17 {
            parts.fraction_digits += 1;
            parts.significant_digits += 1;
        }
        parts.pos += 1;
    }
    Ok(())
}

fn exponent(text: &[u8], start: usize, parts: &mut Parts) -> Result<(), SyntaxError> {
    let minus = byte_at(text, parts.pos) == b'-';
    if minus || byte_at(text, parts.pos) == b'+' {
        parts.pos += 1;
    }
    let Some(first) = digit_at(text, parts.pos) else {
        return Err(SyntaxError::new(MISS_EXPONENT, parts.pos));
    };
    let largest = 308 + parts.fraction_digits;
    let mut exponent = i64::from(first);
    parts.pos += 1;
    while let Some(digit) = digit_at(text, parts.pos) {
        exponent = exponent.saturating_mul(10).saturating_add(i64::from(digit));
        parts.pos += 1;
        if !minus && exponent > largest {
            return Err(SyntaxError::new(NUMBER_TOO_BIG, start));
        }
    }
    Ok(())
}

/// `NaN`, `Inf` or `Infinity`. As in RapidJSON, the letters of an incomplete `NaN` are consumed
/// before `Inf` is tried, so `NInf` and `NaInf` are infinities.
fn non_finite(text: &[u8], pos: usize) -> Result<usize, SyntaxError> {
    let not_a_number = matching(text, pos, b"NaN");
    if not_a_number == 3 {
        return Ok(pos + 3);
    }
    let pos = pos + not_a_number;
    let infinity = matching(text, pos, b"Infinity");
    if infinity == 3 || infinity == 8 {
        Ok(pos + infinity)
    } else {
        Err(SyntaxError::new(VALUE_INVALID, pos + infinity))
    }
}
