//! The error for a text that is not JSON.
//!
//! Not here: finding it (`syntax`, `string`).

use base::error::ServingError;

/// Why a text is not JSON, in RapidJSON's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    text: &'static str,
    offset: usize,
}

impl SyntaxError {
    pub(super) fn new(text: &'static str, offset: usize) -> Self {
        Self { text, offset }
    }
}

impl From<SyntaxError> for ServingError {
    fn from(error: SyntaxError) -> Self {
        let SyntaxError { text, offset } = error;
        Self::invalid_argument(format!("JSON Parse error: {text} at offset: {offset}"))
    }
}
