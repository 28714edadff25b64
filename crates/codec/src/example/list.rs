//! Reads one feature: its kind, and its values directly into the column that collects them.
//!
//! Not here: checking the kind and the number of values (`parser`).

use bytes::Bytes;

use super::column::Values;
use super::reader::{Reader, tag};
use base::tensor::DataType;

/// The feature is not one of the three lists, or its bytes are not a valid one.
#[derive(Debug, PartialEq)]
pub(super) struct Malformed;

/// The dtype of a serialized `Feature`, and its list with the length in front; `None` for a
/// feature without a kind. Only the first field counts, as in TensorFlow.
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

/// Appends the values of `list`, which has the element type of `values`, but at most `room` of them.
/// Returns how many values the list has. `source` is the buffer that contains `list`.
///
/// As in TensorFlow, too many strings are malformed rather than counted.
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

/// The first tag decides whether the list is packed; anything after a packed run is skipped.
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
