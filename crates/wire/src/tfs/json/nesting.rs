//! Reads nested lists of unchecked text into a flat column and a shape, in one pass.
//!
//! The fast path's counterpart of `fill`: the same shapes, no errors. A value that nests deeper than a
//! tensor can is rejected.

use super::column::{MAX_DIMENSIONS, Scan};
use super::reader::Reader;
use codec::json::text::byte_at;

/// The shape of an input's values: the first elements determine it, and all others must match.
#[derive(Default)]
pub(super) struct Nesting {
    /// Sizes by level. The size of a list that is still open for the first time is unknown.
    pub(super) sizes: Vec<usize>,
    /// The number of levels, known from the first leaf or empty list on.
    rank: Option<usize>,
    /// For every open list, the number of its elements that are done. Kept to reuse its memory.
    open: Vec<usize>,
}

/// A size that is not known yet.
const UNKNOWN: usize = usize::MAX;

impl Nesting {
    pub(super) fn read(&mut self, reader: &mut Reader<'_>, leaves: &mut impl Scan) -> Option<()> {
        self.open.clear();
        loop {
            if reader.peek() == b'[' {
                reader.pos += 1;
                self.descend(reader)?;
                if byte_at(reader.text, reader.pos) != b']' {
                    continue;
                }
                // The list is empty, and its closing bracket comes next.
            } else {
                let level = self.open.len();
                if *self.rank.get_or_insert(level) != level {
                    return None;
                }
                let Some(done) = self.open.last_mut() else {
                    reader.pos = leaves.scan(reader.text, reader.pos)?;
                    return Some(());
                };
                *done = reader.leaves(leaves)?;
            }
            if !self.ascend(reader)? {
                return Some(());
            }
        }
    }

    /// Enters a list.
    fn descend(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        let level = self.open.len();
        if level >= self.rank.unwrap_or(MAX_DIMENSIONS) {
            return None;
        }
        if level == self.sizes.len() {
            self.sizes.push(UNKNOWN);
        }
        self.open.push(0);
        if reader.peek() == b']' {
            self.rank.get_or_insert(level + 1);
        }
        Some(())
    }

    /// Closes lists, starting before the closing bracket of the innermost, until one has another element;
    /// `false` at the end of the value.
    fn ascend(&mut self, reader: &mut Reader<'_>) -> Option<bool> {
        loop {
            // Before the bracket of the list that ends here.
            reader.pos += 1;
            let size = self.open.pop()?;
            let known = &mut self.sizes[self.open.len()];
            if *known == UNKNOWN {
                *known = size;
            }
            if *known != size {
                return None;
            }
            let Some(done) = self.open.last_mut() else {
                return Some(false);
            };
            *done += 1;
            match reader.peek() {
                b',' => {
                    reader.pos += 1;
                    return Some(true);
                }
                b']' => {}
                _ => return None,
            }
        }
    }
}
