//! The rows of a table in a text file, as `InitializeTableFromTextFile` reads them (TensorFlow's
//! `lookup_util.cc`).

use base::tensor::{DataType, Tensor as Elements};
use bytes::Bytes;

use super::contents::Rows;

/// How the lines of a file make keys and values.
pub(super) struct Format {
    pub(super) key_dtype: DataType,
    pub(super) value_dtype: DataType,
    pub(super) key_index: i64,
    pub(super) value_index: i64,
    /// The number of lines to read; -1 for all.
    pub(super) vocab_size: i64,
    pub(super) delimiter: u8,
    /// Is added to line numbers and to numbers of 32 bits.
    pub(super) offset: i64,
}

const LINE_NUMBER: i64 = -1;
const WHOLE_LINE: i64 = -2;

impl Format {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// In words that follow the file's name.
    pub(super) fn read(&self, file: &Bytes) -> Result<Rows, String> {
        self.check(self.key_index, self.key_dtype)?;
        self.check(self.value_index, self.value_dtype)?;
        let mut lines = lines(file);
        if let Ok(size) = usize::try_from(self.vocab_size) {
            if lines.len() < size {
                return Err(format!("has {} lines instead of {size}", lines.len()));
            }
            lines.truncate(size);
        }
        if lines.is_empty() {
            return Err("has no lines".to_owned());
        }
        let columns = self.key_index.max(self.value_index).saturating_add(1);
        let columns = usize::try_from(columns).unwrap_or(0);
        let mut keys = Column::new(self.key_dtype, self.offset)?;
        let mut values = Column::new(self.value_dtype, self.offset)?;
        for (number, line) in lines.iter().enumerate() {
            if line.is_empty() {
                return Err(format!("has an empty line, which is number {number}"));
            }
            let mut tokens: Vec<Bytes> = Vec::new();
            if columns > 0 {
                let parts = line.split(|it| *it == self.delimiter);
                tokens.extend(parts.take(columns).map(|it| line.slice_ref(it)));
            }
            let row = Row {
                number,
                line,
                tokens: &tokens,
            };
            row.add(self.key_index, &mut keys)?;
            row.add(self.value_index, &mut values)?;
        }
        let (keys, values) = (keys.finish(lines.len()), values.finish(lines.len()));
        let (keys, values) = keys.zip(values).ok_or("is too large")?;
        Ok(Rows { keys, values })
    }

    fn check(&self, index: i64, dtype: DataType) -> Result<(), String> {
        let fits = match index {
            LINE_NUMBER => dtype == DataType::Int64,
            WHOLE_LINE => matches!(dtype, DataType::Int32 | DataType::Int64 | DataType::String),
            index => index >= 0,
        };
        match fits {
            true => Ok(()),
            false => Err(format!("is read with column {index} as {dtype}")),
        }
    }
}

/// The lines without their ends: a line feed, and a carriage return before it or at the end of the file.
fn lines(file: &Bytes) -> Vec<Bytes> {
    let mut lines = Vec::new();
    let mut pieces = file.split(|it| *it == b'\n').peekable();
    while let Some(piece) = pieces.next() {
        let line = piece.strip_suffix(b"\r").unwrap_or(piece);
        let is_rest = pieces.peek().is_none();
        if !is_rest || !line.is_empty() {
            lines.push(file.slice_ref(line));
        }
    }
    lines
}

struct Row<'a> {
    number: usize,
    line: &'a Bytes,
    tokens: &'a [Bytes],
}

impl Row<'_> {
    fn add(&self, index: i64, column: &mut Column) -> Result<(), String> {
        if index == LINE_NUMBER {
            return column.add_number(self.number);
        }
        let token = match usize::try_from(index) {
            Ok(index) => self.tokens.get(index),
            Err(_) => Some(self.line),
        };
        let token = token.ok_or_else(|| format!("has too few columns in line {}", self.number))?;
        column.add(token).ok_or_else(|| {
            format!(
                "has '{}' in line {}, which is not a valid number",
                String::from_utf8_lossy(token),
                self.number
            )
        })
    }
}

/// Keys or values that are read so far.
struct Column {
    offset: i64,
    items: Items,
}

enum Items {
    Texts(Vec<Bytes>),
    Ints(Vec<i32>),
    Longs(Vec<i64>),
    Floats(Vec<f32>),
    Doubles(Vec<f64>),
}

impl Column {
    fn new(dtype: DataType, offset: i64) -> Result<Self, String> {
        let items = match dtype {
            DataType::String => Items::Texts(Vec::new()),
            DataType::Int32 => Items::Ints(Vec::new()),
            DataType::Int64 => Items::Longs(Vec::new()),
            DataType::Float => Items::Floats(Vec::new()),
            DataType::Double => Items::Doubles(Vec::new()),
            other => return Err(format!("is read as {other}")),
        };
        Ok(Self { offset, items })
    }

