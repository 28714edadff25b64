//! Reads complete request bodies, within limits, and gunzips them.

use std::error::Error as StdError;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http_body::Body;

use base::error::{Code, Result, ServingError};
use base::panics;
use net::limit::Admitted;
use net::receive::{Inflation, Pace, ReceiveOptions, inflate};

/// The most memory that is reserved based only on `Content-Length`.
const MAX_RESERVED_BYTES: usize = 16 << 20;

/// The body of a request. As in TensorFlow Serving, it is empty if it claims to be gzip but is not, or is
/// too large.
///
/// # Errors
///
/// `RESOURCE_EXHAUSTED` beyond the limit, and those of [`ReceiveOptions::next`].
pub(super) async fn read<B>(
    headers: &HeaderMap,
    body: B,
    options: &ReceiveOptions,
    admitted: &Arc<Admitted>,
) -> Result<Bytes>
where
    B: Body<Data = Bytes, Error: StdError + 'static> + Unpin,
{
    let body = collect(headers, body, options, admitted).await?;
    let is_gzip = headers
        .get(CONTENT_ENCODING)
        .is_some_and(|value| value.as_bytes().windows(4).any(|window| window == b"gzip"));
    if !is_gzip {
        return Ok(body);
    }
    let (max_bytes, admitted) = (options.max_decompressed_bytes, Arc::clone(admitted));
    let work = move || inflate(MultiGzDecoder::new(&*body), max_bytes, &admitted);
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(inflated)) => Ok(inflated.into()),
        Ok(Err(Inflation::Refused(error))) => Err(error),
        Ok(Err(Inflation::TooLarge | Inflation::Malformed(_))) => Ok(Bytes::new()),
        Err(_) => Err(panics::ended_abnormally("decompressing")),
    }
}

async fn collect<B>(
    headers: &HeaderMap,
    mut body: B,
    options: &ReceiveOptions,
    admitted: &Arc<Admitted>,
) -> Result<Bytes>
where
    B: Body<Data = Bytes, Error: StdError + 'static> + Unpin,
{
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok())
        .unwrap_or(0);
    let max_bytes = options.max_bytes;
    if announced > max_bytes {
        return Err(too_large(max_bytes));
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut pace = Pace::default();
    while let Some(data) = options.next(&mut body, admitted, &mut pace).await? {
        if first.len().max(rest.len()) + data.len() > max_bytes {
            return Err(too_large(max_bytes));
        }
        // A single frame is the common case, and needs no copy.
        if first.is_empty() && rest.is_empty() {
            first = data;
            continue;
        }
        if rest.is_empty() {
            rest.reserve(announced.min(MAX_RESERVED_BYTES));
            rest.extend_from_slice(&std::mem::take(&mut first));
        }
        rest.extend_from_slice(&data);
    }
    Ok(if rest.is_empty() {
        first
    } else {
        rest.freeze()
    })
}

fn too_large(max_bytes: usize) -> ServingError {
    ServingError::new(
        Code::ResourceExhausted,
        format!("the body is larger than {max_bytes} bytes"),
    )
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io::Write;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::Duration;

    use flate2::write::GzEncoder;
    use http_body::Frame;
    use http_body_util::Full;

    use super::*;
    use crate::tfs::rest::RestOptions;
    use net::limit::LoadShed;

    /// With the server's default options.
    async fn read<B>(headers: &HeaderMap, body: B) -> Result<Bytes>
    where
        B: Body<Data = Bytes, Error: StdError + 'static> + Unpin,
    {
        read_with(headers, body, &RestOptions::default().receive).await
    }

    async fn read_with<B>(headers: &HeaderMap, body: B, options: &ReceiveOptions) -> Result<Bytes>
    where
        B: Body<Data = Bytes, Error: StdError + 'static> + Unpin,
    {
        let admitted = Arc::new(LoadShed::new(1, u64::MAX).enter_now(None)?);
        super::read(headers, body, options, &admitted).await
    }

    /// A client that sends these frames and then, if it `stalls`, nothing more.
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
            let read = read(&HeaderMap::new(), body).await.unwrap();
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
            let options = ReceiveOptions {
                stall_timeout: Duration::from_millis(1),
                ..RestOptions::default().receive
            };
            let headers = HeaderMap::new();
            let error = read_with(&headers, body, &options).await.unwrap_err();
            assert_eq!(error.code(), Code::DeadlineExceeded);
        }
    }

    #[tokio::test]
    async fn a_body_too_large_is_refused_by_its_length() {
        let mut headers = HeaderMap::new();
        // The maximum size is that of a gRPC message; docs/rest.md.
        headers.insert(CONTENT_LENGTH, (1_u64 << 31).into());
        let body = Frames {
            frames: Vec::new(),
            stalls: true,
        };
        let error = read(&headers, body).await.unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted);
    }

    #[tokio::test]
    async fn a_body_that_becomes_too_large_is_refused() {
        let options = ReceiveOptions {
            max_bytes: 3,
            ..RestOptions::default().receive
        };
        for (frames, fits) in [
            (&[&b"abc"[..]][..], true),
            (&[b"a", b"bc"], true),
            (&[b"abcd"], false),
            (&[b"ab", b"cd"], false),
        ] {
            let body = Frames {
                frames: frames.to_vec(),
                stalls: false,
            };
            let read = read_with(&HeaderMap::new(), body, &options).await;
            assert_eq!(read.is_ok(), fits, "{frames:?}");
        }
    }

    // rest.md, section 1.4: any coding with `gzip` in its name; a body that is not gzip becomes empty.
    #[tokio::test]
    async fn gzipped_bodies_are_gunzipped() {
        for coding in ["gzip", "x-gzip", "my_gzip"] {
            let read = read(&content_encoding(coding), gzipped(b"{}")).await;
            assert_eq!(read.unwrap(), "{}");
        }
        let plain = Full::new(Bytes::from_static(b"{}"));
        let read_as = async |coding| read(&content_encoding(coding), plain.clone()).await;
        assert_eq!(read_as("gzip").await.unwrap(), "");
        assert_eq!(read_as("identity").await.unwrap(), "{}");
    }

    #[tokio::test]
    async fn a_body_that_grows_too_large_is_empty() {
        let max_bytes = RestOptions::default().receive.max_decompressed_bytes;
        let zeros = vec![0; max_bytes + 1];
        let largest = gzipped(&zeros[1..]);
        let too_large = gzipped(&zeros);
        let headers = content_encoding("gzip");
        let largest = read(&headers, largest).await.unwrap();
        assert_eq!(largest.len(), max_bytes);
        assert_eq!(read(&headers, too_large).await.unwrap(), "");
    }
}
