//! Receives the complete message of a unary call, uncompressed, before it is read.
//!
//! tonic would reserve memory for the length in a message's prefix, and decompress on the workers that
//! serve sockets. Here memory grows with the bytes that arrive, compressed messages are inflated elsewhere
//! and within a limit, and a client that stalls is given up.
//!
//! Not here: the content of the message (`wire`), the response (`reply`).

use std::convert::Infallible;
use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;
use http_body::{Body, Frame};
use prost::Message;

use base::error::{Code, Result, ServingError};
use base::panics;
use net::blocking::off_worker;
use net::limit::Admitted;
use net::receive::{Inflation, Pace, ReceiveOptions, inflate};

/// gRPC's prefix: a flag for compression, and the message's length.
pub(super) const PREFIX_BYTES: usize = 5;

/// The first allocation for a message that comes in parts; each further one is `GROWTH` times as large.
const FIRST_BYTES: usize = 1 << 20;
const GROWTH: usize = 4;
/// The alignment that every allocation has, which is enough for every dtype.
const ALIGNMENT: usize = 16;

/// Finds, in the first part of a message, the start of the data that is to be aligned.
pub(super) type FindAligned = fn(&[u8]) -> Option<usize>;

/// The supported encodings, as in the header `grpc-accept-encoding`.
pub(super) const ACCEPTED_ENCODINGS: &str = "identity,gzip,deflate,zstd";

/// The prefix of an uncompressed message; `None` from 4 GiB on.
pub(super) fn prefix(len: usize) -> Option<[u8; PREFIX_BYTES]> {
    let [a, b, c, d] = u32::try_from(len).ok()?.to_be_bytes();
    Some([0, a, b, c, d])
}

/// A message as a body, for tonic to read.
pub(super) struct Framed {
    prefix: Bytes,
    message: Bytes,
}

impl Framed {
    /// A message that was [received](receive).
    pub(super) fn new(message: Bytes) -> Self {
        let prefix = prefix(message.len()).expect("a received message is less than 2 GiB");
        Self {
            prefix: Bytes::copy_from_slice(&prefix),
            message,
        }
    }
}

impl Body for Framed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut data = std::mem::take(&mut self.prefix);
        if data.is_empty() {
            data = std::mem::take(&mut self.message);
        }
        Poll::Ready((!data.is_empty()).then(|| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.prefix.is_empty() && self.message.is_empty()
    }
}

/// Receives the body of a unary call: its first message; others are ignored. The data at the offset that
/// `aligned` finds in the first part of the message is placed at a multiple of 16 bytes.
///
/// # Errors
///
/// `RESOURCE_EXHAUSTED` for a message that is or becomes too large, `UNIMPLEMENTED` for an unknown
/// compression, `INTERNAL` for one that is missing, cut off or does not decompress, and those of
/// [`ReceiveOptions::next`].
pub(super) async fn receive<B>(
    headers: &HeaderMap,
    mut body: B,
    options: &ReceiveOptions,
    admitted: &Arc<Admitted>,
    aligned: FindAligned,
) -> Result<Bytes>
where
    B: Body<Data = Bytes, Error: StdError + 'static> + Unpin,
{
    let encoding = encoding(headers)?;
    let mut incoming = Incoming::default();
    let mut pace = Pace::default();
    while let Some(part) = options.next(&mut body, admitted, &mut pace).await? {
        incoming.take(part, options.max_bytes, aligned)?;
    }
    let (is_compressed, message) = incoming.finish()?;
    match encoding {
        Some(encoding) if is_compressed => {
            inflated(message, encoding, options.max_decompressed_bytes, admitted).await
        }
        None if is_compressed => Err(ServingError::internal(
            "the message is said to be compressed, and no grpc-encoding says how",
        )),
        _ => Ok(message),
    }
}

/// Decodes a message that was [received](receive).
///
/// # Errors
///
/// `INTERNAL`, as in gRPC.
pub(super) fn decode<M: Message + Default>(message: Bytes) -> Result<M> {
    let decoded = off_worker(message.len(), || M::decode(message));
    decoded.map_err(|error| ServingError::internal(error.to_string()))
}

