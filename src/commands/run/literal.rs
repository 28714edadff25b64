//! Reads the values of `--input_exprs` and `--input_examples`: Python's literals, which include JSON's lists, and
//! `np.zeros`, `np.ones`, `np.full` and `np.array` of literals. Any other expression is refused with its name.

use base::error::{Result, ServingError};
use base::tensor::element_count;
use bytes::Bytes;

use super::array::{Array, Elements};

/// The deepest nesting of lists.
const MAX_DEPTH: usize = 64;
/// The largest array that a function makes.
const MAX_ELEMENTS: usize = 1 << 28;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Int(i128),
    Float(f64),
    Text(Bytes),
    List(Vec<Literal>),
    Dict(Vec<(String, Literal)>),
    /// An array with one value everywhere.
    Full(Vec<usize>, Box<Literal>),
}

/// Reads an expression.
///
/// # Errors
///
/// `INVALID_ARGUMENT`, with the expression.
pub(super) fn parse(text: &str) -> Result<Literal> {
    let mut parser = Parser { rest: text.trim() };
    let value = parser.value(0);
    match value {
        Ok(value) if parser.rest.is_empty() => Ok(value),
        Ok(_) => Err(refused(text, &format!("'{}' is not expected", parser.rest))),
        Err(reason) => Err(refused(text, &reason)),
    }
}

fn refused(text: &str, reason: &str) -> ServingError {
    ServingError::invalid_argument(format!(
        "Expression \"{text}\" is not a literal, nor np.zeros, np.ones, np.full or np.array of one: {reason}"
    ))
}

struct Parser<'a> {
    rest: &'a str,
}

type Parsed<T> = std::result::Result<T, String>;

impl<'a> Parser<'a> {
    fn skip(&mut self, token: &str) -> bool {
        let rest = self.rest.trim_start();
        match rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) -> Parsed<()> {
        match self.skip(token) {
            true => Ok(()),
            false => Err(format!("'{token}' is expected before '{}'", self.rest)),
        }
    }

    fn value(&mut self, depth: usize) -> Parsed<Literal> {
        if depth > MAX_DEPTH {
            return Err("it is nested too deeply".to_owned());
        }
        match self.rest.chars().next() {
            None => Err("a value is missing".to_owned()),
            Some('[') => self.list('[', "]", depth),
            Some('(') => self.list('(', ")", depth),
            Some('{') => self.dict(depth),
            Some('\'' | '"') => self.text(false).map(Literal::Text),
            Some('b') if self.rest[1..].starts_with(['\'', '"']) => {
                self.rest = &self.rest[1..];
                self.text(true).map(Literal::Text)
            }
            Some(first) if first.is_ascii_alphabetic() || first == '_' => self.named(depth),
            Some(_) => self.number(),
        }
    }

    fn list(&mut self, open: char, close: &str, depth: usize) -> Parsed<Literal> {
        self.rest = self.rest[open.len_utf8()..].trim_start();
        let mut items = Vec::new();
        let mut has_comma = false;
        while !self.skip(close) {
            items.push(self.value(depth + 1)?);
            has_comma = self.skip(",");
            if !has_comma {
                self.expect(close)?;
                break;
            }
        }
        // `(1)` is a number in parentheses, `(1,)` a tuple.
        match (open, items.len()) {
            ('(', 1) if !has_comma => Ok(items.swap_remove(0)),
            _ => Ok(Literal::List(items)),
        }
    }

