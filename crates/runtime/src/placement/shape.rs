//! The properties of a run's inputs that predict how long it takes.

use base::tensor::Tensor;

/// The properties of a run that predict how long it takes.
#[derive(Clone, Copy, Debug)]
pub struct RunShape {
    /// The bytes of all inputs together.
    pub(super) bytes: usize,
    /// The ranks of the inputs: new ranks can mean that a graph has to be loaded first.
    pub(super) ranks: usize,
    /// Whether an input has a size of 0.
    pub(super) is_empty: bool,
}

impl RunShape {
    /// The shape of a run with these inputs.
    pub fn of(feeds: &[Tensor]) -> Self {
        let rank = |feed: &Tensor| feed.shape().len();
        Self {
            bytes: feeds.iter().map(size_in_bytes).sum(),
            ranks: feeds.iter().fold(1, |ranks: usize, feed| {
                ranks.wrapping_mul(31).wrapping_add(rank(feed))
            }),
            is_empty: feeds.iter().any(|feed| feed.shape().contains(&0)),
        }
    }

    /// The shape of a run for which `rows` of these inputs are padded to `padded`.
    #[must_use]
    pub fn padded(self, rows: usize, padded: usize) -> Self {
        let bytes_of_row = self.bytes.div_ceil(rows.max(1));
        Self {
            bytes: bytes_of_row.saturating_mul(padded),
            ..self
        }
    }
}

fn size_in_bytes(tensor: &Tensor) -> usize {
    let strings = tensor.strings().unwrap_or_default();
    let strings = strings.iter().map(|string| string.len()).sum::<usize>();
    tensor.bytes().map_or(strings, |bytes| bytes.len())
}

#[cfg(test)]
mod tests {
    use super::super::expectation::tests::rows;

    #[test]
    fn padding_counts() {
        let shape = rows(10).padded(10, 32);
        assert_eq!(shape.bytes, rows(32).bytes);
        assert_eq!(shape.ranks, rows(32).ranks);
    }
}