/// The part of a body that has arrived.
#[derive(Default)]
struct Incoming {
    prefix: [u8; PREFIX_BYTES],
    /// Bytes of the body so far, prefix included.
    received: usize,
    message: Partial,
}

#[derive(Default)]
enum Partial {
    #[default]
    Nothing,
    /// All of it came in one part.
    Whole(Bytes),
    /// The message comes after some bytes of padding.
    Parts { bytes: Vec<u8>, padding: usize },
}

impl Incoming {
    fn take(&mut self, mut part: Bytes, max_bytes: usize, aligned: FindAligned) -> Result<()> {
        let filled = self.received.min(PREFIX_BYTES);
        let of_prefix = part.len().min(PREFIX_BYTES - filled);
        self.prefix[filled..filled + of_prefix].copy_from_slice(&part[..of_prefix]);
        let before = self.received.saturating_sub(PREFIX_BYTES);
        self.received = self.received.saturating_add(part.len());
        part.advance(of_prefix);

        let announced = self.announced().unwrap_or(0);
        let size = announced.max(self.received.saturating_sub(PREFIX_BYTES));
        if size > max_bytes {
            // The text of gRPC's core.
            let text = format!("SERVER: Received message larger than max ({size} vs. {max_bytes})");
            return Err(ServingError::new(Code::ResourceExhausted, text));
        }
        part.truncate(announced.saturating_sub(before));
        if part.is_empty() {
            return Ok(());
        }
        if let Partial::Nothing = self.message {
            if part.len() == announced {
                self.message = Partial::Whole(part);
                return Ok(());
            }
            let padding = aligned(&part).map_or(0, |offset| offset.wrapping_neg() % ALIGNMENT);
            let bytes = vec![0; padding];
            self.message = Partial::Parts { bytes, padding };
        }
        if let Partial::Parts { bytes, padding } = &mut self.message {
            append(bytes, &part, *padding + announced)?;
        }
        Ok(())
    }

    /// The length of the message, once the prefix has arrived.
    fn announced(&self) -> Option<usize> {
        let [_, length @ ..] = self.prefix;
        let length = usize::try_from(u32::from_be_bytes(length)).ok();
        length.filter(|_| self.received >= PREFIX_BYTES)
    }

    /// Returns whether the message is compressed, and the message.
    fn finish(self) -> Result<(bool, Bytes)> {
        if self.received == 0 {
            return Err(ServingError::internal("Missing request message."));
        }
        let announced = self.announced();
        let message = match self.message {
            Partial::Nothing => Bytes::new(),
            Partial::Whole(message) => message,
            Partial::Parts { bytes, padding } => Bytes::from(bytes).slice(padding..),
        };
        match self.prefix[0] {
            _ if announced != Some(message.len()) => {
                Err(ServingError::internal("the message ended early"))
            }
            flag @ (0 | 1) => Ok((flag == 1, message)),
            flag => Err(ServingError::internal(format!(
                "invalid compression flag: {flag} (valid flags are 0 and 1)"
            ))),
        }
    }
}

/// Appends a part of a message that will have `total` bytes.
fn append(bytes: &mut Vec<u8>, part: &[u8], total: usize) -> Result<()> {
    let needed = bytes.len() + part.len();
    if needed > bytes.capacity() {
        let wanted = (bytes.capacity() * GROWTH).max(FIRST_BYTES).min(total);
        bytes
            .try_reserve_exact(wanted.max(needed) - bytes.len())
            .map_err(|_| ServingError::new(Code::ResourceExhausted, "no memory for the message"))?;
    }
    bytes.extend_from_slice(part);
    Ok(())
}

#[derive(Clone, Copy)]
enum Encoding {
    Gzip,
    Deflate,
    Zstd,
}

/// The compression of messages, if they are compressed.
fn encoding(headers: &HeaderMap) -> Result<Option<Encoding>> {
    let Some(header) = headers.get("grpc-encoding") else {
        return Ok(None);
    };
    match header.as_bytes() {
        b"identity" => Ok(None),
        b"gzip" => Ok(Some(Encoding::Gzip)),
        b"deflate" => Ok(Some(Encoding::Deflate)),
        b"zstd" => Ok(Some(Encoding::Zstd)),
        other => Err(ServingError::new(
            Code::Unimplemented,
            format!(
                "Content is compressed with `{}` which isn't supported",
                String::from_utf8_lossy(other)
            ),
        )),
    }
}