    fn dict(&mut self, depth: usize) -> Parsed<Literal> {
        self.rest = self.rest[1..].trim_start();
        let mut items = Vec::new();
        while !self.skip("}") {
            let Literal::Text(key) = self.value(depth + 1)? else {
                return Err("a key is not a string".to_owned());
            };
            self.expect(":")?;
            let value = self.value(depth + 1)?;
            items.push((String::from_utf8_lossy(&key).into_owned(), value));
            if !self.skip(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(Literal::Dict(items))
    }

    fn text(&mut self, is_bytes: bool) -> Parsed<Bytes> {
        let quote = self.rest.chars().next().unwrap_or('"');
        let mut bytes = Vec::new();
        let mut letters = self.rest[1..].char_indices();
        let unfinished = || "a string does not end".to_owned();
        loop {
            let (at, letter) = letters.next().ok_or_else(unfinished)?;
            if letter == quote {
                self.rest = self.rest[1 + at + 1..].trim_start();
                return Ok(bytes.into());
            }
            if letter != '\\' {
                bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            let (_, escape) = letters.next().ok_or_else(unfinished)?;
            let mut code = |count: usize| {
                let digits: String = letters.by_ref().take(count).map(|it| it.1).collect();
                u32::from_str_radix(&digits, 16)
                    .map_err(|_| format!("\\{escape}{digits} is unknown"))
            };
            match escape {
                'n' => bytes.push(b'\n'),
                't' => bytes.push(b'\t'),
                'r' => bytes.push(b'\r'),
                '\\' | '\'' | '"' | '/' => bytes.push(escape as u8),
                'x' if is_bytes => bytes.push(u8::try_from(code(2)?).unwrap_or_default()),
                'x' | 'u' | 'U' => {
                    let count = match escape {
                        'x' => 2,
                        'u' => 4,
                        _ => 8,
                    };
                    let letter = char::from_u32(code(count)?).ok_or("an escape is not a letter")?;
                    bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                }
                _ => return Err(format!("\\{escape} is unknown")),
            }
        }
    }

    fn number(&mut self) -> Parsed<Literal> {
        let is_part = |it: char| it.is_ascii_alphanumeric() || "+-._".contains(it);
        let end = self.rest.find(|it| !is_part(it)).unwrap_or(self.rest.len());
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        let clean = text.replace('_', "");
        if let Ok(int) = clean.parse() {
            return Ok(Literal::Int(int));
        }
        let is_number = clean.starts_with(|it: char| it.is_ascii_digit() || "+-.".contains(it))
            && !clean.to_ascii_lowercase().contains(['n', 'i']);
        match clean.parse() {
            Ok(float) if is_number => Ok(Literal::Float(float)),
            _ => Err(match text.is_empty() {
                true => format!("'{}' is not expected", self.rest),
                false => format!("'{text}' is not a number"),
            }),
        }
    }

    fn named(&mut self, depth: usize) -> Parsed<Literal> {
        let is_part = |it: char| it.is_ascii_alphanumeric() || "._".contains(it);
        let end = self.rest.find(|it| !is_part(it)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        let function = name.strip_prefix("np.").or(name.strip_prefix("numpy."));
        match (name, function) {
            ("True" | "true", _) => Ok(Literal::Int(1)),
            ("False" | "false", _) => Ok(Literal::Int(0)),
            ("NaN" | "Infinity", _) | (_, Some("nan" | "inf")) => {
                let is_nan = name.ends_with("nan") || name == "NaN";
                Ok(Literal::Float(if is_nan {
                    f64::NAN
                } else {
                    f64::INFINITY
                }))
            }
            (_, Some("zeros" | "ones" | "full" | "array")) => {
                self.expect("(")?;
                let first = self.value(depth + 1)?;
                let result = match function {
                    Some("array") => first,
                    Some("full") => {
                        self.expect(",")?;
                        let value = self.value(depth + 1)?;
                        Literal::Full(sizes(&first)?, Box::new(value))
                    }
                    Some("ones") => Literal::Full(sizes(&first)?, Box::new(Literal::Float(1.0))),
                    _ => Literal::Full(sizes(&first)?, Box::new(Literal::Float(0.0))),
                };
                self.skip(",");
                // The dtype is that of the input.
                if self.skip("dtype=") || self.rest.starts_with("np.") {
                    let end = self.rest.find(')').unwrap_or(self.rest.len());
                    self.rest = &self.rest[end..];
                }
                self.expect(")")?;
                Ok(result)
            }
            _ => Err(format!("'{name}' is Python that this program does not run")),
        }
    }
}

/// A shape: a size, or a list of them.
fn sizes(shape: &Literal) -> Parsed<Vec<usize>> {
    let size = |it: &Literal| match it {
        Literal::Int(size) => usize::try_from(*size).ok(),
        _ => None,
    };
    let sizes = match shape {
        Literal::List(sizes) => sizes.iter().map(size).collect(),
        one => size(one).map(|it| vec![it]),
    };
    let sizes: Vec<usize> = sizes.ok_or("a shape is not a list of sizes")?;
    match element_count(&sizes) {
        Some(count) if count <= MAX_ELEMENTS => Ok(sizes),
        _ => Err("an array is too large".to_owned()),
    }
}

impl Literal {
    /// The array that NumPy makes of the value.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` for lists of different lengths, dicts, and numbers next to strings.
    pub(super) fn into_array(self) -> Result<Array> {
        if let Self::Full(shape, value) = self {
            let count = element_count(&shape).unwrap_or(0);
            let mut array = value.into_array()?;
            if !array.shape.is_empty() {
                return Err(ServingError::invalid_argument(
                    "np.full has a value that is not a scalar",
                ));
            }
            array.elements = match array.elements {
                Elements::Floats(one) => Elements::Floats(one.repeat(count)),
                Elements::Ints(one) => Elements::Ints(one.repeat(count)),
                Elements::Strings(one) => {
                    let one = one.into_iter().next().unwrap_or_default();
                    Elements::Strings(vec![one; count])
                }
            };
            return Ok(Array { shape, ..array });
        }
        let mut shape = Vec::new();
        let mut inner = &self;
        while let Self::List(items) = inner {
            shape.push(items.len());
            let Some(first) = items.first() else { break };
            inner = first;
        }
        let mut flat = Vec::new();
        self.flatten(&shape, &mut flat)?;
        let mixed = || ServingError::invalid_argument("it has numbers next to strings, or dicts");
        let elements = match flat.first() {
            Some(Self::Text(_)) => {
                let text = |it: Self| match it {
                    Self::Text(text) => Ok(text),
                    _ => Err(mixed()),
                };
                Elements::Strings(flat.into_iter().map(text).collect::<Result<_>>()?)
            }
            _ if flat.iter().all(|it| matches!(it, Self::Int(_))) && !flat.is_empty() => {
                let int = |it| match it {
                    Self::Int(int) => int,
                    _ => 0,
                };
                Elements::Ints(flat.into_iter().map(int).collect())
            }
            _ => {
                let float = |it| match it {
                    Self::Int(int) => Ok(int as f64),
                    Self::Float(float) => Ok(float),
                    _ => Err(mixed()),
                };
                Elements::Floats(flat.into_iter().map(float).collect::<Result<_>>()?)
            }
        };
        Ok(Array { shape, elements })
    }

    fn flatten(self, shape: &[usize], flat: &mut Vec<Self>) -> Result<()> {
        match (self, shape.split_first()) {
            (Self::List(items), Some((&size, rest))) if items.len() == size => items
                .into_iter()
                .try_for_each(|item| item.flatten(rest, flat)),
            (Self::List(_), _) | (_, Some(_)) => Err(ServingError::invalid_argument(
                "its lists have different lengths",
            )),
            (one, None) => {
                flat.push(one);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(text: &str) -> Result<Array> {
        parse(text)?.into_array()
    }

    #[test]
    fn literals_are_arrays() {
        let ints = |shape: &[usize], ints: &[i128]| Array {
            shape: shape.to_vec(),
            elements: Elements::Ints(ints.to_vec()),
        };
        assert_eq!(
            array("[[1, 2], (3, 4),]").unwrap(),
            ints(&[2, 2], &[1, 2, 3, 4])
        );
        assert_eq!(array("-7").unwrap(), ints(&[], &[-7]));
        assert_eq!(array("(1)").unwrap().shape, Vec::<usize>::new());
        assert_eq!(array("(1,)").unwrap().shape, [1]);
        let mixed = array("[1, 2.5e0, True]").unwrap();
        assert_eq!(mixed.elements, Elements::Floats(vec![1.0, 2.5, 1.0]));
        let texts = array(r#"["a\n", b'\xff', '\u00e9']"#).unwrap();
        let expected = vec!["a\n".into(), Bytes::from_static(b"\xff"), "é".into()];
        assert_eq!(texts.elements, Elements::Strings(expected));
        assert_eq!(array("[[], []]").unwrap().shape, [2, 0]);
    }

    #[test]
    fn functions_of_numpy_make_arrays() {
        let ones = array("np.ones((1, 3))").unwrap();
        assert_eq!(
            (ones.shape, ones.elements),
            (vec![1, 3], Elements::Floats(vec![1.0; 3]))
        );
        assert_eq!(array("np.zeros(2, dtype=np.int32)").unwrap().shape, [2]);
        assert_eq!(
            array("np.full((2,), 7)").unwrap().elements,
            Elements::Ints(vec![7, 7])
        );
        assert_eq!(
            array("np.array([[1.0]], np.float32)").unwrap().shape,
            [1, 1]
        );
    }

    #[test]
    fn other_expressions_are_refused_by_name() {
        let error = |text| array(text).unwrap_err().to_string();
        assert!(error("np.random.rand(3)").contains("'np.random.rand' is Python"));
        assert!(error("__import__('os')").contains("'__import__' is Python"));
        assert!(error("[1] + [2]").contains("'+ [2]' is not expected"));
        assert!(error("[1, [2]]").contains("different lengths"));
        assert!(error("[1, 'a']").contains("next to strings"));
        assert!(error("[1").contains("']' is expected"));
        assert!(error("np.ones((1 << 60,))").contains("is expected"));
        assert!(error("np.ones((1000000, 1000000))").contains("too large"));
        assert!(error(&"[".repeat(1000)).contains("nested too deeply"));
    }
}
