//! An input that takes serialized `tensorflow.Example` messages, and where its features go.
//!
//! Not here: the parser (`example`).

use super::example::{ExampleSpec, ParsedExamples, RaggedTensor, SparseTensor};
use crate::error::{Result, ServingError};
use crate::tensor::{Tensor, shape_text};

/// An input of serialized examples.
#[derive(Clone, Debug)]
pub struct ExampleInput {
    /// Index into [`Signature::inputs`](super::Signature::inputs).
    pub input: usize,
    /// The features that are parsed, those that no graph input takes included.
    pub spec: ExampleSpec,
    /// Whether one example may come as a scalar (`ParseExampleV2`), or only in a vector.
    pub takes_scalar: bool,
}

/// One of the tensors that examples are parsed into. The index counts the spec's features of that
/// kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureTensor {
    /// A dense feature: `[n, shape...]`.
    Dense(usize),
    /// `int64[m, 2]`.
    SparseIndices(usize),
    /// `[m]`.
    SparseValues(usize),
    /// `int64[2]`.
    SparseShape(usize),
    /// `[m]`.
    RaggedValues(usize),
    /// `[n + 1]`.
    RowSplits(usize),
}

impl ExampleInput {
    /// Parses what a client sent.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` for a tensor of another rank and those of [`ExampleSpec::parse`].
    pub fn parse(&self, serialized: &Tensor) -> Result<ParsedExamples> {
        let rank = serialized.shape().len();
        if rank > 1 || (rank == 0 && !self.takes_scalar) {
            let wanted = if self.takes_scalar {
                "a scalar or vector"
            } else {
                "a vector"
            };
            return Err(ServingError::invalid_argument(format!(
                "Expected serialized to be {wanted}, got shape: {}",
                shape_text(serialized.shape())
            )));
        }
        let examples = serialized.strings().ok_or_else(|| {
            ServingError::internal("an example input has another dtype than string")
        })?;
        let parsed = self.spec.parse(examples)?;
        if rank == 1 {
            return Ok(parsed);
        }
        without_batch(parsed)
            .ok_or_else(|| ServingError::internal("one parsed example is not a batch of one"))
    }
}

/// The features of a single example: what is parsed from a scalar has no batch dimension.
fn without_batch(parsed: ParsedExamples) -> Option<ParsedExamples> {
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
    Some(ParsedExamples {
        dense: dense.collect::<Option<_>>()?,
        sparse: sparse.collect::<Option<_>>()?,
        ragged: parsed.ragged,
    })
}

impl FeatureTensor {
    /// This tensor among what was parsed. The spec that parsed it must have that many features.
    pub(super) fn of(self, parsed: &ParsedExamples) -> &Tensor {
        let sparse = |index: usize| -> &SparseTensor { &parsed.sparse[index] };
        let ragged = |index: usize| -> &RaggedTensor { &parsed.ragged[index] };
        match self {
            Self::Dense(index) => &parsed.dense[index],
            Self::SparseIndices(index) => &sparse(index).indices,
            Self::SparseValues(index) => &sparse(index).values,
            Self::SparseShape(index) => &sparse(index).dense_shape,
            Self::RaggedValues(index) => &ragged(index).values,
            Self::RowSplits(index) => &ragged(index).row_splits,
        }
    }
}
