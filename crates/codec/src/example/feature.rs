//! Declared features: the values that a model reads from its examples.
//!
//! Not here: their checked form (`column`), the parsed values (`parsed`).

use base::tensor::{DataType, Tensor};

/// The features that a model reads from each example.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeclaredFeatures {
    /// Parsed into one tensor each.
    pub dense: Vec<DenseFeature>,
    /// Parsed into three tensors each.
    pub sparse: Vec<SparseFeature>,
    /// Parsed into two tensors each.
    pub ragged: Vec<RaggedFeature>,
}

/// A feature whose number of values per example is given by its shape, or is a multiple of that.
#[derive(Clone, Debug, PartialEq)]
pub struct DenseFeature {
    /// The feature's name in the examples.
    pub key: String,
    /// `float`, `int64` or `string`.
    pub dtype: DataType,
    /// The shape of one example's values. `None` as the first dimension means any length: shorter
    /// examples of a request are padded to the longest.
    pub shape: Vec<Option<usize>>,
    /// Used if an example lacks the feature; a single padding value if the first dimension is `None`.
    /// `None` or empty: the feature is required, or padded with zeros or empty strings.
    pub default: Option<Tensor>,
}

/// A feature with any number of values in each example, parsed into a sparse matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct SparseFeature {
    /// The feature's name in the examples.
    pub key: String,
    /// `float`, `int64` or `string`.
    pub dtype: DataType,
}

/// A feature with any number of values in each example, parsed into values and row splits.
#[derive(Clone, Debug, PartialEq)]
pub struct RaggedFeature {
    /// The feature's name in the examples.
    pub key: String,
    /// `float`, `int64` or `string`.
    pub dtype: DataType,
    /// `int64` or `int32`.
    pub splits_dtype: DataType,
}

/// The shape of a dense feature from dimensions in which a negative one means any length.
pub fn open_shape(dims: &[i64]) -> Vec<Option<usize>> {
    dims.iter().map(|&dim| usize::try_from(dim).ok()).collect()
}
