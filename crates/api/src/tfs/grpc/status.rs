//! Errors as gRPC statuses (`model_servers/grpc_status_util.cc`).

use tonic::Status;
use tonic::metadata::MetadataValue;

use super::message::ACCEPTED_ENCODINGS;
use base::error::{Code, ServingError};

/// Longer messages are cut, because they are sent in a header.
const MAX_MESSAGE_BYTES: usize = 1024;

/// The status of an error: the same code, the text cut after 1024 bytes.
pub(super) fn to_status(error: &ServingError) -> Status {
    let code = match error.code() {
        Code::Ok => tonic::Code::Ok,
        Code::Cancelled => tonic::Code::Cancelled,
        Code::Unknown => tonic::Code::Unknown,
        Code::InvalidArgument => tonic::Code::InvalidArgument,
        Code::DeadlineExceeded => tonic::Code::DeadlineExceeded,
        Code::NotFound => tonic::Code::NotFound,
        Code::AlreadyExists => tonic::Code::AlreadyExists,
        Code::PermissionDenied => tonic::Code::PermissionDenied,
        Code::ResourceExhausted => tonic::Code::ResourceExhausted,
        Code::FailedPrecondition => tonic::Code::FailedPrecondition,
        Code::Aborted => tonic::Code::Aborted,
        Code::OutOfRange => tonic::Code::OutOfRange,
        Code::Unimplemented => tonic::Code::Unimplemented,
        Code::Internal => tonic::Code::Internal,
        Code::Unavailable => tonic::Code::Unavailable,
        Code::DataLoss => tonic::Code::DataLoss,
        Code::Unauthenticated => tonic::Code::Unauthenticated,
    };
    let mut status = Status::new(code, truncated(error.to_string()));
    if matches!(error, ServingError::Overloaded { .. }) {
        // Clients with a retry policy wait for this long.
        let millis = MetadataValue::from_static("1000");
        status
            .metadata_mut()
            .insert("grpc-retry-pushback-ms", millis);
    }
    status
}

/// The status of a message that could not be received.
pub(super) fn refusal(error: &ServingError) -> Status {
    let mut status = to_status(error);
    if error.code() == Code::Unimplemented {
        let accepted = MetadataValue::from_static(ACCEPTED_ENCODINGS);
        status
            .metadata_mut()
            .insert("grpc-accept-encoding", accepted);
    }
    status
}

fn truncated(mut message: String) -> String {
    if message.len() > MAX_MESSAGE_BYTES {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
        message.push_str("...TRUNCATED");
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_cut_between_characters() {
        let error = |message: String| ServingError::invalid_argument(message);
        assert_eq!(
            to_status(&error("x".repeat(1024))).message(),
            "x".repeat(1024)
        );
        let cut = to_status(&error(format!("{}é", "x".repeat(1023))))
            .message()
            .to_owned();
        assert_eq!(cut, format!("{}...TRUNCATED", "x".repeat(1023)));
    }
}
