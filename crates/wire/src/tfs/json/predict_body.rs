//! The content of a `:predict` body, and the inputs of a signature that it is read for.
//!
//! Not here: reading it (`fast`, `exact`), the choice between the two (`predict`).

use base::error::ServingError;
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

/// The error for `resolve` to return if the model has no such signature; REST has its own text and code for
/// it.
pub fn signature_not_found(signature_name: &str) -> ServingError {
    ServingError::invalid_argument(format!(
        "Serving signature name: \"{signature_name}\" not found in signature def"
    ))
}

/// The error for a signature without inputs. [`decode_predict`](super::decode_predict) itself returns it.
pub fn no_inputs(signature_name: &str) -> ServingError {
    let name = match signature_name {
        "" => "DEFAULT",
        name => name,
    };
    ServingError::invalid_argument(format!("Failed to get input map for signature: {name}"))
}
