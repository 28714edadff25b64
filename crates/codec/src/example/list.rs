//! Reads one feature: its kind, and its values straight into the column that collects them.
//!
//! Not here: which kind and how many values are right (`parser`).

use bytes::Bytes;

use super::column::Values;
use super::reader::{Reader, tag};
use base::tensor::DataType;

/// The feature is not one of the three lists, or its bytes do not make one.
#[derive(Debug, PartialEq)]
pub(super) struct Malformed;

/// The dtype of a serialized `Feature`, and its list with the length in front; `None` for a
/// feature without a kind. Only the first field counts, as in the original.
pub(super) fn kind(feature: &[u8]) -> Result<Option<(DataType, Reader<'_>)>, Malformed> {
    let Some((&first, list)) = feature.split_first() else {
        return Ok(None);
    };
    let dtype = match first {
        tag::DELIMITED_1 => DataType::String,
        tag::DELIMITED_2 => DataType::Float,
        tag::DELIMITED_3 => DataType::Int64,
        _ => return Err(Malformed),
    };
    Ok(Some((dtype, Reader::new(list))))
}

/// Appends the values of `list`, which has the element type of `values`, but no more than `room`.
/// Returns how many there are. `source` is the buffer that `list` lies in.
///
/// Too many strings are malformed rather than counted, as in the original.
pub(super) fn append(
    mut list: Reader<'_>,
    source: &Bytes,
    room: usize,
    values: &mut Values,
) -> Result<usize, Malformed> {
    let list = list.section().ok_or(Malformed)?;
    match values {
        Values::Float(values) => append_floats(list, room, values),
        Values::Int64(values) => append_integers(list, room, values),
        Values::Strings(values) => append_strings(list, source, room, values),
    }
    .ok_or(Malformed)
}

/// Packed or not is decided by the first tag; what follows a packed run is passed over.
fn append_floats(mut list: Reader<'_>, room: usize, values: &mut Vec<f32>) -> Option<usize> {
    if list.is_empty() {
        return Some(0);
    }
    if list.expect_tag(tag::DELIMITED_1) {
        let count = list.varint()? as u32 as usize / size_of::<f32>();
        let (floats, _) = list
            .take(count.min(room) * size_of::<f32>())?
            .as_chunks::<4>();
        values.extend(floats.iter().map(|bytes| f32::from_le_bytes(*bytes)));
        return Some(count);
    }
    let mut count = 0;
    while !list.is_empty() {
        if !list.expect_tag(tag::FIXED32_1) {
            return None;
        }
        let bytes = list.take(size_of::<f32>())?.first_chunk::<4>()?;
        if count < room {
            values.push(f32::from_le_bytes(*bytes));
        }
        count += 1;
    }
    Some(count)
}

fn append_integers(mut list: Reader<'_>, room: usize, values: &mut Vec<i64>) -> Option<usize> {
    let mut count = 0;
    let mut append = |value: u64| {
        if count < room {
            values.push(value as i64);
        }
        count += 1;
    };
    match list.peek() {
        None => {}
        Some(tag::DELIMITED_1) => {
            list.expect_tag(tag::DELIMITED_1);
            let mut packed = list.section()?;
            while !packed.is_empty() {
                append(packed.varint()?);
            }
        }
        Some(_) => {
            while !list.is_empty() {
                if !list.expect_tag(tag::VARINT_1) {
                    return None;
                }
                append(list.varint()?);
            }
        }
    }
    Some(count)
}

fn append_strings(
    mut list: Reader<'_>,
    source: &Bytes,
    room: usize,
    values: &mut Vec<Bytes>,
) -> Option<usize> {
    let mut count = 0;
    while !list.is_empty() {
        if !list.expect_tag(tag::DELIMITED_1) || count == room {
            return None;
        }
        values.push(source.slice_ref(list.delimited()?));
        count += 1;
    }
    Some(count)
}
