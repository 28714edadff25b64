//! JSON as the recordings compare it: integers and floats are distinct, `NaN` and infinities are legal,
//! strings are bytes (TensorFlow Serving writes strings that are not UTF-8 as they are).
//!
//! A separate reader, so that errors of the server's reader cannot hide in the test.

use std::fmt;

/// A JSON value.
#[derive(Clone, Debug)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    String(Vec<u8>),
    Array(Vec<Json>),
    /// Members in the order of the text.
    Object(Vec<(Vec<u8>, Json)>),
}

/// How much a float can differ.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tolerance {
    pub(crate) abs: f64,
    pub(crate) rel: f64,
}

impl Tolerance {
    /// Whether `actual` is near enough; NaN equals NaN.
    pub(crate) fn accepts(self, expected: f64, actual: f64) -> bool {
        expected == actual
            || (expected.is_nan() && actual.is_nan())
            || (expected - actual).abs() <= self.abs + self.rel * expected.abs()
    }
}

impl Json {
    /// Reads one value that takes the whole text.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        let mut reader = Reader { text, at: 0 };
        let value = reader.value()?;
        reader.skip_blanks();
        if reader.at < text.len() {
            return Err(format!("more after the value, at byte {}", reader.at));
        }
        Ok(value)
    }

    /// A member of an object.
    pub(crate) fn get(&self, name: &str) -> Option<&Json> {
        match self {
            Self::Object(members) => members
                .iter()
                .find(|(key, _)| key == name.as_bytes())
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text of a string.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }

    /// The elements of an array.
    pub(crate) fn as_array(&self) -> Option<&[Json]> {
        match self {
            Self::Array(elements) => Some(elements),
            _ => None,
        }
    }

    /// The members of an object.
    pub(crate) fn members(&self) -> Option<&[(Vec<u8>, Json)]> {
        match self {
            Self::Object(members) => Some(members),
            _ => None,
        }
    }

    /// An integer.
    pub(crate) fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => i64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// A number, whether written as integer or float.
    pub(crate) fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Integer(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// Where `actual` differs; `Ok` if it does not.
    pub(crate) fn check(&self, actual: &Json, tolerance: Tolerance) -> Result<(), String> {
        self.check_at(actual, tolerance, "$")
    }

    fn check_at(&self, actual: &Json, tolerance: Tolerance, path: &str) -> Result<(), String> {
        let equal = match (self, actual) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Integer(a), Self::Integer(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => tolerance.accepts(*a, *b),
            // Expected values of the zoo spell these three out.
            (Self::String(a), Self::Float(b)) => {
                non_finite(a).is_some_and(|a| a == *b || (a.is_nan() && b.is_nan()))
            }
            (Self::String(a), Self::String(b)) => a == b,
            (Self::Array(a), Self::Array(b)) if a.len() == b.len() => {
                for (index, (a, b)) in a.iter().zip(b).enumerate() {
                    a.check_at(b, tolerance, &format!("{path}[{index}]"))?;
                }
                true
            }
            (Self::Object(a), Self::Object(b)) if a.len() == b.len() => {
                for (key, value) in a {
                    let path = format!("{path}.{}", String::from_utf8_lossy(key));
                    let other = b.iter().find(|(other, _)| other == key);
                    let (_, other) = other.ok_or_else(|| format!("{path} is missing"))?;
                    value.check_at(other, tolerance, &path)?;
                }
                true
            }
            _ => false,
        };
        if equal {
            Ok(())
        } else {
            Err(format!("at {path}: expected {self}, got {actual}"))
        }
    }
}

fn non_finite(word: &[u8]) -> Option<f64> {
    match word {
        b"NaN" => Some(f64::NAN),
        b"Infinity" => Some(f64::INFINITY),
        b"-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// The value as JSON text, without blanks.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Float(number) if number.is_nan() => f.write_str("NaN"),
            Self::Float(number) if number.is_infinite() => f.write_str(if *number > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            }),
            Self::Float(number) => write!(f, "{number:?}"),
            Self::String(text) => write_string(f, text),
            Self::Array(elements) => {
                f.write_str("[")?;
                for (index, element) in elements.iter().enumerate() {
                    write!(f, "{}{element}", if index == 0 { "" } else { "," })?;
                }
                f.write_str("]")
            }
            Self::Object(members) => {
                f.write_str("{")?;
                for (index, (key, value)) in members.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { "," })?;
                    write_string(f, key)?;
                    write!(f, ":{value}")?;
                }
                f.write_str("}")
            }
        }
    }
}

