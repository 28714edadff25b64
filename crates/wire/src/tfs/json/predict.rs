//! The content of a `:predict` body, and the two ways to read it.

use super::{exact, fast};
use base::error::{Result, ServingError};
use base::tensor::{DataType, NamedTensors};

/// The two layouts of a predict request; the answer has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `instances`, answered by `predictions`: one element per row.
    Row,
    /// `inputs`, answered by `outputs`: whole tensors.
    Columnar,
}

/// One input of the signature in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputSpec {
    /// The name that clients use.
    pub alias: String,
    /// The type of its elements.
    pub dtype: DataType,
    /// Clients can omit it.
    pub is_optional: bool,
    /// Further names for it. Under whichever of them the client sends it, the tensor gets the alias.
    pub kept: Vec<String>,
}

impl InputSpec {
    /// Whether this is one of its further names.
    pub(super) fn keeps(&self, key: &[u8]) -> bool {
        self.kept.iter().any(|kept| kept.as_bytes() == key)
    }
}

/// A decoded `:predict` body.
#[derive(Clone, Debug, PartialEq)]
pub struct PredictBody {
    /// As sent; empty if the client sent none.
    pub signature_name: String,
    /// Whether the body has `instances` or `inputs`.
    pub format: Format,
    /// By alias.
    pub inputs: NamedTensors,
    /// The requested outputs; empty for all. An addition to TensorFlow Serving's protocol.
    pub output_filter: Vec<String>,
}

/// Decodes the body of a `:predict` request.
///
/// `resolve` receives the signature's name (empty if the body has none) and returns all inputs of that
/// signature, sorted by alias. It is called once the name is known, possibly more than once, and has to
/// return the same each time. Row format: `x: T[n, …]` from `n` instances; columnar format: `x: T[…]` as
/// nested.
///
/// # Errors
///
/// In TensorFlow Serving's order: `INVALID_ARGUMENT` for text that is not JSON, a top level that is not an
/// object, or a `signature_name` that is not a string; then the error that `resolve` returns, unchanged;
/// then `INVALID_ARGUMENT` (`UNIMPLEMENTED` for a dtype that JSON cannot represent in columnar format) for
/// tensors that do not match.
pub fn decode_predict(
    body: &[u8],
    mut resolve: impl FnMut(&str) -> Result<Vec<InputSpec>>,
) -> Result<PredictBody> {
    match fast::decode(body, &mut resolve) {
        Some(decoded) => Ok(decoded),
        None => exact::decode(body, &mut resolve),
    }
}

/// The result of each reader; `None` if the fast one gives up. For tests: both have to agree.
#[cfg(any(test, fuzzing, feature = "testing"))]
pub fn decode_by_both_readers(
    body: &[u8],
    mut resolve: impl FnMut(&str) -> Result<Vec<InputSpec>>,
) -> (Option<PredictBody>, Result<PredictBody>) {
    (
        fast::decode(body, &mut resolve),
        exact::decode(body, &mut resolve),
    )
}

/// The error for `resolve` to return if the model has no such signature; REST has its own text and code for
/// it.
pub fn signature_not_found(signature_name: &str) -> ServingError {
    ServingError::invalid_argument(format!(
        "Serving signature name: \"{signature_name}\" not found in signature def"
    ))
}

/// The error for a signature without inputs. [`decode_predict`] itself returns it.
pub fn no_inputs(signature_name: &str) -> ServingError {
    let name = match signature_name {
        "" => "DEFAULT",
        name => name,
    };
    ServingError::invalid_argument(format!("Failed to get input map for signature: {name}"))
}
