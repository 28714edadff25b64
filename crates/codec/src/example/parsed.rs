//! The tensors that the examples of a request are parsed into.
//!
//! Not here: making them (`parser`, `column`).

use bytes::Bytes;

use base::tensor::Tensor;

/// The features of a request with `n` examples.
#[derive(Clone, Debug, PartialEq)]
pub struct ParsedExamples {
    /// In the order of the dense features: `[n, shape...]` each.
    pub dense: Vec<Tensor>,
    /// In the order of the sparse features.
    pub sparse: Vec<SparseTensor>,
    /// In the order of the ragged features.
    pub ragged: Vec<RaggedTensor>,
}

/// Counterpart of TensorFlow's `SparseTensor` with `m` values.
#[derive(Clone, Debug, PartialEq)]
pub struct SparseTensor {
    /// `int64[m, 2]`: example and position of each value.
    pub indices: Tensor,
    /// `[m]`.
    pub values: Tensor,
    /// `int64[2]`: number of examples, and of values in the longest.
    pub dense_shape: Tensor,
}

/// Counterpart of TensorFlow's `RaggedTensor` with `m` values.
#[derive(Clone, Debug, PartialEq)]
pub struct RaggedTensor {
    /// `[m]`.
    pub values: Tensor,
    /// `[n + 1]`: where the values of each example begin, and where the last ones end.
    pub row_splits: Tensor,
}

impl ParsedExamples {
    /// The bytes of all tensors. Strings share the request's memory, so each counts as a reference.
    pub fn bytes(&self) -> usize {
        let bytes = |tensor: &Tensor| match tensor.bytes() {
            Some(bytes) => bytes.len(),
            None => tensor.len() * size_of::<Bytes>(),
        };
        let dense = self.dense.iter().map(bytes);
        let sparse = self.sparse.iter();
        let sparse = sparse.map(|it| bytes(&it.indices) + bytes(&it.values));
        let ragged = self.ragged.iter();
        let ragged = ragged.map(|it| bytes(&it.values) + bytes(&it.row_splits));
        dense.chain(sparse).chain(ragged).sum()
    }
}
