//! The response to a unary call: one message, then the status.
//!
//! Not here: the messages (`wire`), receiving a call's message (`message`).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};
use http_body::{Body, Frame};
use prost::Message;
use tonic::Status;

use super::message::{PREFIX_BYTES, prefix};
use base::error::{Code, Result, ServingError};
use net::blocking::off_worker;

/// An encoded message with its prefix, in pieces.
pub(super) type Pieces = VecDeque<Bytes>;

/// Encodes a message.
///
/// # Errors
///
/// `RESOURCE_EXHAUSTED` for a message of 4 GiB.
pub(super) fn encode<M: Message>(message: &M) -> Result<Pieces> {
    let len = message.encoded_len();
    let prefix = prefix(len).ok_or_else(too_large)?;
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + len);
    bytes.extend_from_slice(&prefix);
    off_worker(len, || message.encode_raw(&mut bytes));
    Ok(VecDeque::from([bytes.freeze()]))
}

/// The error for an answer that is too large for gRPC's prefix.
pub(super) fn too_large() -> ServingError {
    ServingError::new(Code::ResourceExhausted, "an answer of 4 GiB")
}

/// The response with this message and the status `OK`.
pub(super) fn response(pieces: Pieces) -> Response<tonic::body::Body> {
    let body = tonic::body::Body::new(Reply {
        pieces,
        is_complete: false,
    });
    let mut response = Response::new(body);
    let content_type = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// The body of a successful answer.
struct Reply {
    pieces: Pieces,
    is_complete: bool,
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = match self.pieces.pop_front() {
            Some(piece) => Frame::data(piece),
            None if self.is_complete => return Poll::Ready(None),
            None => {
                self.is_complete = true;
                let ok = HeaderValue::from_static("0");
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert(Status::GRPC_STATUS, ok);
                Frame::trailers(trailers)
            }
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.is_complete
    }
}
