//! Receives the messages of a stream: each limited in size, few at a time, given up if one stalls.
//!
//! A task reads them, so that nothing piles up in HTTP/2's windows if the service is slow or its answers
//! are not read.
//!
//! Not here: the single message of a unary call (`message`).

use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use super::message::PREFIX_BYTES;
use super::status::refusal;
use net::limit::{Admitted, Waits};

/// The number of messages that can wait for the service.
const MAX_WAITING: usize = 4;

/// The messages of a stream as a body, for tonic to read.
pub(super) struct ReceivedMessages {
    received: mpsc::Receiver<Result<Bytes, Status>>,
    failure: Failure,
}

/// Why the messages ended early. The answers need it, because the service can mistake that for the normal
/// end.
#[derive(Clone, Default)]
pub(super) struct Failure(Arc<OnceLock<Status>>);

impl ReceivedMessages {
    /// Receives messages of up to `max_bytes` each. One that does not arrive within `stall` ends the stream
    /// with an error; a client that begins none for as long has finished.
    pub(super) fn receive<B>(
        body: B,
        max_bytes: usize,
        stall: Duration,
        admitted: Arc<Admitted>,
    ) -> Self
    where
        B: Body<Data = Bytes, Error: StdError + 'static> + Send + Unpin + 'static,
    {
        let (sender, receiver) = mpsc::channel(MAX_WAITING + 1);
        tokio::spawn(async move {
            let _admitted = admitted;
            let ended = tokio::select! {
                ended = forward(body, max_bytes, stall, &sender) => ended,
                () = sender.closed() => Ok(()),
            };
            if let Err(status) = ended {
                // The last slot is reserved for this.
                let _ = sender.try_send(Err(status));
            }
        });
        Self {
            received: receiver,
            failure: Failure::default(),
        }
    }

    pub(super) fn failure(&self) -> Failure {
        self.failure.clone()
    }
}

async fn forward<B>(
    mut body: B,
    max_bytes: usize,
    stall: Duration,
    sender: &mpsc::Sender<Result<Bytes, Status>>,
) -> Result<(), Status>
where
    B: Body<Data = Bytes, Error: StdError + 'static> + Unpin,
{
    let mut begun = BytesMut::new();
    loop {
        // The message has to be complete by then, however slowly it arrives.
        let deadline = Instant::now() + stall;
        let message = loop {
            if let Some(len) = message_len(&begun, max_bytes)?
                && begun.len() >= len
            {
                break begun.split_to(len).freeze();
            }
            let frame = match timeout_at(deadline, body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => return Err(Status::cancelled(error.to_string())),
                Ok(None) if begun.is_empty() => return Ok(()),
                Ok(None) => return Err(Status::internal("the message ended early")),
                Err(_) if begun.is_empty() => return Ok(()),
                Err(_) => return Err(Status::deadline_exceeded("the body stalled")),
            };
            if let Ok(data) = frame.into_data() {
                begun.extend_from_slice(&data);
            }
        };
        if sender.capacity() <= 1 {
            let text = "too many messages came before their answers were read";
            return Err(Status::resource_exhausted(text));
        }
        if sender.try_send(Ok(message)).is_err() {
            return Ok(());
        }
    }
}

/// The length of the first message including its prefix, once the prefix has arrived.
fn message_len(begun: &[u8], max_bytes: usize) -> Result<Option<usize>, Status> {
    let Some(&[_, length @ ..]) = begun.first_chunk::<PREFIX_BYTES>() else {
        return Ok(None);
    };
    let len = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if len > max_bytes {
        // The text of gRPC's core.
        let text = format!("SERVER: Received message larger than max ({len} vs. {max_bytes})");
        return Err(Status::resource_exhausted(text));
    }
    Ok(Some(len + PREFIX_BYTES))
}

impl Body for ReceivedMessages {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let received = ready!(self.received.poll_recv(context));
        if let Some(Err(status)) = &received {
            // Only the first is kept.
            let _ = self.failure.0.set(status.clone());
        }
        Poll::Ready(received.map(|message| message.map(Frame::data)))
    }
}

