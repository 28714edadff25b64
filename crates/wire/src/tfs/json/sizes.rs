//! Counts for each level of nested lists, stored in one byte for most levels.
//!
//! A body decides how deep lists nest, and each level costs only two of its bytes. So a level must not need
//! much more memory, however deep it is: a count that does not fit into a byte is stored separately, and
//! the body has to contain as many elements.
//!
//! Not here: determining the levels (`fill`).

use std::collections::BTreeMap;

use base::tensor::dims_text;

/// The counts of the levels, from the outermost on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sizes {
    small: Vec<u8>,
    /// By level, for bytes that are [`LARGE`].
    large: BTreeMap<usize, usize>,
}

/// Marks a count that is stored in `large`.
const LARGE: u8 = u8::MAX;

impl Sizes {
    /// The number of levels.
    pub(super) fn len(&self) -> usize {
        self.small.len()
    }

    /// The count of a level; 0 if the level does not exist.
    pub(super) fn get(&self, level: usize) -> usize {
        match self.small.get(level) {
            Some(&LARGE) => self.large.get(&level).copied().unwrap_or_default(),
            Some(&small) => usize::from(small),
            None => 0,
        }
    }

    /// Changes the count of an existing level.
    pub(super) fn set(&mut self, level: usize, count: usize) {
        let Some(small) = self.small.get_mut(level) else {
            return;
        };
        let fits = u8::try_from(count).ok().filter(|it| *it != LARGE);
        if *small == LARGE && fits.is_some() {
            self.large.remove(&level);
        }
        *small = fits.unwrap_or(LARGE);
        if fits.is_none() {
            self.large.insert(level, count);
        }
    }

    /// Adds a level with count 0.
    pub(super) fn push(&mut self) {
        self.small.push(0);
    }

    /// Removes the last level and returns its count.
    pub(super) fn pop(&mut self) -> Option<usize> {
        let level = self.len().checked_sub(1)?;
        let count = self.get(level);
        if self.small.pop() == Some(LARGE) {
            self.large.remove(&level);
        }
        Some(count)
    }

    /// Adds one to the last level's count; `false` if it has no level.
    pub(super) fn count_one(&mut self) -> bool {
        let Some(level) = self.len().checked_sub(1) else {
            return false;
        };
        self.set(level, self.get(level) + 1);
        true
    }

    /// The counts, the outermost first.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        (0..self.len()).map(|level| self.get(level))
    }

    /// The form in which messages show a shape.
    pub(super) fn text(&self) -> String {
        dims_text(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_go_beyond_a_byte_and_come_back() {
        let mut sizes = Sizes::default();
        assert!(!sizes.count_one());
        sizes.push();
        sizes.push();
        for count in 1..=600 {
            assert!(sizes.count_one());
            assert_eq!((sizes.get(0), sizes.get(1)), (0, count));
        }
        for count in [254, 255, 256, 7] {
            sizes.set(0, count);
            assert_eq!(sizes.get(0), count);
        }
        assert_eq!(sizes.text(), "[7,600]");
        assert_eq!(sizes.pop(), Some(600));
        sizes.push();
        assert_eq!(sizes.text(), "[7,0]");
        sizes.pop();
        sizes.pop();
        assert_eq!((sizes.pop(), sizes.text()), (None, "[]".to_owned()));
        assert_eq!(sizes, Sizes::default());
    }
}
