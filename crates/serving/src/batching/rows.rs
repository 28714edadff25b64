//! Rows of tensors: takes some out, and joins tensors along dimension 0.
//!
//! Not here: which tensors belong together (`queue`), running a batch (`batch`).

use std::ops::Range;

use bytes::Bytes;

use base::error::{Code, Result, ServingError};
use base::tensor::{Tensor, element_count};

/// These rows of `tensor`. Plain elements are shared, not copied.
///
/// # Errors
///
/// `INTERNAL` if `tensor` does not have these rows.
pub(super) fn slice(tensor: &Tensor, rows: Range<usize>) -> Result<Tensor> {
    slice_within(tensor, rows).ok_or_else(|| ServingError::internal("no such rows in a batch"))
}

fn slice_within(tensor: &Tensor, rows: Range<usize>) -> Option<Tensor> {
    let (&count, trailing) = tensor.shape().split_first()?;
    if rows.end > count {
        return None;
    }
    if rows == (0..count) {
        return Some(tensor.clone());
    }
    let shape = with_rows(rows.len(), trailing);
    let per_row = element_count(trailing)?;
    if let Some(strings) = tensor.strings() {
        let strings = strings.get(rows.start * per_row..rows.end * per_row)?;
        return Tensor::from_strings(&shape, strings.to_vec());
    }
    let row_bytes = per_row * tensor.dtype().size()?;
    let bytes = tensor.bytes()?;
    let bytes = bytes.slice(rows.start * row_bytes..rows.end * row_bytes);
    Tensor::from_bytes(tensor.dtype(), &shape, bytes)
}

/// The rows of all `tensors` in order, then copies of the last tensor's first row up to `rows`.
/// Each row is copied once. A single tensor that already has `rows` rows is returned as it is.
///
/// If other dimensions differ, each tensor is padded at its end to the largest, with its own first
/// element (`batching_util.cc`).
///
/// The tensors must have equal dtype and rank, and at least one row; those to be padded must not be empty.
///
/// # Errors
///
/// `RESOURCE_EXHAUSTED` if there is not enough memory for the result.
pub(super) fn merge(tensors: &[&Tensor], rows: usize) -> Result<Tensor> {
    let (Some(first), Some(last)) = (tensors.first(), tensors.last()) else {
        return Err(ServingError::internal("a batch without members"));
    };
    if tensors.len() == 1 && first.shape().first() == Some(&rows) {
        return Ok((*first).clone());
    }
    let trailing = largest_trailing(tensors);
    let shape = with_rows(rows, &trailing);
    let merged = if first.strings().is_some() {
        let parts = tensors.iter().map(|it| (it.shape(), it.strings()));
        merge_elements::<Bytes>(parts, 1, &shape, last.shape())
            .and_then(|strings| Tensor::from_strings(&shape, strings))
    } else {
        let parts = tensors
            .iter()
            .map(|it| (it.shape(), it.bytes().map(|bytes| &bytes[..])));
        let size = first.dtype().size();
        size.and_then(|size| merge_elements::<u8>(parts, size, &shape, last.shape()))
            .and_then(|bytes| Tensor::from_bytes(first.dtype(), &shape, bytes.into()))
    };
    merged.ok_or_else(|| ServingError::new(Code::ResourceExhausted, "no memory for the batch"))
}

/// Whether the padding of these tensors to one shape fits a limit: 64 MiB, or 16 times their own
/// size. Without the limit two small requests could make one very large tensor.
pub(super) fn padding_is_bounded(tensors: &[&Tensor]) -> bool {
    const ALWAYS_FINE: usize = 64 << 20;
    const FACTOR: usize = 16;
    let Some(first) = tensors.first() else {
        return true;
    };
    let size = first.dtype().size().unwrap_or(size_of::<Bytes>());
    let own: usize = tensors.iter().map(|it| it.len()).sum();
    let rows = tensors.iter().filter_map(|it| it.shape().first()).sum();
    let padded = element_count(&with_rows(rows, &largest_trailing(tensors)))
        .and_then(|count| count.checked_mul(size));
    let bound = own
        .saturating_mul(size)
        .saturating_mul(FACTOR)
        .max(ALWAYS_FINE);
    padded.is_some_and(|padded| padded <= bound)
}

