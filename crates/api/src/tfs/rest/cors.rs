//! Cross-origin requests of browsers (`--rest_api_enable_cors_support`).

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue, ORIGIN};
use http::{HeaderMap, Response};

use crate::http_reply::{http_status, response};
use base::error::Code;

/// Allows pages of every origin to read the response.
pub(super) fn add_headers(response: &mut Response<Bytes>, needs_credentials: bool) {
    let allowed_headers = match needs_credentials {
        true => "Content-Type, Authorization",
        false => "Content-Type",
    };
    for (name, value) in [
        ("access-control-allow-origin", "*"),
        ("access-control-allow-methods", "POST, GET"),
        ("access-control-allow-headers", allowed_headers),
    ] {
        let name = HeaderName::from_static(name);
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
}

/// The code of an answer to `OPTIONS`: `OK` for an `Origin` that contains `http://` or `https://`.
pub(super) fn preflight_code(headers: &HeaderMap) -> Code {
    let origin = headers.get(ORIGIN);
    let origin = origin.map_or(&b""[..], HeaderValue::as_bytes);
    let contains = |part: &[u8]| origin.windows(part.len()).any(|window| window == part);
    if contains(b"http://") || contains(b"https://") {
        Code::Ok
    } else {
        Code::FailedPrecondition
    }
}

/// The answer to `OPTIONS`; the body is empty.
pub(super) fn preflight(code: Code) -> Response<Bytes> {
    let content_type = "text/html; charset=ISO-8859-1";
    response(http_status(code), content_type, Bytes::new())
}
