//! A single example that was sent as a scalar: its tensors have no batch dimension.

use super::parsed::{ParsedExamples, RaggedTensor, SparseTensor};
use base::tensor::Tensor;

/// The features of the only example in a batch of one. `None` if the batch has another size.
pub(super) fn without_batch(parsed: ParsedExamples) -> Option<ParsedExamples> {
    let dense = parsed.dense.iter();
    let dense = dense.map(|tensor| tensor.reshaped(tensor.shape().get(1..)?));
    let sparse = parsed.sparse.iter().map(|sparse| {
        let positions = sparse.indices.as_slice::<i64>()?.chunks(2);
        let positions: Vec<i64> = positions.filter_map(|it| it.get(1).copied()).collect();
        let longest = *sparse.dense_shape.as_slice::<i64>()?.get(1)?;
        Some(SparseTensor {
            indices: Tensor::from_vec(&[positions.len(), 1], positions)?,
            values: sparse.values.clone(),
            dense_shape: Tensor::from_vec(&[1], vec![longest])?,
        })
    });
    // The values of one example need no splits.
    let ragged = parsed.ragged.into_iter().map(|ragged| {
        Some(RaggedTensor {
            row_splits: Tensor::zeros(ragged.row_splits.dtype(), &[0])?,
            values: ragged.values,
        })
    });
    Some(ParsedExamples {
        dense: dense.collect::<Option<_>>()?,
        sparse: sparse.collect::<Option<_>>()?,
        ragged: ragged.collect::<Option<_>>()?,
    })
}
