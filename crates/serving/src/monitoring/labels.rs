//! Label values: of requests, of results, and version numbers as text.
//!
//! Not here: the metrics that have them (`server`, `tensorflow`, `session`).

use std::fmt::{self, Write as _};

use base::vocabulary::{Api, Protocol};

/// The labels of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestLabels<'a> {
    /// The protocol it came in by.
    pub protocol: Protocol,
    /// The call it asked for.
    pub api: Api,
    /// The model's name as the client sent it; empty if the request could not be read that far.
    pub model: &'a str,
    /// The version that answers; `None` if the request did not reach one.
    pub version: Option<i64>,
    /// The signature that was used; `None` if there is none, or if the servable does not have it (so
    /// that clients cannot invent label values).
    pub signature: Option<&'a str>,
}

impl RequestLabels<'_> {
    /// The label `API` on TensorFlow Serving's page; `None` for a call that it does not count.
    pub(super) fn tensorflow_api(&self) -> Option<&'static str> {
        match self.protocol {
            Protocol::Grpc => tensorflow_api(self.api),
            Protocol::Rest => Some(match self.api {
                Api::Predict => "predict",
                Api::Classify => "classify",
                Api::Regress => "regress",
                Api::MultiInference | Api::Metadata | Api::Status | Api::Reload | Api::Other => "",
            }),
        }
    }

    /// The label `entrypoint` on TensorFlow Serving's page.
    pub(super) fn entrypoint(&self) -> &'static str {
        match self.protocol {
            Protocol::Grpc => "GRPC",
            Protocol::Rest => "REST",
        }
    }
}

/// The label `API` of gRPC requests and of runs on TensorFlow Serving's page; `None` for a call that it
/// does not count.
pub(super) fn tensorflow_api(api: Api) -> Option<&'static str> {
    match api {
        Api::Predict => Some("Predict"),
        Api::Classify => Some("Classify"),
        Api::Regress => Some("Regress"),
        Api::MultiInference | Api::Metadata | Api::Status | Api::Reload | Api::Other => None,
    }
}

/// The direction of a conversion of the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From bytes to tensors.
    Decode,
    /// From tensors to bytes.
    Encode,
}

impl Direction {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Encode => "encode",
        }
    }
}

/// The result of logging a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogOutcome {
    /// It was written to a file.
    Written,
    /// The buffer was full.
    Dropped,
    /// The file could not be written.
    Failed,
}

impl LogOutcome {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
        }
    }

    /// The name of the canonical code, on TensorFlow Serving's page.
    pub(super) fn status(self) -> &'static str {
        match self {
            Self::Written => "OK",
            Self::Dropped => "RESOURCE_EXHAUSTED",
            Self::Failed => "INTERNAL",
        }
    }
}

/// A version's number as text, without allocating; empty by default.
#[derive(Default)]
pub(super) struct VersionLabel {
    digits: [u8; 20],
    length: usize,
}

impl VersionLabel {
    pub(super) fn new(version: i64) -> Self {
        let mut label = Self::default();
        write!(label, "{version}").expect("an i64 has at most 20 characters");
        label
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.digits[..self.length]).expect("only str is written to it")
    }
}

impl fmt::Write for VersionLabel {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        let free = self.digits.get_mut(self.length..end).ok_or(fmt::Error)?;
        free.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}
