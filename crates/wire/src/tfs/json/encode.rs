//! Predict results as JSON (`MakeJsonFromTensors`, `json_tensor.cc`).

use bytes::Bytes;

use super::predict_body::Format;
use base::error::{Result, ServingError};
use base::tensor::{DataType, Tensor};
use codec::json::float_text::{write_f32, write_f64, write_integer};
use codec::json::writer::{Lists, close_object, new_line, open_object, write_key, write_list};
use codec::json::{base64, string};

/// If the name of a string output ends with this, it holds bytes rather than text.
const BYTES_SUFFIX: &str = "_bytes";

/// Encodes the outputs of a predict call, sorted by alias, in the layout of the request.
///
/// Row format: outputs `T[n, …]`, all with the same `n`, give `n` elements of `predictions`. Columnar
/// format accepts any shapes. A single output is written without its name.
///
/// # Errors
///
/// `INVALID_ARGUMENT` without any outputs, for a dtype that JSON cannot represent, and in row format for
/// scalars and differing first dimensions.
pub fn encode_predict(outputs: &[(String, Tensor)], format: Format) -> Result<Vec<u8>> {
    if outputs.is_empty() {
        return Err(ServingError::invalid_argument(
            "Cannot convert empty tensor map to JSON",
        ));
    }
    let rows = match format {
        Format::Row => batch_size(outputs)?,
        Format::Columnar => 0,
    };
    let printed = outputs
        .iter()
        .map(|(alias, tensor)| Output::new(alias, tensor));
    let printed: Vec<Output<'_>> = printed.collect::<Result<_>>()?;
    let size: usize = printed
        .iter()
        .map(|output| output.expected_size(format))
        .sum();
    let mut out = Vec::with_capacity(size + 64);
    match format {
        Format::Row => write_rows(&printed, rows, &mut out),
        Format::Columnar => write_columns(&printed, &mut out),
    }
    Ok(out)
}

/// The first dimension, which all outputs share.
fn batch_size(outputs: &[(String, Tensor)]) -> Result<usize> {
    let mut expected = None;
    for (alias, tensor) in outputs {
        let Some(&size) = tensor.shape().first() else {
            return Err(ServingError::invalid_argument(format!(
                "Tensor name: {alias} has no shape information "
            )));
        };
        let expected = *expected.get_or_insert(size);
        if size != expected {
            return Err(ServingError::invalid_argument(format!(
                "Tensor name: {alias} has inconsistent batch size: {size} expecting: {expected}"
            )));
        }
    }
    Ok(expected.unwrap_or_default())
}

fn write_rows(outputs: &[Output<'_>], rows: usize, out: &mut Vec<u8>) {
    open_object("predictions", 0, out);
    out.push(b'[');
    for row in 0..rows {
        if let [output] = outputs {
            if row > 0 {
                out.extend_from_slice(b", ");
            }
            output.write_row(row, rows, 2, out);
            continue;
        }
        if row > 0 {
            out.push(b',');
        }
        new_line(2, out);
        out.push(b'{');
        for (index, output) in outputs.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_key(output.alias, 3, out);
            output.write_row(row, rows, 3, out);
        }
        close_object(2, out);
    }
    if rows > 0 {
        new_line(1, out);
    }
    out.push(b']');
    close_object(0, out);
}

fn write_columns(outputs: &[Output<'_>], out: &mut Vec<u8>) {
    open_object("outputs", 0, out);
    if let [output] = outputs {
        output.write(1, out);
    } else {
        out.push(b'{');
        for (index, output) in outputs.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_key(output.alias, 2, out);
            output.write(2, out);
        }
        close_object(1, out);
    }
    close_object(0, out);
}

/// One output, with its elements in the type that they are printed as.
struct Output<'a> {
    alias: &'a str,
    shape: &'a [usize],
    elements: Elements<'a>,
}

