//! Reads request bodies: whole, bounded, gunzipped.

use std::io::Read;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::error::{Code, Result, ServingError};

/// As large as a gRPC message may be. The original has no bound.
const MAX_BODY_BYTES: usize = i32::MAX as usize;

/// The original's bound on a gunzipped body.
const MAX_GUNZIPPED_BYTES: u64 = 100 << 20;

/// A body that stalls for this long is given up; libevent's socket timeout.
const STALL_TIMEOUT: Duration = Duration::from_secs(50);

/// Memory that is reserved on a client's word alone.
const MAX_RESERVED_BYTES: usize = 16 << 20;

/// The body of a request. One that claims to be gzip and is not, or is too large, is empty, as in
/// the original.
///
/// # Errors
///
/// `RESOURCE_EXHAUSTED` beyond the bound, `DEADLINE_EXCEEDED` for a stalled client, `UNKNOWN` for
/// a connection that breaks.
pub(super) async fn read(headers: &HeaderMap, body: Incoming) -> Result<Bytes> {
    let body = collect(headers, body).await?;
    let is_gzip = headers
        .get(CONTENT_ENCODING)
        .is_some_and(|value| value.as_bytes().windows(4).any(|window| window == b"gzip"));
    if !is_gzip {
        return Ok(body);
    }
    let gunzipped = tokio::task::spawn_blocking(move || gunzip(&body)).await;
    Ok(gunzipped.unwrap_or_default())
}

async fn collect(headers: &HeaderMap, mut body: Incoming) -> Result<Bytes> {
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok())
        .unwrap_or(0);
    if announced > MAX_BODY_BYTES {
        return Err(too_large());
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = next_frame(&mut body).await? {
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

async fn next_frame(body: &mut Incoming) -> Result<Option<hyper::body::Frame<Bytes>>> {
    match tokio::time::timeout(STALL_TIMEOUT, body.frame()).await {
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
