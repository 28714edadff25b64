//! Wire bytes to a tensor.

use bytes::Bytes;

use super::{Typed, field, typed_field};
use crate::proto_wire::{Fields, Malformed, Value, read_varint};
use base::tensor::{DataType, Tensor, element_count};

/// If the repetition of last values makes tensors far larger than the message, those of one request
/// are limited to this many bytes together. TensorFlow has no limit here: ten bytes make it
/// allocate all memory.
pub const MAX_EXPANSION: usize = 64 << 20;

/// The part of [`MAX_EXPANSION`] that is left for the tensors of one request.
#[derive(Clone, Debug)]
pub struct ExpansionBudget {
    bytes: usize,
}

impl Default for ExpansionBudget {
    fn default() -> Self {
        Self::new(MAX_EXPANSION)
    }
}

impl ExpansionBudget {
    /// A budget of `bytes`.
    pub fn new(bytes: usize) -> Self {
        Self { bytes }
    }

    /// Takes `expanded` bytes out of the budget, unless `sent` bytes alone could hold that many values
    /// of `unit` bytes each. `None` if the budget does not suffice.
    pub(super) fn take(&mut self, expanded: usize, sent: usize, unit: usize) -> Option<()> {
        if expanded > sent.saturating_mul(unit) {
            self.bytes = self.bytes.checked_sub(expanded)?;
        }
        Some(())
    }
}

/// TensorFlow's own limit (`TensorShape::MaxDimensions`).
const MAX_RANK: usize = 254;

/// Decodes a serialized `TensorProto`. `tensor_content` and strings stay slices of `message` if
/// alignment allows.
///
/// If there are fewer values than elements, the last value is repeated; without values all elements
/// are zero. Surplus values are ignored. Packed and unpacked fields are accepted, and values in a
/// field of another dtype are not looked at.
///
/// Returns `None` if TensorFlow reports a parsing error: a missing or unsupported dtype, a negative
/// dim, `tensor_content` of the wrong length, overflow. Also if `budget` does not allow the
/// repetition.
pub fn decode(message: &Bytes, budget: &mut ExpansionBudget) -> Option<Tensor> {
    let (tensor, _) = decode_and_check(message, budget)?;
    Some(tensor)
}

/// As [`decode`]. Also returns the field whose packed numbers were all read and are well-formed.
pub fn decode_and_check(
    message: &Bytes,
    budget: &mut ExpansionBudget,
) -> Option<(Tensor, Option<u32>)> {
    let header = read_header(message).ok()?;
    let dtype = DataType::from_number(header.dtype)?;
    let (number, typed) = typed_field(dtype)?;
    let shape = &header.shape;
    let count = element_count(shape)?;
    let unread = |tensor| (tensor, None);
    if count == 0 {
        return Tensor::zeros(dtype, shape).map(unread);
    }
    let content = header.content.filter(|content| !content.is_empty());
    if let Typed::Strings = typed {
        return decode_strings(message, content, shape, count, budget).map(unread);
    }
    let size = dtype.size()?;
    let expanded = count.checked_mul(size)?;
    if let Some(content) = content {
        if content.len() != expanded {
            return None;
        }
        let bytes = content_bytes(message, content, typed);
        return Tensor::from_bytes(dtype, shape, bytes).map(unread);
    }

    budget.take(expanded, message.len(), size)?;
    let mut buffer = AlignedBuffer::zeroed(expanded);
    let out = buffer.bytes_mut();
    let filled = match typed {
        Typed::Fixed(width) => fill_fixed(message, number, width, out),
        Typed::Bool => fill_varints(message, number, out, 1, |value, element| {
            element[0] = u8::from(value != 0);
        }),
        Typed::Varint(_) | Typed::Strings => {
            fill_varints(message, number, out, size, |value, element| {
                element.copy_from_slice(&value.to_le_bytes()[..size]);
            })
        }
    };
    repeat_last(out, filled.ok()?, size);
    let tensor = Tensor::from_bytes(dtype, shape, buffer.into_bytes())?;
    Some((tensor, Some(number)))
}

