//! Gzips answers, if a flag enables it and the client accepts it. TensorFlow Serving never does.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderValue, VARY};
use http::{HeaderMap, Response};

use super::off_worker;

/// Whether `Accept-Encoding` accepts gzip: by name or by `*`, and not with `q=0`.
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let mut by_star = false;
    let values = headers.get_all(ACCEPT_ENCODING).into_iter();
    let items = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    for item in items {
        let (coding, parameters) = item.split_once(';').unwrap_or((item, ""));
        let coding = coding.trim();
        // The name takes precedence over the star, in any order.
        if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
            return is_wanted(parameters);
        }
        if coding == "*" {
            by_star = is_wanted(parameters);
        }
    }
    by_star
}

/// Whether the weight, if present, is a number above zero.
fn is_wanted(parameters: &str) -> bool {
    let weight = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
    });
    weight.is_none_or(|weight| weight.parse().is_ok_and(|weight: f32| weight > 0.0))
}

/// Gzips the answer if it has at least `min_bytes`, the client accepts it, and it gets smaller.
pub(super) fn apply(response: &mut Response<Bytes>, min_bytes: usize, accepts_gzip: bool) {
    // Caches need this even if this answer is sent uncompressed.
    let vary = HeaderValue::from_static("Accept-Encoding");
    response.headers_mut().insert(VARY, vary);
    let size = response.body().len();
    if !accepts_gzip || size < min_bytes.max(1) {
        return;
    }
    let body = response.body();
    let Some(gzipped) = off_worker(size, || gzip(body)) else {
        return;
    };
    if gzipped.len() < size {
        *response.body_mut() = gzipped.into();
        let gzip = HeaderValue::from_static("gzip");
        response.headers_mut().insert(CONTENT_ENCODING, gzip);
    }
}

/// Prefers speed to size: digits shrink to less than half at any level.
fn gzip(body: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 2), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    // RFC 9110, section 12.5.3.
    #[test]
    fn accept_encoding_is_read_with_its_weights() {
        let cases: &[(&[&str], bool)] = &[
            (&[], false),
            (&[""], false),
            (&["gzip"], true),
            (&["deflate, gzip;q=1.0, *;q=0.5"], true),
            (&["GZIP"], true),
            (&["x-gzip"], true),
            (&["gzip;q=0"], false),
            (&["gzip; q=0.000"], false),
            (&["gzip ;Q=0.5"], true),
            (&["gzip;q=x"], false),
            (&["*"], true),
            (&["*;q=0"], false),
            (&["gzip;q=0, *"], false),
            (&["*;q=0, gzip"], true),
            (&["identity", "br, gzip"], true),
            (&["br, deflate"], false),
        ];
        for (values, accepts) in cases {
            let mut headers = HeaderMap::new();
            for value in *values {
                headers.append(ACCEPT_ENCODING, value.parse().unwrap());
            }
            assert_eq!(accepts_gzip(&headers), *accepts, "{values:?}");
        }
    }

    fn applied(body: &Bytes, min_bytes: usize, accepts_gzip: bool) -> Response<Bytes> {
        let mut response = Response::new(body.clone());
        apply(&mut response, min_bytes, accepts_gzip);
        assert_eq!(response.headers()[VARY], "Accept-Encoding");
        response
    }

    #[test]
    fn large_answers_are_gzipped() {
        let body = Bytes::from(vec![b'1'; 1000]);
        let response = applied(&body, 1000, true);
        assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
        let mut gunzipped = Vec::new();
        GzDecoder::new(&response.body()[..])
            .read_to_end(&mut gunzipped)
            .unwrap();
        assert_eq!(gunzipped, body);
    }

    #[test]
    fn other_answers_go_out_as_they_are() {
        let body = Bytes::from(vec![b'1'; 1000]);
        let incompressible = Bytes::from_static(b"{}");
        for (body, min_bytes, accepts_gzip) in [
            (&body, 1001, true),
            (&body, 0, false),
            (&incompressible, 0, true),
            (&Bytes::new(), 0, true),
        ] {
            let response = applied(body, min_bytes, accepts_gzip);
            assert_eq!(response.body(), body);
            assert!(!response.headers().contains_key(CONTENT_ENCODING));
        }
    }
}
