//! Why a node cannot be translated.
//!
//! Not here: the text of the error that lists all of them (`report`).

use std::fmt;

/// Why a node cannot be translated, in words that follow its operator's name: `needs a constant axis`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// `None`: it only follows from the refusal of another node.
    reason: Option<String>,
}

impl Refusal {
    /// A refusal for this reason.
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: Some(reason.into()),
        }
    }

    /// A node whose input was refused is not translated either; only the first is reported.
    pub(crate) fn of_input() -> Self {
        Self { reason: None }
    }

    /// The reason, unless it is that of an input.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason().unwrap_or("an input is refused"))
    }
}