/// Dtype and shape of a tensor that TensorFlow decodes but this server does not serve.
///
/// `None` if TensorFlow reports a parsing error too, or if the dtype is served.
pub fn decode_unserved(message: &[u8]) -> Option<(DataType, Vec<usize>)> {
    let header = read_header(message).ok()?;
    let dtype = DataType::from_number(header.dtype)?;
    if typed_field(dtype).is_some() {
        return None;
    }
    let count = element_count(&header.shape)?;
    let content = header.content.unwrap_or_default();
    let is_decoded = match dtype {
        _ if count == 0 => true,
        // Only values of registered types, in either form.
        DataType::Variant | DataType::Resource => content.is_empty() && holds_no_variant(message)?,
        // One byte for each element, however few bits it has.
        _ => content.is_empty() || content.len() == count,
    };
    is_decoded.then_some((dtype, header.shape))
}

/// Whether all values of variants are empty.
fn holds_no_variant(message: &[u8]) -> Option<bool> {
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next().ok()? {
        if let (field::VARIANT_VAL, Value::Delimited(value)) = (number, value)
            && !value.is_empty()
        {
            return Some(false);
        }
    }
    Some(true)
}

/// The elements of `tensor_content`, shared with `message`. Bytes that are not booleans become true,
/// because kernels can rely on there being only two values.
fn content_bytes(message: &Bytes, content: &[u8], typed: Typed) -> Bytes {
    if typed == Typed::Bool && content.iter().any(|&byte| byte > 1) {
        return content.iter().map(|&byte| u8::from(byte != 0)).collect();
    }
    message.slice_ref(content)
}

/// The measured memory of one string of a tensor: here, in ONNX Runtime and in a response.
pub const STRING_BYTES: usize = 136;

/// The memory that [`decode`] needs for a serialized `TensorProto` in addition to the message; 0 for a
/// message that it refuses before it allocates anything.
pub fn decoded_bytes(message: &[u8]) -> usize {
    let bytes = || {
        let header = read_header(message).ok()?;
        let dtype = DataType::from_number(header.dtype)?;
        let count = element_count(&header.shape)?;
        let has_content = header.content.is_some_and(|content| !content.is_empty());
        let (unit, taken) = match dtype.size() {
            Some(_) if has_content => return None,
            Some(size) => (size, size),
            None => (size_of::<Bytes>(), STRING_BYTES),
        };
        let mut budget = ExpansionBudget::default();
        budget.take(count.checked_mul(unit)?, message.len(), unit)?;
        count.checked_mul(taken)
    };
    bytes().unwrap_or_default()
}

fn decode_strings(
    message: &Bytes,
    content: Option<&[u8]>,
    shape: &[usize],
    count: usize,
    budget: &mut ExpansionBudget,
) -> Option<Tensor> {
    const UNIT: usize = size_of::<Bytes>();
    budget.take(count.checked_mul(UNIT)?, message.len(), UNIT)?;
    let mut strings = match content {
        Some(content) => strings_of_content(message, content, count).ok()?,
        None => strings_of_field(message, count).ok()?,
    };
    let last = strings.last().cloned().unwrap_or_default();
    strings.resize(count, last);
    Tensor::from_strings(shape, strings)
}

struct Header<'a> {
    dtype: i32,
    shape: Vec<usize>,
    content: Option<&'a [u8]>,
}

/// Everything except the typed values.
fn read_header(message: &[u8]) -> Result<Header<'_>, Malformed> {
    let mut header = Header {
        dtype: 0,
        shape: Vec::new(),
        content: None,
    };
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (field::DTYPE, Value::Varint(value)) => header.dtype = value as i32,
            (field::TENSOR_SHAPE, Value::Delimited(shape)) => read_shape(shape, &mut header.shape)?,
            (field::TENSOR_CONTENT, Value::Delimited(content)) => header.content = Some(content),
            _ => {}
        }
    }
    Ok(header)
}

/// Appends the dims of a `TensorShapeProto`. As in TensorFlow, `unknown_rank` is ignored: a tensor
/// of values has a rank.
fn read_shape(message: &[u8], shape: &mut Vec<usize>) -> Result<(), Malformed> {
    const DIM: u32 = 2;
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        if let (DIM, Value::Delimited(dim)) = (number, value) {
            shape.push(usize::try_from(read_dim(dim)?).map_err(|_| Malformed)?);
            if shape.len() > MAX_RANK {
                return Err(Malformed);
            }
        }
    }
    Ok(())
}

fn read_dim(message: &[u8]) -> Result<i64, Malformed> {
    const SIZE: u32 = 1;
    let mut size = 0;
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        if let (SIZE, Value::Varint(value)) = (number, value) {
            size = value as i64;
        }
    }
    Ok(size)
}

