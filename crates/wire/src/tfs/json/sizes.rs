//! Counts by level of nested lists, in a byte for most levels.
//!
//! A body decides how deep lists nest, and each level takes two of its bytes. So what is kept of a
//! level must not take much more, however deep it is: a count that a byte cannot hold is kept
//! elsewhere, and has as many elements in the body to pay for it.
//!
//! Not here: which levels there are (`fill`).

use std::collections::BTreeMap;

use base::tensor::dims_text;

/// The counts of the levels from the outermost on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sizes {
    small: Vec<u8>,
    /// By level, where the byte is [`LARGE`].
    large: BTreeMap<usize, usize>,
}

/// Stands for a count that is kept in `large`.
const LARGE: u8 = u8::MAX;

impl Sizes {
    /// How many levels there are.
    pub(super) fn len(&self) -> usize {
        self.small.len()
    }

    /// The count of a level; 0 where there is no such level.
    pub(super) fn get(&self, level: usize) -> usize {
        match self.small.get(level) {
            Some(&LARGE) => self.large.get(&level).copied().unwrap_or_default(),
            Some(&small) => usize::from(small),
            None => 0,
        }
    }

    /// Changes the count of a level that there is.
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

    /// Adds a level, of count 0.
    pub(super) fn push(&mut self) {
        self.small.push(0);
    }

    /// Takes the last level off and returns its count.
    pub(super) fn pop(&mut self) -> Option<usize> {
        let level = self.len().checked_sub(1)?;
        let count = self.get(level);
        if self.small.pop() == Some(LARGE) {
            self.large.remove(&level);
        }
        Some(count)
    }

    /// Adds one to the last level's count; `false` where there is no level.
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

    /// As a message shows a shape.
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