/// Concatenates the tensors along dimension 0.
///
/// # Errors
///
/// `FAILED_PRECONDITION` if dtypes or other dimensions differ.
pub(super) fn concatenate(tensors: &[&Tensor]) -> Result<Tensor> {
    let form = |tensor: &Tensor| {
        let trailing = tensor.shape().get(1..).map(<[usize]>::to_vec);
        (tensor.dtype(), trailing)
    };
    let forms_differ = tensors
        .windows(2)
        .any(|pair| form(pair[0]) != form(pair[1]));
    if forms_differ {
        return Err(ServingError::failed_precondition(
            "the parts of a split request have outputs of different shapes",
        ));
    }
    let rows = tensors.iter().filter_map(|it| it.shape().first()).sum();
    merge(tensors, rows)
}

/// Elements are runs of `unit` items. `None` if an item is missing or there is not enough memory.
fn merge_elements<'a, T: Clone + 'a>(
    parts: impl Iterator<Item = (&'a [usize], Option<&'a [T]>)>,
    unit: usize,
    shape: &[usize],
    last: &[usize],
) -> Option<Vec<T>> {
    let total = element_count(shape)?.checked_mul(unit)?;
    let per_row = element_count(&shape[1..])?.checked_mul(unit)?;
    let mut target = Vec::new();
    target.try_reserve_exact(total).ok()?;
    for (dims, items) in parts {
        let items = items?;
        append_padded(&mut target, items, (&dims[1..], &shape[1..]), dims[0], unit);
    }
    // The rows of the last tensor are at the end of the data so far.
    let row = target.len().checked_sub(last.first()? * per_row)?;
    while target.len() < total && per_row > 0 {
        target.extend_from_within(row..row + per_row);
    }
    Some(target)
}

/// Appends `rows` blocks of dimensions `dims`, each padded to `wanted` with the first element.
fn append_padded<T: Clone>(
    target: &mut Vec<T>,
    items: &[T],
    (dims, wanted): (&[usize], &[usize]),
    rows: usize,
    unit: usize,
) {
    if dims == wanted || items.is_empty() {
        target.extend_from_slice(items);
        return;
    }
    for block in items.chunks(items.len() / rows) {
        append_block(target, block, dims, wanted, &items[..unit]);
    }
}

fn append_block<T: Clone>(
    target: &mut Vec<T>,
    block: &[T],
    dims: &[usize],
    wanted: &[usize],
    fill: &[T],
) {
    let (Some((&dim, dims_within)), Some((&wanted_dim, wanted_within))) =
        (dims.split_first(), wanted.split_first())
    else {
        target.extend_from_slice(block);
        return;
    };
    if dims == wanted {
        target.extend_from_slice(block);
        return;
    }
    for part in block.chunks(block.len() / dim) {
        append_block(target, part, dims_within, wanted_within, fill);
    }
    let missing: usize = (wanted_dim - dim) * wanted_within.iter().product::<usize>();
    for _ in 0..missing {
        target.extend_from_slice(fill);
    }
}

/// The largest size of each dimension except the first, over all tensors.
fn largest_trailing(tensors: &[&Tensor]) -> Vec<usize> {
    let mut largest: Vec<usize> = Vec::new();
    for tensor in tensors {
        let trailing = tensor.shape().get(1..).unwrap_or_default();
        largest.resize(largest.len().max(trailing.len()), 0);
        for (largest, &dim) in largest.iter_mut().zip(trailing) {
            *largest = dim.max(*largest);
        }
    }
    largest
}

fn with_rows(rows: usize, trailing: &[usize]) -> Vec<usize> {
    let mut shape = Vec::with_capacity(trailing.len() + 1);
    shape.push(rows);
    shape.extend_from_slice(trailing);
    shape
}

#[cfg(test)]
mod tests;