async fn inflated(
    message: Bytes,
    encoding: Encoding,
    max_bytes: usize,
    admitted: &Arc<Admitted>,
) -> Result<Bytes> {
    let admitted = Arc::clone(admitted);
    let work = move || {
        let compressed = &*message;
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
    let inflated = message.map_err(|error| match error {
        Inflation::TooLarge => ServingError::new(
            Code::ResourceExhausted,
            format!("the message is larger than {max_bytes} bytes when it is decompressed"),
        ),
        Inflation::Malformed(error) => {
            ServingError::internal(format!("the message could not be decompressed: {error}"))
        }
        Inflation::Refused(error) => error,
    })?;
    Ok(inflated.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use flate2::write::{GzEncoder, ZlibEncoder};
    use http_body_util::StreamBody;

    use super::*;
    use net::limit::LoadShed;

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
        let admitted = Arc::new(LoadShed::new(1, 1 << 20).enter_now(None)?);
        let received = receive(&headers, body, &options(), &admitted, |_| None).await?;
        Ok(received.to_vec())
    }

    #[tokio::test]
    async fn plain_messages_pass_as_they_are() {
        let plain = message(0, b"hello");
        let (head, tail) = plain.split_at(3);
        assert_eq!(received("gzip", &[&plain]).await.unwrap(), b"hello");
        assert_eq!(
            received("gzip", &[head, b"", tail]).await.unwrap(),
            b"hello"
        );
        let (head, tail) = plain.split_at(7);
        assert_eq!(received("identity", &[head, tail]).await.unwrap(), b"hello");
        assert_eq!(received("gzip", &[&message(0, b"")]).await.unwrap(), b"");
    }

    #[tokio::test]
    async fn what_is_no_message_is_refused() {
        for (odd, text) in [
            (&b"\x07\0\0\0\x01x"[..], "invalid compression flag: 7"),
            (b"\0\0", "the message ended early"),
            (b"", "Missing request message."),
        ] {
            let error = received("gzip", &[odd]).await.unwrap_err();
            assert_eq!(error.code(), Code::Internal);
            assert!(error.to_string().contains(text), "{error}");
        }
        let error = received("identity", &[&message(1, b"x")])
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::Internal);
        let error = received("br", &[&message(0, b"x")]).await.unwrap_err();
        assert_eq!(error.code(), Code::Unimplemented);
        assert!(error.to_string().contains("`br`"), "{error}");
    }

    #[tokio::test]
    async fn large_fields_are_aligned() {
        let payload: Vec<u8> = (0..=255).cycle().take(3 << 20).collect();
        let sent = Bytes::from(message(0, &payload));
        let (headers, options) = (HeaderMap::new(), ReceiveOptions::new(1));
        let cases: [(usize, FindAligned); 3] =
            [(0, |_| Some(0)), (7, |_| Some(7)), (300, |_| Some(300))];
        for (offset, aligned) in cases {
            let parts = (0..sent.len()).step_by(16_000);
            let parts = parts.map(|at| sent.slice(at..sent.len().min(at + 16_000)));
            let frames = parts.map(|part| Ok::<_, Infallible>(Frame::data(part)));
            let body = StreamBody::new(tokio_stream::iter(frames));
            let admitted = Arc::new(LoadShed::new(1, 8 << 20).enter_now(None).unwrap());
            let received = receive(&headers, body, &options, &admitted, aligned);
            let received = received.await.unwrap();
            assert!(received == payload);
            assert_eq!(received[offset..].as_ptr().align_offset(ALIGNMENT), 0);
        }
    }

    #[tokio::test]
    async fn only_the_first_message_counts() {
        let (first, second) = (message(0, b"first"), message(0, b"second"));
        for parts in [
            [&first[..], &second],
            [&[&first[..], b"\0"].concat(), b"\0"],
        ] {
            assert_eq!(received("gzip", &parts).await.unwrap(), b"first");
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
            assert_eq!(received, payload, "{encoding}");
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
