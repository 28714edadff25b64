//! The one error type that crosses module borders, and its canonical code.
//!
//! A module with richer failures keeps a private enum of its own and converts here.
//! Not here: gRPC and HTTP numbers (`api::tfs::grpc::status`, `api::tfs::rest::status`).

use std::error::Error as StdError;
use std::fmt;
use std::iter;

use crate::id::ServableRequest;

/// Result of a fallible call between modules.
pub type Result<T, E = ServingError> = std::result::Result<T, E>;

/// The failure below an error.
type Cause = Box<dyn StdError + Send + Sync>;

/// Why a request, a load or a reload failed.
///
/// Its text is for clients. [`report`](Self::report) is for logs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServingError {
    /// No available version matches the request.
    #[error("Servable not found for request: {0}")]
    ServableNotFound(ServableRequest),

    /// The model has no signature of that name. The text is Predict's; Classify, Regress,
    /// MultiInference and REST have texts of their own (`inference`, `wire::tfs::json`).
    #[error("Serving signature key \"{name}\" not found.")]
    SignatureNotFound {
        /// The name in effect, `serving_default` if the client sent none.
        name: String,
    },

    /// A limit on all requests together is reached: the same request can succeed a little later.
    #[error("{reason}")]
    Overloaded {
        /// The limit that was reached.
        reason: String,
    },

    /// A run failed on its inputs: a kernel, or the backend for it, refused ranks, sizes or values.
    #[error("{reason}")]
    Kernel {
        /// The backend's message.
        reason: String,
    },

    /// A failure that its code and text describe fully.
    #[error("{message}")]
    Status {
        /// The canonical code.
        code: Code,
        /// The text for the client or operator.
        message: String,
        /// The failure below it, for logs only.
        source: Option<Cause>,
    },
}

/// An error for logs: its text, then the texts of its causes, except those that are already part of the
/// text before them.
pub struct Report<'a>(&'a ServingError);

impl ServingError {
    /// An error with this code and text.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self::Status {
            code,
            message: message.into(),
            source: None,
        }
    }

    /// The same error with the failure below it. Only errors made of a code and a text have one.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Cause>) -> Self {
        if let Self::Status { source, .. } = &mut self {
            *source = Some(cause.into());
        }
        self
    }

    /// An error with the same code and cause, and another text.
    #[must_use]
    pub fn with_text(self, text: impl Into<String>) -> Self {
        Self::Status {
            code: self.code(),
            message: text.into(),
            source: match self {
                Self::Status { source, .. } => source,
                _ => None,
            },
        }
    }

    /// The error and its causes, for logs.
    pub fn report(&self) -> Report<'_> {
        Report(self)
    }

    /// The client sent something that the signature or the protocol does not allow.
    pub fn invalid_argument(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// Something that was named does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }

    /// The system is not in the state that the call needs.
    pub fn failed_precondition(message: impl Into<String>) -> Self {
        Self::new(Code::FailedPrecondition, message)
    }

    /// The call is known but not supported.
    pub fn unimplemented(message: impl Into<String>) -> Self {
        Self::new(Code::Unimplemented, message)
    }

    /// The client's deadline has passed, in the words of `direct_session.cc`.
    pub fn deadline_exceeded() -> Self {
        Self::new(Code::DeadlineExceeded, "Timed out waiting for notification")
    }

    /// An invariant of this server is broken.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }

    /// The code that each transport translates into its own number.
    pub fn code(&self) -> Code {
        match self {
            Self::ServableNotFound(_) => Code::NotFound,
            Self::SignatureNotFound { .. } => Code::FailedPrecondition,
            Self::Overloaded { .. } => Code::ResourceExhausted,
            Self::Kernel { .. } => Code::InvalidArgument,
            Self::Status { code, .. } => *code,
        }
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        let causes = iter::successors(self.0.source(), |&error| error.source());
        for cause in causes.map(ToString::to_string) {
            // Some texts leave the system's number out.
            let cause = cause.trim_end();
            let (without_number, _) = cause.split_once(" (os error").unwrap_or((cause, ""));
            if !text.contains(without_number) {
                text.push_str(": ");
                text.push_str(cause);
            }
        }
        f.write_str(&text)
    }
}

