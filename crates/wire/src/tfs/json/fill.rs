//! Reads one tensor's value, element by element, with TensorFlow Serving's errors about nesting
//! (`GetDenseTensorShape` and `FillTensorProto`, `json_tensor.cc`).
//!
//! The text has been checked before. Both walks are linear and keep their own stacks of about a byte per
//! level, so that a body with two bytes per level can have any depth and gets its error.

use super::column::Column;
use super::sizes::Sizes;
use base::error::{Result, ServingError};
use codec::json::cursor::{Cursor, JsonKind};
use codec::json::debug_text::debug_text;

/// Appends all leaves of the value at `cursor` to `column`; returns the value's shape and its number of
/// leaves.
///
/// # Errors
///
/// The first in TensorFlow Serving's order: a list's size before its elements, depth first.
pub(super) fn fill(cursor: Cursor<'_>, column: &mut Column) -> Result<(Sizes, usize)> {
    let shape = dense_shape(cursor);
    let mut walk = Walk {
        cursor,
        shape: &shape,
        seen: Sizes::default(),
    };
    let mut leaves = 0;
    loop {
        if walk.cursor.kind() == JsonKind::Array {
            if walk.open()? {
                continue;
            }
        } else {
            let pushed = walk.leaf(column);
            pushed.map_err(|error| walk.first_error(error))?;
            leaves += 1;
            walk.cursor = walk.cursor.behind();
        }
        if !walk.next_value()? {
            return Ok((shape, leaves));
        }
    }
}

/// The sizes of the lists on the path through the first elements.
fn dense_shape(cursor: Cursor<'_>) -> Sizes {
    let mut cursor = cursor;
    let mut shape = Sizes::default();
    while cursor.kind() == JsonKind::Array {
        cursor = cursor.step();
        if cursor.closes() {
            shape.push();
            cursor = cursor.step();
            return count_outwards(cursor, shape, 1);
        }
        shape.push();
    }
    cursor = cursor.behind();
    count_outwards(cursor, shape, 0)
}

/// Counts the remaining elements of the open lists, innermost first; the innermost `closed` lists are
/// already closed.
fn count_outwards(cursor: Cursor<'_>, mut shape: Sizes, closed: usize) -> Sizes {
    let mut cursor = cursor;
    let open = shape.len() - closed;
    for level in (0..open).rev() {
        let mut size = 1;
        while let Some(next) = cursor.after_comma() {
            size += 1;
            cursor = next.behind();
        }
        shape.set(level, size);
        cursor = cursor.step();
    }
    shape
}

/// A walk through a value whose shape was determined by its first elements.
struct Walk<'a, 's> {
    /// At a value, or after one.
    cursor: Cursor<'a>,
    shape: &'s Sizes,
    /// For every open list, the number of its elements that are done.
    seen: Sizes,
}

impl Walk<'_, '_> {
    /// Enters the list at the cursor; `false` if it was empty and is done.
    fn open(&mut self) -> Result<bool> {
        let (level, rank) = (self.seen.len(), self.shape.len());
        if level >= rank {
            let error = ServingError::invalid_argument(format!(
                "Encountered list at unexpected level: {level} expected < {rank}"
            ));
            return Err(self.first_error(error));
        }
        let inside = self.cursor.step();
        if !inside.closes() {
            self.cursor = inside;
            self.seen.push();
            return Ok(true);
        }
        if self.shape.get(level) != 0 {
            let error = wrong_size(0, level, self.shape.get(level));
            return Err(self.first_error(error));
        }
        self.cursor = inside.step();
        Ok(false)
    }

    fn leaf(&self, column: &mut Column) -> Result<()> {
        let (level, rank) = (self.seen.len(), self.shape.len());
        if level != rank {
            return Err(ServingError::invalid_argument(format!(
                "JSON Value: {} found at incorrect level: {} in the JSON DOM. Expected at level: {rank}",
                debug_text(self.cursor),
                level + 1
            )));
        }
        column.push(self.cursor)
    }

    /// Moves from the end of one value to the next, closing lists; `false` at the end of all.
    fn next_value(&mut self) -> Result<bool> {
        while self.seen.count_one() {
            if let Some(next) = self.cursor.after_comma() {
                self.cursor = next;
                return Ok(true);
            }
            let size = self.seen.pop().unwrap_or_default();
            self.cursor = self.cursor.step();
            let level = self.seen.len();
            if size != self.shape.get(level) {
                let error = wrong_size(size, level, self.shape.get(level));
                return Err(self.outer_error(error, self.cursor));
            }
        }
        Ok(false)
    }

    /// The error to report if `error` is about the value at the cursor: an error about the size of a list
    /// around it takes precedence.
    fn first_error(&self, error: ServingError) -> ServingError {
        self.outer_error(error, self.cursor.behind())
    }

    /// Like [`first_error`](Self::first_error), from the end of the value.
    fn outer_error(&self, error: ServingError, behind: Cursor<'_>) -> ServingError {
        let mut cursor = behind;
        let mut first = error;
        for level in (0..self.seen.len()).rev() {
            let mut size = self.seen.get(level) + 1;
            while let Some(next) = cursor.after_comma() {
                size += 1;
                cursor = next.behind();
            }
            cursor = cursor.step();
            if size != self.shape.get(level) {
                first = wrong_size(size, level, self.shape.get(level));
            }
        }
        first
    }
}

fn wrong_size(size: usize, level: usize, expected: usize) -> ServingError {
    ServingError::invalid_argument(format!(
        "Encountered list at unexpected size: {size} at level: {level} expected size: {expected}"
    ))
}
