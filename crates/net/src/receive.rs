//! Receives the body of a request: limited in size, counted, and given up if the client stalls.
//!
//! Both ports use this. Not here: the meaning of the body (`rest::body`, `grpc::message`).

use std::error::Error as StdError;
use std::io::{self, Read};
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::poll_immediate;
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use super::in_flight::MIN_PROGRESS;
use super::limit::{Admitted, Waits};
use base::error::{Code, Result, ServingError};

/// libevent's socket timeout.
const STALL_TIMEOUT: Duration = Duration::from_secs(50);

/// While there is room, a request enters the ranking of those that wait only if its body has not arrived
/// after this time: most bodies follow their heads immediately, and never enter it.
const MOMENT: Duration = Duration::from_millis(10);

/// TensorFlow Serving's limit on a gRPC message (`SetMaxMessageSize`).
const MAX_BYTES: usize = i32::MAX as usize;

/// Limits on receiving one request.
#[derive(Clone, Debug)]
pub struct ReceiveOptions {
    /// `--max_request_bytes`, as received, before decompression.
    pub max_bytes: usize,
    /// `--max_decompressed_bytes`.
    pub max_decompressed_bytes: usize,
    /// `--stall_timeout_seconds`: the request is given up unless 16 KiB of the body, or the rest of it,
    /// arrive within this time.
    pub stall_timeout: Duration,
}

/// The progress of a body: the time by which its client has to have sent `MIN_PROGRESS` more.
#[derive(Debug, Default)]
pub struct Pace {
    /// `None` before the first piece is waited for.
    deadline: Option<Instant>,
    /// Bytes that have arrived since the deadline was set.
    bytes: usize,
    /// Set once the client takes longer than a [`MOMENT`].
    waits: Option<Waits>,
}

impl Pace {
    /// Awaits `next` for as long as the client is allowed to take; `None` if it stalls.
    ///
    /// # Errors
    ///
    /// [`ServingError::Overloaded`] if the request has to make room for another.
    async fn wait<F: Future + Unpin>(
        &mut self,
        mut next: F,
        admitted: &Arc<Admitted>,
        stall: Duration,
    ) -> Result<Option<F::Output>> {
        let deadline = match self.deadline {
            Some(deadline) if self.bytes < MIN_PROGRESS => deadline,
            _ => {
                self.bytes = 0;
                self.waits = None;
                *self.deadline.insert(Instant::now() + stall)
            }
        };
        let waits = match &self.waits {
            Some(waits) => waits,
            None => {
                let come = match admitted.is_one_of_many() {
                    true => poll_immediate(&mut next).await,
                    false => {
                        let moment = deadline.min(Instant::now() + MOMENT);
                        timeout_at(moment, &mut next).await.ok()
                    }
                };
                if come.is_some() {
                    return Ok(come);
                }
                self.waits.insert(admitted.waits())
            }
        };
        tokio::select! {
            biased;
            refusal = waits.makes_room() => Err(refusal),
            waited = timeout_at(deadline, next) => Ok(waited.ok()),
        }
    }
}

impl ReceiveOptions {
    /// The defaults, with this limit on decompressed requests.
    pub fn new(max_decompressed_bytes: usize) -> Self {
        Self {
            max_bytes: MAX_BYTES,
            max_decompressed_bytes,
            stall_timeout: STALL_TIMEOUT,
        }
    }

    /// The next piece of the body, counted as held; `None` at its end.
    ///
    /// # Errors
    ///
    /// `DEADLINE_EXCEEDED` if the client stalls, `CANCELLED` if it disconnects, `INVALID_ARGUMENT` if HTTP
    /// does not allow the body, [`ServingError::Overloaded`] if the request makes room for others, and
    /// those of [`Admitted::grow`].
    pub async fn next<B>(
        &self,
        body: &mut B,
        admitted: &Arc<Admitted>,
        pace: &mut Pace,
    ) -> Result<Option<Bytes>>
    where
        B: Body<Data = Bytes, Error: StdError + 'static> + Unpin,
    {
        loop {
            let next = pace.wait(body.frame(), admitted, self.stall_timeout);
            let frame = match next.await? {
                Some(None) => return Ok(None),
                Some(Some(Ok(frame))) => frame,
                Some(Some(Err(error))) => {
                    let code = if is_malformed(&error) {
                        Code::InvalidArgument
                    } else {
                        Code::Cancelled
                    };
                    let text = format!("the body could not be read: {error}");
                    return Err(ServingError::new(code, text));
                }
                None => {
                    return Err(ServingError::new(
                        Code::DeadlineExceeded,
                        "the body stalled",
                    ));
                }
            };
            if let Ok(data) = frame.into_data() {
                pace.bytes = pace.bytes.saturating_add(data.len());
                admitted.grow(data.len())?;
                return Ok(Some(data));
            }
        }
    }
}