/// The canonical codes of `tensorflow.error.Code`, which are gRPC's as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Code {
    /// Success; here only in states and statuses, never in an error.
    Ok = 0,
    /// The caller cancelled the call.
    Cancelled = 1,
    /// Any other error; TensorFlow Serving has no better code either.
    Unknown = 2,
    /// The request is wrong, regardless of the server's state.
    InvalidArgument = 3,
    /// The client's deadline has passed.
    DeadlineExceeded = 4,
    /// Something that was named does not exist.
    NotFound = 5,
    /// The thing to create already exists.
    AlreadyExists = 6,
    /// The caller is known but not authorized.
    PermissionDenied = 7,
    /// A limit is reached.
    ResourceExhausted = 8,
    /// The system is not in the state that the call needs.
    FailedPrecondition = 9,
    /// A conflict with another call.
    Aborted = 10,
    /// Past the end.
    OutOfRange = 11,
    /// Known but not supported.
    Unimplemented = 12,
    /// An invariant is broken.
    Internal = 13,
    /// Try again later.
    Unavailable = 14,
    /// Data is lost or corrupt.
    DataLoss = 15,
    /// The caller is not authenticated.
    Unauthenticated = 16,
}

impl Code {
    /// The code of this number; `None` if it has none.
    pub fn from_number(number: i32) -> Option<Self> {
        const BY_NUMBER: [Code; 17] = [
            Code::Ok,
            Code::Cancelled,
            Code::Unknown,
            Code::InvalidArgument,
            Code::DeadlineExceeded,
            Code::NotFound,
            Code::AlreadyExists,
            Code::PermissionDenied,
            Code::ResourceExhausted,
            Code::FailedPrecondition,
            Code::Aborted,
            Code::OutOfRange,
            Code::Unimplemented,
            Code::Internal,
            Code::Unavailable,
            Code::DataLoss,
            Code::Unauthenticated,
        ];
        BY_NUMBER.get(usize::try_from(number).ok()?).copied()
    }

    /// The name as in `error_codes.proto`, for example `INVALID_ARGUMENT`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Cancelled => "CANCELLED",
            Self::Unknown => "UNKNOWN",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Aborted => "ABORTED",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
            Self::DataLoss => "DATA_LOSS",
            Self::Unauthenticated => "UNAUTHENTICATED",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// A failed read with a cause of its own.
    fn broken_disk() -> io::Error {
        io::Error::other(ServingError::internal("sector 7").caused_by("the head is stuck"))
    }

    #[test]
    fn report_gives_each_cause_once() {
        let silent = ServingError::not_found("/m not found").caused_by(broken_disk());
        assert_eq!(silent.to_string(), "/m not found");
        assert_eq!(
            silent.report().to_string(),
            "/m not found: sector 7: the head is stuck"
        );
        // Many texts for clients contain the text of their cause.
        let text = format!("cannot read /m: {}", broken_disk());
        let complete = ServingError::not_found(text).caused_by(broken_disk());
        assert_eq!(
            complete.report().to_string(),
            "cannot read /m: sector 7: the head is stuck"
        );
        // TensorFlow's texts leave the system's number out.
        let missing = ServingError::not_found("/m; No such file or directory")
            .caused_by(io::Error::from_raw_os_error(2));
        assert_eq!(
            missing.report().to_string(),
            "/m; No such file or directory"
        );
    }

    #[test]
    fn another_text_keeps_code_and_cause() {
        let error = ServingError::not_found("gone").caused_by(broken_disk());
        let reworded = error.with_text("cannot load m");
        assert_eq!(reworded.code(), Code::NotFound);
        assert_eq!(reworded.to_string(), "cannot load m");
        let cause = reworded
            .source()
            .and_then(|it| it.downcast_ref::<io::Error>());
        assert_eq!(cause.map(io::Error::kind), Some(io::ErrorKind::Other));

        let kernel = ServingError::Kernel {
            reason: "bad rank".to_owned(),
        };
        let reworded = kernel.with_text("worse");
        assert_eq!(reworded.code(), Code::InvalidArgument);
        assert!(reworded.source().is_none());
    }

    #[test]
    fn every_number_has_its_code() {
        for number in 0..=16 {
            assert_eq!(Code::from_number(number).unwrap() as i32, number);
        }
        assert_eq!(Code::from_number(-1), None);
        assert_eq!(Code::from_number(17), None);
    }
}