/// Copies the values of a fixed-size field, packed or not, to the front of `out` and returns their
/// size in bytes. `width` is the size of one value; a complex element has two.
fn fill_fixed(
    message: &[u8],
    number: u32,
    width: usize,
    out: &mut [u8],
) -> Result<usize, Malformed> {
    let mut filled = 0;
    let mut fields = Fields::new(message);
    while let Some((field, value)) = fields.next()? {
        if field != number {
            continue;
        }
        let bytes: &[u8] = match &value {
            Value::Delimited(packed) if packed.len() % width == 0 => packed,
            Value::Delimited(_) => return Err(Malformed),
            Value::Fixed32(bytes) if width == 4 => bytes,
            Value::Fixed64(bytes) if width == 8 => bytes,
            // With another wire type it is an unknown field.
            _ => continue,
        };
        let fits = bytes.len().min(out.len() - filled);
        out[filled..filled + fits].copy_from_slice(&bytes[..fits]);
        filled += fits;
    }
    Ok(filled)
}

/// Writes the values of a varint field, packed or not, to the front of `out`, `size` bytes each.
/// Returns the number of bytes.
fn fill_varints(
    message: &[u8],
    number: u32,
    out: &mut [u8],
    size: usize,
    write: impl Fn(u64, &mut [u8]),
) -> Result<usize, Malformed> {
    let total = out.len() / size;
    let mut elements = out.chunks_exact_mut(size);
    let mut fields = Fields::new(message);
    while let Some((field, value)) = fields.next()? {
        match value {
            Value::Varint(value) if field == number => {
                if let Some(element) = elements.next() {
                    write(value, element);
                }
            }
            Value::Delimited(mut packed) if field == number => {
                while !packed.is_empty() {
                    // Surplus values have to be numbers as well.
                    let value = read_varint(&mut packed)?;
                    if let Some(element) = elements.next() {
                        write(value, element);
                    }
                }
            }
            _ => {}
        }
    }
    Ok((total - elements.len()) * size)
}

/// Repeats the last element of the first `filled` bytes to the end. Without one the zeros stay.
fn repeat_last(out: &mut [u8], filled: usize, size: usize) {
    // As in TensorFlow, a trailing half of a complex number does not count.
    let filled = filled - filled % size;
    if filled == 0 || filled == out.len() {
        return;
    }
    let (values, rest) = out.split_at_mut(filled);
    let last = &values[filled - size..];
    for element in rest.chunks_exact_mut(size) {
        element.copy_from_slice(last);
    }
}

fn strings_of_field(message: &Bytes, count: usize) -> Result<Vec<Bytes>, Malformed> {
    let mut strings = Vec::new();
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        if let (field::STRING_VAL, Value::Delimited(string)) = (number, value)
            && strings.len() < count
        {
            strings.push(message.slice_ref(string));
        }
    }
    Ok(strings)
}

/// `tensor_content` of strings: all lengths as varints, then the bytes (`port::DecodeStringList`).
fn strings_of_content(
    message: &Bytes,
    mut content: &[u8],
    count: usize,
) -> Result<Vec<Bytes>, Malformed> {
    if count > content.len() {
        return Err(Malformed);
    }
    let mut lengths = Vec::with_capacity(count);
    for _ in 0..count {
        let len = read_varint(&mut content)?;
        lengths.push(usize::try_from(len).map_err(|_| Malformed)?);
    }
    let mut strings = Vec::with_capacity(count);
    for len in lengths {
        let (string, rest) = content.split_at_checked(len).ok_or(Malformed)?;
        strings.push(message.slice_ref(string));
        content = rest;
    }
    if content.is_empty() {
        Ok(strings)
    } else {
        Err(Malformed)
    }
}

/// A zeroed buffer that is aligned for every dtype and becomes [`Bytes`] without a copy.
struct AlignedBuffer {
    words: Vec<u64>,
    len: usize,
}

impl AlignedBuffer {
    fn zeroed(len: usize) -> Self {
        Self {
            words: vec![0; len.div_ceil(8)],
            len,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: a u64 accepts any eight bytes; the slice covers exactly the vector.
        let bytes = unsafe {
            std::slice::from_raw_parts_mut(self.words.as_mut_ptr().cast(), self.words.len() * 8)
        };
        &mut bytes[..self.len]
    }

    fn into_bytes(self) -> Bytes {
        let len = self.len;
        Bytes::from_owner(self).slice(..len)
    }
}

impl AsRef<[u8]> for AlignedBuffer {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: initialised memory of plain integers, read as bytes.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), self.words.len() * 8) }
    }
}
