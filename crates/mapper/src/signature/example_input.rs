//! An input that takes serialized `tensorflow.Example` messages, and the tensors that its features feed.
//!
//! Not here: the parser (`example`).

use base::error::{Code, Result, ServingError};
use base::tensor::{Tensor, shape_text};
use codec::example::{ExampleSpec, ParsedExamples, RaggedTensor, SparseTensor};

/// An input of serialized examples.
#[derive(Clone, Debug)]
pub struct ExampleInput {
    /// Index into [`Signature::inputs`](super::Signature::inputs).
    pub input: usize,
    /// The features to parse, including those that do not feed a graph input.
    pub spec: ExampleSpec,
    /// Whether a single example can be a scalar (`ParseExampleV2`); otherwise only a vector is accepted.
    pub takes_scalar: bool,
    /// The parse node of the model's `saved_model.pb`, for errors.
    pub node: Option<String>,
}

/// One of the tensors that examples are parsed into. The index counts the spec's features of that kind.
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
    /// Parses the examples that a client sent.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` for a tensor of another rank, and the errors of [`ExampleSpec::parse`].
    pub fn parse(&self, serialized: &Tensor) -> Result<ParsedExamples> {
        let parsed = self.parse_any_rank(serialized);
        parsed.map_err(|error| self.at_node(error))
    }

    fn parse_any_rank(&self, serialized: &Tensor) -> Result<ParsedExamples> {
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
        match examples {
            [example] if rank == 0 => self.spec.parse_scalar(example),
            _ => self.spec.parse(examples),
        }
    }

    /// Appends the node's name, as TensorFlow's executor does.
    fn at_node(&self, error: ServingError) -> ServingError {
        match &self.node {
            Some(node) if error.code() == Code::InvalidArgument => {
                ServingError::invalid_argument(format!("{error}\n\t [[{{{{node {node}}}}}]]"))
            }
            _ => error,
        }
    }
}

impl FeatureTensor {
    /// Picks this tensor from the parsed ones. The spec that parsed them must have that many features.
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
