//! Parses serialized `tensorflow.Example` messages into tensors.
//!
//! TensorFlow models contain this step: a `ParseExample` or `ParseExampleV2` node turns a vector of
//! serialized examples into one tensor per feature. ONNX Runtime has no such node, so this module
//! parses the examples before the graph runs, with the same checks, order and error texts as that
//! operation (`example_proto_fast_parsing.cc`).
//!
//! Not here: which signature needs which features (the signature map), feeding the parsed tensors
//! to a graph (`signature`), JSON examples (`wire`).

mod column;
mod errors;
mod feature;
mod list;
mod node;
mod parsed;
mod parser;
mod reader;
mod scalar;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use bytes::Bytes;

use self::column::{Column, Layout};
use self::errors::Form;
use base::error::{Result, ServingError};
use base::tensor::DataType;

pub use self::feature::{DeclaredFeatures, DenseFeature, RaggedFeature, SparseFeature, open_shape};
pub use self::node::{PARSE_OPS, ParseKeys, takes_scalar};
pub use self::parsed::{ParsedExamples, RaggedTensor, SparseTensor};

/// The features to read from every example. Checked once, then used to parse any number of requests.
#[derive(Clone, Debug)]
pub struct ExampleSpec {
    /// Dense, then sparse, then ragged features.
    columns: Vec<Column>,
    /// Index into `columns`, by key. Invariant: no two columns have the same key.
    index_by_key: HashMap<Vec<u8>, usize>,
}

impl ExampleSpec {
    /// The key of the dense feature with this index.
    pub fn dense_key(&self, index: usize) -> Option<&str> {
        self.columns.get(index).map(|column| column.key.as_str())
    }

    /// The features: the key, the dtype and how many values an example has to have; 1 where any number is allowed.
    pub fn features(&self) -> impl Iterator<Item = (&str, DataType, usize)> {
        self.columns.iter().map(|column| {
            let count = match &column.layout {
                Layout::Fixed { elements, .. } => *elements,
                Layout::Padded { stride, .. } => *stride,
                Layout::Sparse | Layout::Ragged { .. } => 1,
            };
            (column.key.as_str(), column.dtype, count)
        })
    }

    /// A specification of these features.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` for a dtype that examples cannot hold, a dimension that is unknown or
    /// too large, a default that does not fit, or a key that occurs twice.
    pub fn try_new(features: DeclaredFeatures) -> Result<Self> {
        let DeclaredFeatures {
            dense,
            sparse,
            ragged,
        } = features;
        let mut columns = Vec::with_capacity(dense.len() + sparse.len() + ragged.len());
        for feature in dense {
            columns.push(Column::try_from_dense(feature)?);
        }
        for SparseFeature { key, dtype } in sparse {
            columns.push(Column::try_new(key, dtype, Layout::Sparse)?);
        }
        for feature in ragged {
            let layout = match feature.splits_dtype {
                DataType::Int64 => Layout::Ragged { wide: true },
                DataType::Int32 => Layout::Ragged { wide: false },
                other => {
                    return Err(ServingError::invalid_argument(format!(
                        "Invalid ragged_split_type: {other}"
                    )));
                }
            };
            columns.push(Column::try_new(feature.key, feature.dtype, layout)?);
        }

        let mut index_by_key = HashMap::with_capacity(columns.len());
        for (index, column) in columns.iter().enumerate() {
            let key = column.key.clone().into_bytes();
            if index_by_key.insert(key, index).is_some() {
                return Err(ServingError::invalid_argument(format!(
                    "feature '{}' is specified twice",
                    column.key
                )));
            }
        }
        Ok(Self {
            columns,
            index_by_key,
        })
    }

    /// Parses one serialized example per element. An element can be several concatenated
    /// serializations, which count as one merged message: this is how a context is added.
    ///
    /// If a feature occurs more than once, the last one counts. Features that are not specified are
    /// skipped, and a feature without a kind counts as missing. String values share the memory of
    /// `serialized`.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` with TensorFlow's texts for bytes that are not an example, values of
    /// another type, a wrong number of values, and a missing feature without default;
    /// `RESOURCE_EXHAUSTED` if defaults or padding would need too much memory.
    pub fn parse(&self, serialized: &[Bytes]) -> Result<ParsedExamples> {
        self.parse_as(serialized, Form::Vector)
    }

    /// Parses one serialized example that was sent as a scalar: no tensor has a batch dimension.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse), with the texts that TensorFlow has for this case.
    pub fn parse_scalar(&self, serialized: &Bytes) -> Result<ParsedExamples> {
        let parsed = self.parse_as(std::slice::from_ref(serialized), Form::Scalar)?;
        scalar::without_batch(parsed)
            .ok_or_else(|| ServingError::internal("one parsed example is not a batch of one"))
    }

    fn parse_as(&self, serialized: &[Bytes], form: Form) -> Result<ParsedExamples> {
        parser::parse(&self.columns, &self.index_by_key, serialized, form)
    }
}
