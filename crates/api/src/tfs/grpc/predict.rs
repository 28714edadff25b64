//! `PredictionService.Predict` without tonic: converts directly between the socket's bytes and tensors, and
//! does not copy large values in either direction.
//!
//! Not here: receiving the message (`message`), running the call (`prediction_service`).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response};
use http_body::{Body, Frame};
use tonic::Status;

use super::authorized::Guard;
use super::prediction_service::PredictionServiceImpl;
use super::status::to_status;
use super::{deadline, message};
use base::vocabulary::Api;
use net::blocking::off_worker;
use net::limit::Admitted;
use serving::inference::InferenceService;
use serving::monitoring::Direction;
use wire::tfs::predict::{PredictCall, PredictReply};

/// Answers a call.
pub(super) async fn answer(
    service: &PredictionServiceImpl,
    guard: &Guard,
    parts: &Parts,
    message: Bytes,
    admitted: &Admitted,
) -> Response<tonic::body::Body> {
    let answer = run(service, guard, parts, message).await;
    let answer = answer.and_then(|pieces| {
        let bytes = pieces.iter().map(Bytes::len).sum();
        let held = admitted.hold_answer(bytes);
        held.map_err(|error| to_status(&error)).map(|()| pieces)
    });
    match answer {
        Ok(pieces) => {
            let body = tonic::body::Body::new(HttpReply {
                pieces,
                is_complete: false,
            });
            let mut response = Response::new(body);
            let content_type = HeaderValue::from_static("application/grpc");
            response.headers_mut().insert(CONTENT_TYPE, content_type);
            response
        }
        Err(status) => status.into_http(),
    }
}

async fn run(
    service: &PredictionServiceImpl,
    guard: &Guard,
    parts: &Parts,
    message: Bytes,
) -> Result<VecDeque<Bytes>, Status> {
    let started = Instant::now();
    let call = off_worker(message.len(), || PredictCall::decode(&message))
        .map_err(|error| to_status(&error))?;
    drop(message);
    let decoding = (started, Instant::now());
    let model = call.spec().map_or("", |(spec, _)| spec.name.as_str());
    guard.check(&parts.extensions, Api::Predict, [model])?;
    let deadline = deadline(&parts.headers);
    let reply = service.predict(call, decoding, deadline).await?;
    encode(&reply, service.inference())
}

fn encode(reply: &PredictReply, inference: &InferenceService) -> Result<VecDeque<Bytes>, Status> {
    let started = Instant::now();
    let response = &reply.response;
    let outputs = response.outputs.iter();
    let bytes = outputs
        .filter_map(|(_, tensor)| tensor.bytes())
        .map(Bytes::len)
        .sum();
    let pieces = off_worker(bytes, || reply.encode_in_pieces(message::prefix));
    let encoding = (started, Instant::now());
    let (id, signature_name) = (&response.servable, &response.signature_name);
    inference.record_codec(id, signature_name, Direction::Encode, encoding);
    pieces.ok_or_else(|| Status::resource_exhausted("an answer of 4 GiB"))
}

/// The body of a successful answer: the message, then the status.
struct HttpReply {
    pieces: VecDeque<Bytes>,
    is_complete: bool,
}

impl Body for HttpReply {
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