    fn add_number(&mut self, number: usize) -> Result<(), String> {
        let sum = i64::try_from(number)
            .ok()
            .and_then(|it| it.checked_add(self.offset));
        match (&mut self.items, sum) {
            (Items::Longs(items), Some(sum)) => {
                items.push(sum);
                Ok(())
            }
            _ => Err("has a line number that is too large".to_owned()),
        }
    }

    fn add(&mut self, token: &Bytes) -> Option<()> {
        match &mut self.items {
            Items::Texts(items) => items.push(token.clone()),
            Items::Ints(items) => {
                let value: i32 = text(token)?.parse().ok()?;
                // TensorFlow stores the sum in 32 bits.
                #[allow(clippy::cast_possible_truncation)]
                items.push(i64::from(value).wrapping_add(self.offset) as i32);
            }
            Items::Longs(items) => items.push(text(token)?.parse().ok()?),
            Items::Floats(items) => items.push(text(token)?.parse().ok()?),
            Items::Doubles(items) => items.push(text(token)?.parse().ok()?),
        }
        Some(())
    }

    fn finish(self, count: usize) -> Option<Elements> {
        match self.items {
            Items::Texts(items) => Elements::from_strings(&[count], items),
            Items::Ints(items) => Elements::from_vec(&[count], items),
            Items::Longs(items) => Elements::from_vec(&[count], items),
            Items::Floats(items) => Elements::from_vec(&[count], items),
            Items::Doubles(items) => Elements::from_vec(&[count], items),
        }
    }
}

/// A number's text: up to a zero byte, without white space around it.
fn text(token: &[u8]) -> Option<&str> {
    let end = token.iter().position(|it| *it == 0);
    let text = std::str::from_utf8(&token[..end.unwrap_or(token.len())]).ok()?;
    Some(text.trim_matches(|it: char| it.is_ascii_whitespace() || it == '\x0b'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format() -> Format {
        Format {
            key_dtype: DataType::String,
            value_dtype: DataType::Int64,
            key_index: WHOLE_LINE,
            value_index: LINE_NUMBER,
            vocab_size: -1,
            delimiter: b'\t',
            offset: 0,
        }
    }

    fn keys(file: &'static [u8]) -> Option<Vec<Bytes>> {
        let rows = format().read(&Bytes::from_static(file)).ok()?;
        rows.keys.strings().map(<[_]>::to_vec)
    }

    /// TensorFlow 2.21 reads these lines from these files.
    #[test]
    fn lines_end_as_in_tensorflow() {
        let of = |lines: &[&'static str]| Some(lines.iter().map(|&it| Bytes::from(it)).collect());
        assert_eq!(keys(b"a\nb\n"), of(&["a", "b"]));
        assert_eq!(keys(b"a\r\nb"), of(&["a", "b"]));
        assert_eq!(keys(b"a\r\r\nb"), of(&["a\r", "b"]));
        assert_eq!(keys(b"a\n\r"), of(&["a"]));
        assert_eq!(keys(b"a \n b\n"), of(&["a ", " b"]));
        for malformed in [&b"a\n\nb\n"[..], b"", b"\n", b"a\n\r\n"] {
            assert_eq!(keys(malformed), None);
        }
    }

    #[test]
    fn vocab_size_truncates_and_has_to_be_there() {
        let of = |vocab_size| {
            let format = Format {
                vocab_size,
                ..format()
            };
            let rows = format.read(&Bytes::from_static(b"a\nb\nc\n"));
            rows.map(|it| it.keys.len()).ok()
        };
        assert_eq!(of(-1), Some(3));
        assert_eq!(of(2), Some(2));
        assert_eq!(of(4), None);
        assert_eq!(of(0), None);
    }

    #[test]
    fn numbers_are_read_as_in_tensorflow() {
        let of = |text: &str| {
            let format = Format {
                key_index: 0,
                value_index: 1,
                delimiter: b',',
                offset: 5,
                ..format()
            };
            let rows = format
                .read(&format!("a,{text},\n").into_bytes().into())
                .ok()?;
            rows.values.as_slice::<i64>()?.first().copied()
        };
        assert_eq!(of("1"), Some(1));
        assert_eq!(of(" +1 "), Some(1));
        assert_eq!(of("007"), Some(7));
        assert_eq!(of("1\0z"), Some(1));
        for malformed in ["", "1.0", "0x1", "- 1", "9223372036854775808"] {
            assert_eq!(of(malformed), None, "{malformed}");
        }
    }

    #[test]
    fn the_offset_counts_for_line_numbers_and_short_numbers() {
        let read = |format: Format| format.read(&Bytes::from_static(b"a 1\nb 2\n")).unwrap();
        let lines = read(Format {
            offset: 5,
            ..format()
        });
        assert_eq!(lines.values.as_slice::<i64>(), Some(&[5, 6][..]));
        let short = read(Format {
            offset: 5,
            value_dtype: DataType::Int32,
            key_index: 0,
            value_index: 1,
            delimiter: b' ',
            ..format()
        });
        assert_eq!(short.values.as_slice::<i32>(), Some(&[6, 7][..]));
    }
}
