//! Reads request bodies: whole, bounded, gunzipped.

use std::fmt::Display;
use std::io::Read;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http_body::{Body, Frame};
use http_body_util::BodyExt;

use crate::error::{Code, Result, ServingError};

/// As large as a gRPC message may be. The original has no bound.
const MAX_BODY_BYTES: usize = i32::MAX as usize;

/// The original's bound on a gunzipped body.
const MAX_GUNZIPPED_BYTES: u64 = 100 << 20;

/// Memory that is reserved on a client's word alone.
const MAX_RESERVED_BYTES: usize = 16 << 20;

/// The body of a request; one that stalls for `stall_timeout` is given up. One that claims to be gzip and is not, or is too large, is empty, as in
/// the original.
///
/// # Errors
///
/// `RESOURCE_EXHAUSTED` beyond the bound, `DEADLINE_EXCEEDED` for a stalled client, `UNKNOWN` for
/// a connection that breaks.
pub(super) async fn read<B>(headers: &HeaderMap, body: B, stall_timeout: Duration) -> Result<Bytes>
where
    B: Body<Data = Bytes, Error: Display> + Unpin,
{
    let body = collect(headers, body, stall_timeout).await?;
    let is_gzip = headers
        .get(CONTENT_ENCODING)
        .is_some_and(|value| value.as_bytes().windows(4).any(|window| window == b"gzip"));
    if !is_gzip {
        return Ok(body);
    }
    let gunzipped = tokio::task::spawn_blocking(move || gunzip(&body)).await;
    Ok(gunzipped.unwrap_or_default())
}

async fn collect<B>(headers: &HeaderMap, mut body: B, stall_timeout: Duration) -> Result<Bytes>
where
    B: Body<Data = Bytes, Error: Display> + Unpin,
{
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok())
        .unwrap_or(0);
    if announced > MAX_BODY_BYTES {
        return Err(too_large());
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = next_frame(&mut body, stall_timeout).await? {
        let Ok(data) = frame.into_data() else {
            continue;
        };
        // One frame is the common case, and needs no copy.
        if first.is_empty() && rest.is_empty() {
            first = data;
            continue;
        }
        if rest.is_empty() {
            rest.reserve(announced.min(MAX_RESERVED_BYTES));
            rest.extend_from_slice(&std::mem::take(&mut first));
        }
        rest.extend_from_slice(&data);
        if rest.len() > MAX_BODY_BYTES {
            return Err(too_large());
        }
    }
    Ok(if rest.is_empty() {
        first
    } else {
        rest.freeze()
    })
}

async fn next_frame<B>(body: &mut B, stall_timeout: Duration) -> Result<Option<Frame<Bytes>>>
where
    B: Body<Data = Bytes, Error: Display> + Unpin,
{
    match tokio::time::timeout(stall_timeout, body.frame()).await {
        Ok(None) => Ok(None),
        Ok(Some(Ok(frame))) => Ok(Some(frame)),
        Ok(Some(Err(error))) => Err(ServingError::new(
            Code::Unknown,
            format!("the body could not be read: {error}"),
        )),
        Err(_) => Err(ServingError::new(
            Code::DeadlineExceeded,
            "the body stalled",
        )),
    }
}

fn too_large() -> ServingError {
    ServingError::new(
        Code::ResourceExhausted,
        format!("the body is larger than {MAX_BODY_BYTES} bytes"),
    )
}

fn gunzip(body: &[u8]) -> Bytes {
    let mut inflated = Vec::new();
    let mut reader = MultiGzDecoder::new(body).take(MAX_GUNZIPPED_BYTES + 1);
    match reader.read_to_end(&mut inflated) {
        Ok(len) if len as u64 <= MAX_GUNZIPPED_BYTES => inflated.into(),
        _ => Bytes::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io::Write;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use flate2::write::GzEncoder;
    use http_body_util::Full;

    use super::*;

    const NO_STALL: Duration = Duration::from_secs(60);

    /// A client that sends these frames and then, perhaps, nothing more for ever.
    struct Frames {
        frames: Vec<&'static [u8]>,
        stalls: bool,
    }

    impl Body for Frames {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if !self.frames.is_empty() {
                let frame = Bytes::from_static(self.frames.remove(0));
                return Poll::Ready(Some(Ok(Frame::data(frame))));
            }
            if self.stalls {
                Poll::Pending
            } else {
                Poll::Ready(None)
            }
        }
    }

    fn content_encoding(value: &'static str) -> HeaderMap {
        [(CONTENT_ENCODING, value.parse().unwrap())]
            .into_iter()
            .collect()
    }

    fn gzipped(bytes: &[u8]) -> Full<Bytes> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        Full::new(encoder.finish().unwrap().into())
    }

    #[tokio::test]
    async fn frames_are_put_together() {
        let cases: [&[&[u8]]; 4] = [&[], &[b"abc"], &[b"a", b"bc"], &[b"a", b"", b"b", b"c"]];
        for frames in cases {
            let body = Frames {
                frames: frames.to_vec(),
                stalls: false,
            };
            let read = read(&HeaderMap::new(), body, NO_STALL).await.unwrap();
            assert_eq!(read, frames.concat());
        }
    }

    #[tokio::test]
    async fn a_stalled_body_is_given_up() {
        for frames in [Vec::new(), vec![&b"{\"instances\""[..]]] {
            let body = Frames {
                frames,
                stalls: true,
            };
            let stall_timeout = Duration::from_millis(1);
            let error = read(&HeaderMap::new(), body, stall_timeout)
                .await
                .unwrap_err();
            assert_eq!(error.code(), Code::DeadlineExceeded);
        }
    }

    #[tokio::test]
    async fn a_body_too_large_is_refused_by_its_length() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, (MAX_BODY_BYTES + 1).into());
        let body = Frames {
            frames: Vec::new(),
            stalls: true,
        };
        let error = read(&headers, body, NO_STALL).await.unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted);
    }

    // rest.md, section 1.4: any coding with `gzip` in its name, and empty where it is not gzip.
    #[tokio::test]
    async fn gzipped_bodies_are_gunzipped() {
        for coding in ["gzip", "x-gzip", "my_gzip"] {
            let read = read(&content_encoding(coding), gzipped(b"{}"), NO_STALL).await;
            assert_eq!(read.unwrap(), "{}");
        }
        let plain = Full::new(Bytes::from_static(b"{}"));
        let read_as = async |coding| read(&content_encoding(coding), plain.clone(), NO_STALL).await;
        assert_eq!(read_as("gzip").await.unwrap(), "");
        assert_eq!(read_as("identity").await.unwrap(), "{}");
    }

    #[tokio::test]
    async fn a_body_that_grows_too_large_is_empty() {
        let zeros = vec![0; MAX_GUNZIPPED_BYTES as usize + 1];
        let largest = gzipped(&zeros[1..]);
        let too_large = gzipped(&zeros);
        let headers = content_encoding("gzip");
        let largest = read(&headers, largest, NO_STALL).await.unwrap();
        assert_eq!(largest.len() as u64, MAX_GUNZIPPED_BYTES);
        assert_eq!(read(&headers, too_large, NO_STALL).await.unwrap(), "");
    }
}
