//! The growing elements of one input: typed, without a shape.
//!
//! Both paths fill these. The fast path monomorphises over [`Scan`]; the exact path pushes leaf by leaf
//! with [`Column::push`] and gets TensorFlow Serving's errors.

use bytes::Bytes;

use base::error::{Result, ServingError};
use base::tensor::{DataType, Element, Tensor, element_count};
use codec::json::cursor::{Cursor, JsonKind};
use codec::json::debug_text::debug_text;
use codec::json::number::Number;
use codec::json::text::{byte_at, skip_whitespace};
use codec::json::{base64, number, string};

/// The maximum rank of TensorFlow's `TensorShape`.
pub(super) const MAX_DIMENSIONS: usize = 254;

/// The elements of one input in the order they were sent.
pub(super) enum Column {
    Float(Vec<f32>),
    Double(Vec<f64>),
    Int32(Vec<i32>),
    Int16(Vec<i16>),
    Int8(Vec<i8>),
    UInt8(Vec<u8>),
    UInt32(Vec<u32>),
    Int64(Vec<i64>),
    UInt64(Vec<u64>),
    Bool(Booleans),
    String(Strings),
    /// A type that JSON cannot represent; a tensor of it is empty.
    Unsupported(DataType),
}

impl Column {
    pub(super) fn new(dtype: DataType) -> Self {
        match dtype {
            DataType::Float => Self::Float(Vec::new()),
            DataType::Double => Self::Double(Vec::new()),
            DataType::Int32 => Self::Int32(Vec::new()),
            DataType::Int16 => Self::Int16(Vec::new()),
            DataType::Int8 => Self::Int8(Vec::new()),
            DataType::UInt8 => Self::UInt8(Vec::new()),
            DataType::UInt32 => Self::UInt32(Vec::new()),
            DataType::Int64 => Self::Int64(Vec::new()),
            DataType::UInt64 => Self::UInt64(Vec::new()),
            DataType::Bool => Self::Bool(Booleans::default()),
            DataType::String => Self::String(Strings::default()),
            other => Self::Unsupported(other),
        }
    }

    /// Appends the leaf at `cursor`, which is not a list.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` for a value of another type, `UNIMPLEMENTED` if the dtype accepts none (texts of
    /// `AddValueToTensor`, `json_tensor.cc`).
    pub(super) fn push(&mut self, cursor: Cursor<'_>) -> Result<()> {
        let pushed = match self {
            Self::Float(all) => push_with(all, cursor, |number| Some(number.as_f64() as f32)),
            Self::Double(all) => push_with(all, cursor, |number| Some(number.as_f64())),
            Self::Int32(all) => push_with(all, cursor, narrow),
            Self::Int16(all) => push_with(all, cursor, |number| narrow(number).map(|n| n as i16)),
            Self::Int8(all) => push_with(all, cursor, |number| narrow(number).map(|n| n as i8)),
            Self::UInt8(all) => push_with(all, cursor, |number| narrow(number).map(|n| n as u8)),
            Self::UInt32(all) => push_with(all, cursor, wide),
            Self::Int64(all) => push_with(all, cursor, wide),
            Self::UInt64(all) => push_with(all, cursor, wide),
            Self::Bool(all) => all.push(cursor.kind()),
            Self::String(all) => return all.push(cursor),
            Self::Unsupported(dtype) if cursor.kind() != JsonKind::Object => {
                return Err(ServingError::unimplemented(format!(
                    "Conversion of JSON Value: {} to type: {dtype}",
                    debug_text(cursor)
                )));
            }
            Self::Unsupported(_) => None,
        };
        pushed.ok_or_else(|| type_error(cursor, self.dtype()))
    }

    pub(super) fn dtype(&self) -> DataType {
        match self {
            Self::Float(_) => DataType::Float,
            Self::Double(_) => DataType::Double,
            Self::Int32(_) => DataType::Int32,
            Self::Int16(_) => DataType::Int16,
            Self::Int8(_) => DataType::Int8,
            Self::UInt8(_) => DataType::UInt8,
            Self::UInt32(_) => DataType::UInt32,
            Self::Int64(_) => DataType::Int64,
            Self::UInt64(_) => DataType::UInt64,
            Self::Bool(_) => DataType::Bool,
            Self::String(_) => DataType::String,
            Self::Unsupported(dtype) => *dtype,
        }
    }