/// Whether the body was malformed rather than cut off. hyper's errors tell by the kind of the IO error that
/// caused them.
fn is_malformed(error: &(dyn StdError + 'static)) -> bool {
    let mut chain = iter::successors(Some(error), |&error| error.source());
    chain.any(|error| {
        error.downcast_ref::<io::Error>().is_some_and(|error| {
            use io::ErrorKind::{InvalidData, InvalidInput};
            matches!(error.kind(), InvalidData | InvalidInput)
        })
    })
}

/// Why decompression failed.
#[derive(Debug)]
pub enum Inflation {
    /// The output is larger than the limit.
    TooLarge,
    /// The input is not in the format that it claims.
    Malformed(io::Error),
    /// All requests together have become too large.
    Refused(ServingError),
}

/// Reads a decompressing reader to its end. Memory grows with the output, never by a size in a header, and
/// is counted as held.
pub fn inflate(
    mut reader: impl Read,
    max_bytes: usize,
    admitted: &Admitted,
) -> Result<Vec<u8>, Inflation> {
    let mut chunk = vec![0; 64 << 10];
    let mut inflated = Vec::new();
    loop {
        let len = match reader.read(&mut chunk) {
            Ok(0) => return Ok(inflated),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Inflation::Malformed(error)),
        };
        if len > max_bytes - inflated.len() {
            return Err(Inflation::TooLarge);
        }
        admitted.grow(len).map_err(Inflation::Refused)?;
        inflated.extend_from_slice(&chunk[..len]);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body::Frame;
    use http_body_util::StreamBody;
    use tokio_stream::StreamExt;

    use super::*;
    use crate::limit::LoadShed;

    /// The client sends a byte now and then, or just as much as it has to.
    #[tokio::test]
    async fn a_body_that_trickles_is_given_up() {
        let stall = Duration::from_millis(200);
        let options = ReceiveOptions {
            stall_timeout: stall,
            ..ReceiveOptions::new(1)
        };
        let admitted = LoadShed::new(1, u64::MAX).enter_now(None);
        let admitted = Arc::new(admitted.unwrap());
        for (piece, is_whole) in [(1, false), (MIN_PROGRESS, true)] {
            let pieces =
                (0..20).map(|_| Ok::<_, Infallible>(Frame::data(Bytes::from(vec![0; piece]))));
            let pieces = tokio_stream::iter(pieces).then(async |piece| {
                tokio::time::sleep(stall / 10).await;
                piece
            });
            let mut body = StreamBody::new(Box::pin(pieces));
            let mut pace = Pace::default();
            let ended = loop {
                match options.next(&mut body, &admitted, &mut pace).await {
                    Ok(Some(_)) => {}
                    Ok(None) => break None,
                    Err(error) => break Some(error.code()),
                }
            };
            let expected = (!is_whole).then_some(Code::DeadlineExceeded);
            assert_eq!(ended, expected, "pieces of {piece}");
        }
    }

    #[test]
    fn inflating_is_bounded_and_counted() {
        let load_shed = LoadShed::new(1, 300_000);
        let zeros = |len| io::repeat(0).take(len);
        {
            let admitted = load_shed.enter_now(None).unwrap();
            let inflated = inflate(zeros(200_000), 200_000, &admitted);
            assert_eq!(inflated.unwrap().len(), 200_000);
            let refused = inflate(zeros(200_000), 200_000, &admitted);
            assert!(matches!(refused, Err(Inflation::Refused(_))), "{refused:?}");
        }
        let admitted = load_shed.enter_now(None).unwrap();
        let too_large = inflate(zeros(200_001), 200_000, &admitted);
        assert!(
            matches!(too_large, Err(Inflation::TooLarge)),
            "{too_large:?}"
        );
    }
}
