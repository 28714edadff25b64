//! Receives the message of a unary call before tonic sees it.
//!
//! tonic reserves memory for what a message's prefix announces, and decompresses on the workers
//! that serve sockets. Here memory grows with what arrives, compressed messages are inflated
//! elsewhere and within a bound, and a client that stalls is given up.
//!
//! Not here: what is in the message (`codec`).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;
use http_body::{Body, Frame};

use crate::error::{Code, Result, ServingError};
use crate::panics;
use crate::transport::limit::Admitted;
use crate::transport::receive::{Inflation, ReceiveOptions, inflate};

/// gRPC's prefix: whether the message is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// What was received, for tonic to read.
pub(super) struct Received(VecDeque<Bytes>);

impl Body for Received {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

/// Receives the body of a unary call. What is no message is left to tonic to refuse.
///
/// # Errors
///
/// `RESOURCE_EXHAUSTED` for a message that is or becomes too large, `INTERNAL` for one that is cut
/// off or does not decompress, those of [`ReceiveOptions::next`].
pub(super) async fn receive<B>(
    headers: &HeaderMap,
    mut body: B,
    options: &ReceiveOptions,
    admitted: &Arc<Admitted>,
) -> Result<Received>
where
    B: Body<Data = Bytes, Error: StdError + 'static> + Unpin,
{
    let max_bytes = options.max_bytes;
    let mut parts = VecDeque::new();
    let mut len = 0;
    let mut prefix = Vec::with_capacity(PREFIX_BYTES);
    while let Some(part) = options.next(&mut body, admitted).await? {
        let missing = PREFIX_BYTES - prefix.len();
        prefix.extend_from_slice(&part[..missing.min(part.len())]);
        len += part.len();
        let announced = announced(&prefix).map_or(0, |(_, announced)| announced);
        let size = announced.max(len.saturating_sub(PREFIX_BYTES));
        if size > max_bytes {
            // The words of gRPC's core.
            let text = format!("SERVER: Received message larger than max ({size} vs. {max_bytes})");
            return Err(ServingError::new(Code::ResourceExhausted, text));
        }
        parts.push_back(part);
    }
    let Some((is_compressed, announced)) = announced(&prefix) else {
        return Ok(Received(parts));
    };
    let Some(excess) = len.checked_sub(PREFIX_BYTES + announced) else {
        return Err(ServingError::internal("the message ended early"));
    };
    if excess > 0 {
        truncate(&mut parts, PREFIX_BYTES + announced);
    }
    match encoding(headers) {
        Some(encoding) if is_compressed => {
            inflated(parts, encoding, options.max_decompressed_bytes, admitted).await
        }
        _ => Ok(Received(parts)),
    }
}

/// Leaves the first `len` bytes: only the first message of a unary call counts.
fn truncate(parts: &mut VecDeque<Bytes>, mut len: usize) {
    for part in parts {
        part.truncate(len);
        len -= part.len();
    }
}

/// Whether the message is compressed, and its length, once the prefix is complete.
fn announced(prefix: &[u8]) -> Option<(bool, usize)> {
    let [flag, length @ ..] = prefix else {
        return None;
    };
    let length = u32::from_be_bytes(length.try_into().ok()?);
    Some((*flag == 1, usize::try_from(length).ok()?))
}

#[derive(Clone, Copy)]
enum Encoding {
    Gzip,
    Deflate,
    Zstd,
}

fn encoding(headers: &HeaderMap) -> Option<Encoding> {
    match headers.get("grpc-encoding")?.as_bytes() {
        b"gzip" => Some(Encoding::Gzip),
        b"deflate" => Some(Encoding::Deflate),
        b"zstd" => Some(Encoding::Zstd),
        _ => None,
    }
}

async fn inflated(
    parts: VecDeque<Bytes>,
    encoding: Encoding,
    max_bytes: usize,
    admitted: &Arc<Admitted>,
) -> Result<Received> {
    let admitted = Arc::clone(admitted);
    let work = move || {
        let compressed: Vec<u8> = parts.into_iter().flatten().skip(PREFIX_BYTES).collect();
        let compressed = compressed.as_slice();
        match encoding {
            Encoding::Gzip => inflate(MultiGzDecoder::new(compressed), max_bytes, &admitted),
            Encoding::Deflate => inflate(ZlibDecoder::new(compressed), max_bytes, &admitted),
            Encoding::Zstd => zstd::Decoder::new(compressed)
                .map_err(Inflation::Malformed)
                .and_then(|reader| inflate(reader, max_bytes, &admitted)),
        }
    };
    let message = tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| panics::ended_abnormally("decompressing"))?;
    let message = message.map_err(|error| match error {
        Inflation::TooLarge => ServingError::new(
            Code::ResourceExhausted,
            format!("the message is larger than {max_bytes} bytes when it is decompressed"),
        ),
        Inflation::Malformed(error) => {
            ServingError::internal(format!("the message could not be decompressed: {error}"))
        }
        Inflation::Refused(error) => error,
    })?;
    let length = u32::try_from(message.len())
        .map_err(|_| ServingError::new(Code::ResourceExhausted, "a message of 4 GiB"))?;
    let mut prefix = BytesMut::with_capacity(PREFIX_BYTES);
    prefix.put_u8(0);
    prefix.put_u32(length);
    Ok(Received([prefix.freeze(), message.into()].into()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use flate2::write::{GzEncoder, ZlibEncoder};
    use http_body_util::{BodyExt, StreamBody};

    use super::*;
    use crate::transport::limit::Admission;

    fn options() -> ReceiveOptions {
        ReceiveOptions {
            max_bytes: 1000,
            max_decompressed_bytes: 2000,
            stall_timeout: Duration::from_millis(1),
        }
    }

    fn message(flag: u8, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[flag], &len[..], payload].concat()
    }

    async fn received(encoding: &'static str, parts: &[&[u8]]) -> Result<Vec<u8>> {
        let headers = HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-encoding"),
            http::HeaderValue::from_static(encoding),
        )]);
        let frames: Vec<_> = parts
            .iter()
            .map(|part| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(part))))
            .collect();
        let body = StreamBody::new(tokio_stream::iter(frames));
        let admitted = Arc::new(Admission::new(1, 1 << 20).enter()?);
        let received = receive(&headers, body, &options(), &admitted).await?;
        Ok(received.collect().await.unwrap().to_bytes().to_vec())
    }

    #[tokio::test]
    async fn plain_messages_pass_as_they_are() {
        let plain = message(0, b"hello");
        let (head, tail) = plain.split_at(3);
        assert_eq!(received("gzip", &[&plain]).await.unwrap(), plain);
        assert_eq!(received("gzip", &[head, b"", tail]).await.unwrap(), plain);
        // For tonic to refuse: an unknown flag, half a prefix, nothing.
        for odd in [&b"\x07\0\0\0\x01x"[..], b"\0\0", b""] {
            assert_eq!(received("gzip", &[odd]).await.unwrap(), odd);
        }
    }

    #[tokio::test]
    async fn only_the_first_message_counts() {
        let (first, second) = (message(0, b"first"), message(0, b"second"));
        for parts in [
            [&first[..], &second],
            [&[&first[..], b"\0"].concat(), b"\0"],
        ] {
            assert_eq!(received("gzip", &parts).await.unwrap(), first);
        }
        let error = received("gzip", &[&first[..9]]).await.unwrap_err();
        assert_eq!(error.code(), Code::Internal);
    }

    #[tokio::test]
    async fn compressed_messages_are_inflated() {
        let payload = [7; 1500];
        let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&payload).unwrap();
        let mut deflate = ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        deflate.write_all(&payload).unwrap();
        for (encoding, compressed) in [
            ("gzip", gzip.finish().unwrap()),
            ("deflate", deflate.finish().unwrap()),
            ("zstd", zstd::encode_all(&payload[..], 3).unwrap()),
        ] {
            let sent = message(1, &compressed);
            let received = received(encoding, &[&sent]).await.unwrap();
            assert_eq!(received, message(0, &payload), "{encoding}");
        }
    }

    #[tokio::test]
    async fn what_is_too_large_is_refused() {
        let bomb = zstd::encode_all(&[0; 2001][..], 3).unwrap();
        for (parts, text) in [
            (
                &[&b"\0\0\0\x03\xe9"[..]][..],
                "larger than max (1001 vs. 1000)",
            ),
            (&[&[0; 1006]], "larger than max (1001 vs. 1000)"),
            (&[&message(1, &bomb)], "2000 bytes when it is decompressed"),
        ] {
            let error = received("zstd", parts).await.unwrap_err();
            assert_eq!(error.code(), Code::ResourceExhausted);
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[tokio::test]
    async fn a_message_that_is_not_compressed_as_it_says_is_refused() {
        let error = received("gzip", &[&message(1, b"no gzip")])
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::Internal);
    }
}