    /// The tensor of the first elements, as many as fit into `shape`. (An object of `instances` can contain
    /// a key twice; TensorFlow then drops the excess at the end.)
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` if TensorFlow could not make a tensor of that rank or dtype.
    pub(super) fn into_tensor(
        self,
        alias: &str,
        shape: impl IntoIterator<Item = usize>,
    ) -> Result<Tensor> {
        // One more dimension reveals a shape that is too long.
        let shape: Vec<usize> = shape.into_iter().take(MAX_DIMENSIONS + 1).collect();
        let shape = &shape[..];
        let count = element_count(shape).filter(|_| shape.len() <= MAX_DIMENSIONS);
        let tensor = count.and_then(|count| match self {
            Self::Float(all) => numbers(all, shape, count),
            Self::Double(all) => numbers(all, shape, count),
            Self::Int32(all) => numbers(all, shape, count),
            Self::Int16(all) => numbers(all, shape, count),
            Self::Int8(all) => numbers(all, shape, count),
            Self::UInt8(all) => numbers(all, shape, count),
            Self::UInt32(all) => numbers(all, shape, count),
            Self::Int64(all) => numbers(all, shape, count),
            Self::UInt64(all) => numbers(all, shape, count),
            Self::Bool(Booleans(mut all)) => {
                trim(&mut all, count);
                Tensor::from_bytes(DataType::Bool, shape, Bytes::from(all))
            }
            Self::String(all) => Tensor::from_strings(shape, all.into_bytes(count)),
            Self::Unsupported(dtype) => Tensor::from_bytes(dtype, shape, Bytes::new()),
        });
        tensor
            .ok_or_else(|| ServingError::invalid_argument(format!("tensor parsing error: {alias}")))
    }
}

fn numbers<T: Element>(mut all: Vec<T>, shape: &[usize], count: usize) -> Option<Tensor> {
    trim(&mut all, count);
    Tensor::from_vec(shape, all)
}

/// Cuts to `count` elements and releases memory if too much was reserved.
fn trim<T>(all: &mut Vec<T>, count: usize) {
    all.truncate(count);
    if all.capacity() - all.len() > all.len() / 8 {
        all.shrink_to_fit();
    }
}

fn push_with<T>(
    all: &mut Vec<T>,
    cursor: Cursor<'_>,
    convert: impl FnOnce(Number) -> Option<T>,
) -> Option<()> {
    if cursor.kind() != JsonKind::Number {
        return None;
    }
    all.push(convert(cursor.number())?);
    Some(())
}

/// Types of at most 32 bits accept any `int32` value, and then wrap.
fn narrow(number: Number) -> Option<i32> {
    wide(number)
}

fn wide<T: TryFrom<i128>>(number: Number) -> Option<T> {
    T::try_from(number.as_integer()?).ok()
}

fn type_error(cursor: Cursor<'_>, dtype: DataType) -> ServingError {
    ServingError::invalid_argument(format!(
        "JSON Value: {} Type: {} is not of expected type: {dtype}",
        debug_text(cursor),
        cursor.kind().name()
    ))
}

/// Booleans, one byte each.
#[derive(Default)]
pub(super) struct Booleans(Vec<u8>);

impl Booleans {
    fn push(&mut self, kind: JsonKind) -> Option<()> {
        match kind {
            JsonKind::True => self.0.push(1),
            JsonKind::False => self.0.push(0),
            _ => return None,
        }
        Some(())
    }
}

/// Byte strings, stored consecutively in a single buffer.
#[derive(Default)]
pub(super) struct Strings {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Strings {
    fn push(&mut self, cursor: Cursor<'_>) -> Result<()> {
        match cursor.kind() {
            JsonKind::String => cursor.read_string(&mut self.bytes),
            JsonKind::Object => {
                let text = cursor.base64_text().ok_or_else(|| {
                    ServingError::invalid_argument(format!(
                        "JSON Value: {} not formatted correctly for base64 data",
                        debug_text(cursor)
                    ))
                })?;
                base64::decode(&text, &mut self.bytes).ok_or_else(undecodable)?;
            }
            _ => return Err(type_error(cursor, DataType::String)),
        }
        self.ends.push(self.bytes.len());
        Ok(())
    }

    /// The first `count` strings, all slices of one buffer.
    fn into_bytes(mut self, count: usize) -> Vec<Bytes> {
        trim(&mut self.bytes, usize::MAX);
        let buffer = Bytes::from(self.bytes);
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let ranges = starts.zip(self.ends.iter().copied()).take(count);
        ranges
            .map(|(start, end)| buffer.slice(start..end))
            .collect()
    }
}

/// The error for a base64 object whose text is not base64.
pub(super) fn undecodable() -> ServingError {
    ServingError::invalid_argument("Unable to base64 decode")
}

/// Elements that the fast path reads from unchecked text.
pub(super) trait Scan {
    /// Reads the leaf at `pos` and returns where it ends; `None` leaves it to the exact path.
    fn scan(&mut self, text: &[u8], pos: usize) -> Option<usize>;
}

macro_rules! scan_numbers {
    ($($ty:ty: $scan:expr;)*) => {
        $(
            impl Scan for Vec<$ty> {
                #[inline(always)]
                fn scan(&mut self, text: &[u8], pos: usize) -> Option<usize> {
                    let (value, end): (_, usize) = $scan(text, pos)?;
                    let value: $ty = value;
                    if self.len() == self.capacity() {
                        reserve(self, text.len(), pos);
                    }
                    self.push(value);
                    Some(end)
                }
            }
        )*
    };
}

scan_numbers! {
    f32: number::scan_f32;
    f64: number::scan_f64;
    i32: scan_narrow;
    i16: |text, pos| scan_narrow(text, pos).map(|(value, end)| (value as i16, end));
    i8: |text, pos| scan_narrow(text, pos).map(|(value, end)| (value as i8, end));
    u8: |text, pos| scan_narrow(text, pos).map(|(value, end)| (value as u8, end));
    u32: scan_u32;
    i64: number::scan_i64;
    u64: number::scan_u64;
}

#[inline(always)]
fn scan_narrow(text: &[u8], pos: usize) -> Option<(i32, usize)> {
    let (value, end) = number::scan_i64(text, pos)?;
    Some((i32::try_from(value).ok()?, end))
}

#[inline(always)]
fn scan_u32(text: &[u8], pos: usize) -> Option<(u32, usize)> {
    let (value, end) = number::scan_u64(text, pos)?;
    Some((u32::try_from(value).ok()?, end))
}

/// Reserves memory at the rate so far: the first `pos` of `len` bytes contained the present elements. If
/// the density of a body is even, it needs little more memory than its tensor from the start. Reserved
/// pages that are not used never become resident, and [`trim`] returns them.
#[cold]
#[inline(never)]
fn reserve<T>(all: &mut Vec<T>, len: usize, pos: usize) {
    let have = all.len();
    let left = len.saturating_sub(pos);
    let at_this_rate = (have as u128 * left as u128 / pos.max(1) as u128) as usize;
    let wanted = at_this_rate + at_this_rate / 32 + have / 8 + 16;
    // An element and its comma have at least two bytes.
    let most = left / 2 + 1;
    // A dense beginning does not justify reserving for all of a large body in one step.
    let step = have * 7 + 1024;
    all.reserve_exact(wanted.min(most).min(step));
}

impl Scan for Booleans {
    #[inline(always)]
    fn scan(&mut self, text: &[u8], pos: usize) -> Option<usize> {
        let rest = text.get(pos..)?;
        let (value, end) = if rest.starts_with(b"true") {
            (1, pos + 4)
        } else if rest.starts_with(b"false") {
            (0, pos + 5)
        } else {
            return None;
        };
        if self.0.len() == self.0.capacity() {
            reserve(&mut self.0, text.len(), pos);
        }
        self.0.push(value);
        Some(end)
    }
}

impl Scan for Strings {
    fn scan(&mut self, text: &[u8], pos: usize) -> Option<usize> {
        let end = match byte_at(text, pos) {
            b'"' => string::read(text, pos, &mut self.bytes).ok()?,
            b'{' => self.scan_base64(text, pos)?,
            _ => return None,
        };
        self.ends.push(self.bytes.len());
        Some(end)
    }
}

impl Strings {
    fn scan_base64(&mut self, text: &[u8], pos: usize) -> Option<usize> {
        let (start, end, object_end) = base64_object(text, pos)?;
        base64::decode(&text[start..end], &mut self.bytes)?;
        Some(object_end)
    }
}

/// Finds the text of the base64 object at `pos` in unchecked text: where it starts and ends, and where the
/// object ends. `None` also if the text has escapes.
pub(super) fn base64_object(text: &[u8], pos: usize) -> Option<(usize, usize, usize)> {
    let key = skip_whitespace(text, pos + 1);
    if !text.get(key..)?.starts_with(b"\"b64\"") {
        return None;
    }
    let colon = skip_whitespace(text, key + 5);
    if byte_at(text, colon) != b':' {
        return None;
    }
    let quote = skip_whitespace(text, colon + 1);
    if byte_at(text, quote) != b'"' {
        return None;
    }
    let end = string::plain_end(text, quote + 1);
    if byte_at(text, end) != b'"' {
        return None;
    }
    let close = skip_whitespace(text, end + 1);
    (byte_at(text, close) == b'}').then_some((quote + 1, end, close + 1))
}
