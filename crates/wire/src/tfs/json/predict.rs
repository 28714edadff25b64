//! Decodes `:predict` bodies with one of two readers.

use super::predict_body::{InputSpec, PredictBody};
use super::{exact, fast};
use base::error::Result;

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