/// The answers of a call that lasts. If its messages ended early, or it has to make room for another, they
/// end with the corresponding status.
pub(super) struct Answers {
    body: tonic::body::Body,
    failure: Failure,
    makes_room: Pin<Box<dyn Future<Output = Status> + Send>>,
    has_ended: bool,
}

impl Answers {
    pub(super) fn new(body: tonic::body::Body, failure: Failure, waits: Waits) -> Self {
        Self {
            body,
            failure,
            makes_room: Box::pin(async move { refusal(&waits.makes_room().await) }),
            has_ended: false,
        }
    }
}

impl Body for Answers {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(status) = self.makes_room.as_mut().poll(context) {
            self.has_ended = true;
            return Poll::Ready(Some(ending(&status)));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let Some(Ok(frame)) = frame else {
            return Poll::Ready(frame);
        };
        let failure = self.failure.0.get().filter(|_| frame.is_trailers());
        Poll::Ready(Some(match failure {
            Some(failure) => ending(failure),
            None => Ok(frame),
        }))
    }
}

/// The last frame of an answer with this status.
fn ending(status: &Status) -> Result<Frame<Bytes>, Status> {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers)?;
    Ok(Frame::trailers(trailers))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::StreamBody;
    use tokio_stream::StreamExt;
    use tonic::Code;

    use super::*;
    use net::limit::{ExemptCall, LoadShed};

    const SHORT: Duration = Duration::from_millis(20);
    const NEVER: Duration = Duration::from_secs(3600);

    /// The messages that a service reads from these parts, after which the client is silent or has
    /// finished.
    async fn read(
        parts: &[&'static [u8]],
        finishes: bool,
        stall: Duration,
    ) -> Vec<Result<Bytes, Code>> {
        let load_shed = LoadShed::new(1, 1000);
        let admitted = load_shed.enter_now(Some(ExemptCall::Reflection));
        let parts: Vec<_> = parts.to_vec();
        let parts = tokio_stream::iter(parts)
            .map(|it| Ok::<_, Infallible>(Frame::data(Bytes::from_static(it))));
        let body = match finishes {
            true => StreamBody::new(parts).boxed_unsync(),
            false => StreamBody::new(parts.chain(tokio_stream::pending())).boxed_unsync(),
        };
        let mut messages = ReceivedMessages::receive(body, 5, stall, Arc::new(admitted.unwrap()));
        let mut read = Vec::new();
        while let Some(frame) = messages.frame().await {
            read.push(match frame {
                Ok(frame) => Ok(frame.into_data().unwrap()),
                Err(status) => Err(status.code()),
            });
        }
        read
    }

    #[tokio::test]
    async fn messages_pass_as_they_are() {
        let parts: [&[u8]; 4] = [b"\0\0\0", b"\0\x01", b"a\0\0\0\0\x05hel", b"lo"];
        let expected: [Result<Bytes, Code>; 2] = [
            Ok(Bytes::from_static(b"\0\0\0\0\x01a")),
            Ok(Bytes::from_static(b"\0\0\0\0\x05hello")),
        ];
        assert_eq!(read(&parts, true, NEVER).await, expected);
        // A client that is silent between messages has finished.
        assert_eq!(read(&parts, false, SHORT).await, expected);
    }

    #[tokio::test]
    async fn what_is_too_much_ends_the_stream() {
        for (parts, finishes, code) in [
            (&[&b"\0\0\0\0\x06"[..]][..], false, Code::ResourceExhausted),
            (&[b"\0\xff\xff\xff\xff"], false, Code::ResourceExhausted),
            (&[b"\0\0"], false, Code::DeadlineExceeded),
            (&[b"\0\0"], true, Code::Internal),
        ] {
            assert_eq!(read(parts, finishes, SHORT).await, [Err(code)], "{parts:?}");
        }
        // All arrive before the service reads the first.
        let many = [&b"\0\0\0\0\x01a"[..]; 100];
        let read = read(&many, true, NEVER).await;
        assert_eq!(read.last(), Some(&Err(Code::ResourceExhausted)));
        assert_eq!(read.len(), MAX_WAITING + 1);
    }
}
