//! Finds the best of an example's scores. Pure numbers: no labels, no tensors.

use std::cmp::Ordering;

/// For each row of `scores: float[n, columns]`, the positions in `scores` of its `k` highest in
/// descending order, or of all if a row has fewer.
///
/// Of equal scores the first comes first, as in TensorFlow's `TopKV2`; NaN comes last.
pub(super) fn best(scores: &[f32], columns: usize, k: usize) -> Vec<usize> {
    let by_rank = |a: &usize, b: &usize| descending(scores[*a], scores[*b]).then(a.cmp(b));
    let mut best = Vec::new();
    let mut row = Vec::with_capacity(columns);
    for start in (0..scores.len()).step_by(columns.max(1)) {
        row.clear();
        row.extend(start..start + columns);
        if k < columns {
            row.select_nth_unstable_by(k, by_rank);
            row.truncate(k);
        }
        row.sort_unstable_by(by_rank);
        best.extend_from_slice(&row);
    }
    best
}

fn descending(a: f32, b: f32) -> Ordering {
    let nan_last = a.is_nan().cmp(&b.is_nan());
    nan_last.then_with(|| b.partial_cmp(&a).unwrap_or(Ordering::Equal))
}

#[cfg(test)]
mod tests {
    use super::*;

    // The first two are the examples in the documentation of tf.math.top_k.
    #[test]
    fn best_are_ranked_row_by_row() {
        let scores = [
            1.0, 2.0, 98.0, 1.0, 1.0, 99.0, 3.0, 1.0, 3.0, 96.0, 4.0, 1.0,
        ];
        assert_eq!(best(&scores, 12, 3), [5, 2, 9]);
        let equal = [
            1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0,
        ];
        assert_eq!(best(&equal, 14, 3), [0, 1, 3]);
        assert_eq!(best(&[0.1, 0.7, 0.2, 0.5, 0.1, 0.4], 3, 2), [1, 2, 3, 5]);
        assert_eq!(best(&[-0.0, 0.0, f32::NEG_INFINITY], 3, 3), [0, 1, 2]);
    }

    #[test]
    fn short_rows_are_ranked_whole() {
        assert_eq!(best(&[0.1, 0.7, 0.5, 0.2], 2, usize::MAX), [1, 0, 2, 3]);
        assert_eq!(best(&[], 0, 3), [0usize; 0]);
    }

    #[test]
    fn nan_is_never_the_best() {
        let nan = f32::NAN;
        assert_eq!(best(&[nan, 0.5, -nan, f32::INFINITY], 4, 2), [3, 1]);
        assert_eq!(best(&[nan, f32::NEG_INFINITY], 2, 2), [1, 0]);
    }
}