enum Elements<'a> {
    Float(&'a [f32]),
    Double(&'a [f64]),
    Int32(&'a [i32]),
    Int16(&'a [i16]),
    Int8(&'a [i8]),
    UInt8(&'a [u8]),
    UInt32(&'a [u32]),
    Int64(&'a [i64]),
    UInt64(&'a [u64]),
    /// One byte each.
    Bool(&'a [u8]),
    Text(&'a [Bytes]),
    Base64(&'a [Bytes]),
    /// No elements, of a dtype that cannot be printed.
    None,
}

impl<'a> Output<'a> {
    fn new(alias: &'a str, tensor: &'a Tensor) -> Result<Self> {
        let elements = Elements::of(alias, tensor).ok_or_else(|| {
            ServingError::invalid_argument(format!(
                "Failed to write JSON value for tensor type: {}",
                tensor.dtype()
            ))
        })?;
        Ok(Self {
            alias,
            shape: tensor.shape(),
            elements,
        })
    }

    /// An estimate of the size of the text, more likely too large than too small.
    fn expected_size(&self, format: Format) -> usize {
        let element = match self.elements {
            Elements::Float(_) => 13,
            Elements::Double(_) => 22,
            Elements::Int64(_) | Elements::UInt64(_) => 8,
            _ => 6,
        };
        let separator = match format {
            Format::Row => 2,
            Format::Columnar => 2 + 4 * (self.shape.len() + 2),
        };
        let count: usize = self.shape.iter().product();
        count.saturating_mul(element + separator)
    }

    /// Writes row `row` of `rows` on one line, at nesting level `depth`.
    fn write_row(&self, row: usize, rows: usize, depth: usize, out: &mut Vec<u8>) {
        let layout = Layout {
            lists: Lists::SingleLine,
            depth,
        };
        let shape = self.shape.get(1..).unwrap_or_default();
        self.elements.write(row, rows, shape, layout, out);
    }

    /// Writes all elements, one per line, at nesting level `depth`.
    fn write(&self, depth: usize, out: &mut Vec<u8>) {
        let layout = Layout {
            lists: Lists::Lines,
            depth,
        };
        self.elements.write(0, 1, self.shape, layout, out);
    }
}

impl<'a> Elements<'a> {
    /// `None` if the elements cannot be printed.
    fn of(alias: &str, tensor: &'a Tensor) -> Option<Self> {
        let elements = match tensor.dtype() {
            DataType::Float => Self::Float(tensor.as_slice()?),
            DataType::Double => Self::Double(tensor.as_slice()?),
            DataType::Int32 => Self::Int32(tensor.as_slice()?),
            DataType::Int16 => Self::Int16(tensor.as_slice()?),
            DataType::Int8 => Self::Int8(tensor.as_slice()?),
            DataType::UInt8 => Self::UInt8(tensor.as_slice()?),
            DataType::UInt32 => Self::UInt32(tensor.as_slice()?),
            DataType::Int64 => Self::Int64(tensor.as_slice()?),
            DataType::UInt64 => Self::UInt64(tensor.as_slice()?),
            DataType::Bool => Self::Bool(tensor.bytes()?),
            DataType::String if alias.ends_with(BYTES_SUFFIX) => Self::Base64(tensor.strings()?),
            DataType::String => Self::Text(tensor.strings()?),
            _ if tensor.is_empty() => Self::None,
            _ => return None,
        };
        Some(elements)
    }

    /// Writes part `part` of `parts` equal ones; the part has shape `shape`.
    fn write(&self, part: usize, parts: usize, shape: &[usize], layout: Layout, out: &mut Vec<u8>) {
        macro_rules! write_part {
            ($all:expr, $write:expr) => {{
                let size = $all.len() / parts;
                let part = &$all[part * size..(part + 1) * size];
                write_nested(part, shape, layout, out, &$write)
            }};
        }
        match self {
            Self::Float(all) => write_part!(all, |&value, _, out| write_f32(value, out)),
            Self::Double(all) => write_part!(all, |&value, _, out| write_f64(value, out)),
            Self::Int32(all) => write_part!(all, |&value, _, out| write_signed(value.into(), out)),
            Self::Int16(all) => write_part!(all, |&value, _, out| write_signed(value.into(), out)),
            Self::Int8(all) => write_part!(all, |&value, _, out| write_signed(value.into(), out)),
            Self::UInt8(all) => write_part!(all, |&value, _, out| write_integer(value.into(), out)),
            Self::UInt32(all) => {
                write_part!(all, |&value, _, out| write_integer(value.into(), out))
            }
            Self::Int64(all) => write_part!(all, |&value, _, out| write_signed(value, out)),
            Self::UInt64(all) => write_part!(all, |&value, _, out| write_integer(value, out)),
            Self::Bool(all) => write_part!(all, |&value, _, out| write_bool(value, out)),
            Self::Text(all) => write_part!(all, |value: &Bytes, _, out| string::write(value, out)),
            Self::Base64(all) => {
                write_part!(all, |value: &Bytes, depth, out| write_base64(
                    value, depth, out
                ))
            }
            Self::None => {
                let all: &[u8] = &[];
                write_part!(all, |_: &u8, _, _: &mut Vec<u8>| ())
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Layout {
    lists: Lists,
    depth: usize,
}

impl Layout {
    fn deeper(self) -> Self {
        Self {
            depth: self.depth + 1,
            ..self
        }
    }
}

/// Writes nested lists of this shape. Recurses once per dimension of a tensor that a model produced;
/// TensorFlow's protocol allows at most 254.
fn write_nested<T>(
    elements: &[T],
    shape: &[usize],
    layout: Layout,
    out: &mut Vec<u8>,
    write: &impl Fn(&T, usize, &mut Vec<u8>),
) {
    let inside = layout.deeper();
    match shape {
        [] => {
            if let Some(scalar) = elements.first() {
                write(scalar, layout.depth, out);
            }
        }
        [_] => write_list(elements, layout.lists, layout.depth, out, |element, out| {
            write(element, inside.depth, out);
        }),
        [count, rest @ ..] => {
            let size = elements.len() / (*count).max(1);
            let parts = (0..*count).map(|part| &elements[part * size..(part + 1) * size]);
            write_list(parts, layout.lists, layout.depth, out, |part, out| {
                write_nested(part, rest, inside, out, write);
            });
        }
    }
}

#[inline]
fn write_signed(value: i64, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    write_integer(value.unsigned_abs(), out);
}

#[inline]
fn write_bool(value: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(if value == 0 { b"false" } else { b"true" });
}

fn write_base64(bytes: &[u8], depth: usize, out: &mut Vec<u8>) {
    open_object("b64", depth, out);
    out.push(b'"');
    base64::encode(bytes, out);
    out.push(b'"');
    close_object(depth, out);
}
