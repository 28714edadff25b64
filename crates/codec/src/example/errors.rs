//! Errors about an example, in TensorFlow's words. TensorFlow has two parsers with different texts:
//! one for a vector of examples (`FastParseExample`), one for a single example sent as a scalar
//! (`FastParseSingleExample`).

use super::column::{Column, Layout};
use base::error::ServingError;
use base::tensor::DataType;

/// How examples are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Vector,
    Scalar,
}

impl Form {
    /// A required feature that an example lacks.
    pub(super) fn missing(self, column: &Column) -> ServingError {
        let name = match self {
            Self::Vector => "Name: <unknown>, ",
            Self::Scalar => "",
        };
        ServingError::invalid_argument(format!(
            "{name}Feature: {} (data type: {}) is required but could not be found.",
            column.key, column.dtype
        ))
    }

    /// Values of another type.
    pub(super) fn wrong_dtype(
        self,
        column: &Column,
        index: usize,
        actual: DataType,
    ) -> ServingError {
        let expected = column.dtype;
        let detail = match column.layout {
            Layout::Fixed { .. } | Layout::Padded { .. } => {
                format!("Data type: {actual} but expected type: {expected}")
            }
            Layout::Sparse | Layout::Ragged { .. } => {
                format!("Expected type: {expected}, Actual type: {actual}")
            }
        };
        self.error(column, index, &format!("Data types don't match. {detail}"))
    }

    /// Bytes that are not a list of the column's type.
    pub(super) fn malformed_list(self, column: &Column, index: usize) -> ServingError {
        let list = kind(column);
        let detail = match (self, &column.layout) {
            (Self::Vector, _) => ".".to_owned(),
            (Self::Scalar, Layout::Fixed { .. }) => format!(": Parsing {list}_list failed."),
            (Self::Scalar, _) if column.dtype == DataType::String => {
                format!(": Could not get num elements in {list}_list.")
            }
            (Self::Scalar, _) => format!(": Parsing {list}_list failed."),
        };
        self.error(
            column,
            index,
            &format!("Can't parse serialized Example{detail}"),
        )
    }

    /// The number of values differs from that of a shape without free dimensions.
    pub(super) fn wrong_count(self, column: &Column, index: usize, count: usize) -> ServingError {
        let kind = kind(column);
        let detail = match self {
            Self::Vector => format!(
                "Number of {kind} values != expected.  Values size: {count} but output shape: {}",
                column.shape_text()
            ),
            Self::Scalar => {
                format!("Can't parse serialized Example: Some {kind}_list slice was not parsed.")
            }
        };
        self.error(column, index, &detail)
    }

    /// A number of values that is not a multiple of `stride`.
    pub(super) fn wrong_stride(
        self,
        column: &Column,
        index: usize,
        count: usize,
        stride: usize,
    ) -> ServingError {
        if self == Self::Scalar {
            return ServingError::invalid_argument(format!(
                "Error while parsing feature with key {}: number of elements should be divisible \
                 by {stride}, found {count} instead",
                column.key
            ));
        }
        self.error(
            column,
            index,
            &format!(
                "Number of {} values is not a multiple of stride length. Saw {count} values but \
                 output shape is: {}",
                kind(column),
                column.shape_text()
            ),
        )
    }

    /// Requests give examples no names, so TensorFlow's name is always `<unknown>`.
    fn error(self, column: &Column, index: usize, detail: &str) -> ServingError {
        let key = &column.key;
        ServingError::invalid_argument(match self {
            Self::Vector => format!("Name: <unknown>, Key: {key}, Index: {index}.  {detail}"),
            Self::Scalar => format!("Key: {key}.  {detail}"),
        })
    }
}

/// The name of the column's list in `feature.proto`, less `_list`.
fn kind(column: &Column) -> &'static str {
    match column.dtype {
        DataType::String => "bytes",
        other => other.name(),
    }
}