fn write_string(f: &mut fmt::Formatter<'_>, text: &[u8]) -> fmt::Result {
    f.write_str("\"")?;
    for character in String::from_utf8_lossy(text).chars() {
        match character {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            character if character < ' ' => write!(f, "\\u{:04x}", u32::from(character))?,
            character => write!(f, "{character}")?,
        }
    }
    f.write_str("\"")
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn value(&mut self) -> Result<Json, String> {
        self.skip_blanks();
        match self.peek() {
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b'"') => Ok(Json::String(self.string()?)),
            _ => self.word(),
        }
    }

    fn object(&mut self) -> Result<Json, String> {
        let mut members = Vec::new();
        self.expect(b'{')?;
        while !self.accept(b'}') {
            if !members.is_empty() {
                self.expect(b',')?;
                self.skip_blanks();
            }
            let key = self.string()?;
            self.skip_blanks();
            self.expect(b':')?;
            members.push((key, self.value()?));
        }
        Ok(Json::Object(members))
    }

    fn array(&mut self) -> Result<Json, String> {
        let mut elements = Vec::new();
        self.expect(b'[')?;
        while !self.accept(b']') {
            if !elements.is_empty() {
                self.expect(b',')?;
            }
            elements.push(self.value()?);
        }
        Ok(Json::Array(elements))
    }

    fn string(&mut self) -> Result<Vec<u8>, String> {
        self.expect(b'"')?;
        let mut text = Vec::new();
        loop {
            let byte = self.next()?;
            match byte {
                b'"' => return Ok(text),
                b'\\' => self.escape(&mut text)?,
                byte => text.push(byte),
            }
        }
    }

    fn escape(&mut self, text: &mut Vec<u8>) -> Result<(), String> {
        let byte = self.next()?;
        text.push(match byte {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let mut units = vec![self.unit()?];
                if (0xd800..0xdc00).contains(&units[0]) && self.text[self.at..].starts_with(b"\\u")
                {
                    self.at += 2;
                    units.push(self.unit()?);
                }
                text.extend_from_slice(String::from_utf16_lossy(&units).as_bytes());
                return Ok(());
            }
            byte => byte,
        });
        Ok(())
    }

    fn unit(&mut self) -> Result<u16, String> {
        let digits = self.text.get(self.at..self.at + 4);
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let unit = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
        self.at += 4;
        unit.ok_or_else(|| self.error("four hexadecimal digits expected"))
    }

    /// A number, `true`, `null` and the like.
    fn word(&mut self) -> Result<Json, String> {
        let start = self.at;
        while let Some(byte) = self.peek() {
            if !(byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
                break;
            }
            self.at += 1;
        }
        let word = &self.text[start..self.at];
        let text = std::str::from_utf8(word).unwrap_or_default();
        Ok(match text {
            "null" => Json::Null,
            "true" => Json::Bool(true),
            "false" => Json::Bool(false),
            _ => match (non_finite(word), text.parse()) {
                (Some(number), _) => Json::Float(number),
                (None, Ok(integer)) => Json::Integer(integer),
                (None, Err(_)) => Json::Float(
                    text.parse()
                        .map_err(|_| self.error(&format!("value expected, got {text:?}")))?,
                ),
            },
        })
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(|byte| b" \t\r\n".contains(&byte)) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8, String> {
        let byte = self
            .peek()
            .ok_or_else(|| self.error("the text ends early"))?;
        self.at += 1;
        Ok(byte)
    }

    fn accept(&mut self, byte: u8) -> bool {
        self.skip_blanks();
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, byte: u8) -> Result<(), String> {
        if self.next()? == byte {
            Ok(())
        } else {
            Err(self.error(&format!("{:?} expected", char::from(byte))))
        }
    }

    fn error(&self, what: &str) -> String {
        format!("not JSON, byte {}: {what}", self.at)
    }
}

#[test]
fn json_keeps_integers_and_floats_apart() {
    let parse = |text: &str| Json::parse(text.as_bytes()).unwrap();
    let one = parse(r#"{"b": [NaN, -Infinity], "a": 1}"#);
    let same = parse(r#"{ "a":1, "b":[NaN,-Infinity] }"#);
    let float = parse(r#"{"a": 1.0, "b": [NaN, -Infinity]}"#);
    assert_eq!(one.check(&same, Tolerance::default()), Ok(()));
    assert_eq!(
        one.check(&float, Tolerance::default()),
        Err("at $.a: expected 1, got 1.0".to_owned())
    );
}
