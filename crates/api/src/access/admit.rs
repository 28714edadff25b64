//! Access control of the HTTP ports, applied before a request is handled.
//!
//! Not here: the rules (`auth`), permissions for models (`rest`), gRPC (`grpc`).

use bytes::Bytes;
use http::header::{HeaderValue, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};

use super::auth::{Auth, Caller};
use super::request_metrics::Observation;
use crate::admin::pages::Pages;
use crate::tfs::rest::refusal;
use base::vocabulary::{Api, Protocol};
use net::peer::Peer;

/// The authentication schemes that a 401 response offers (RFC 9110, section 11.6.1).
const CHALLENGES: [&str; 2] = [
    "Bearer realm=\"onnx_model_server\"",
    "Basic realm=\"onnx_model_server\", charset=\"UTF-8\"",
];

/// Identifies the caller before the body is read. Open pages need no credentials.
///
/// # Errors
///
/// The response that refuses the request.
pub async fn admit<B>(
    auth: &Auth,
    pages: &Pages,
    request: &mut Request<B>,
) -> Result<Caller, Response<Bytes>> {
    let path = request.uri().path();
    let is_open = match pages.is_metrics(path) {
        true => !auth.guards_metrics(),
        false => pages.is_health(path),
    };
    if is_open {
        return Ok(Caller::Anybody);
    }
    let peer = request.extensions().get::<Peer>().cloned();
    let peer = peer.unwrap_or_default();
    let caller = auth.authenticate(request.headers_mut(), &peer).await;
    caller.map_err(|error| {
        Observation::start(&pages.metrics, Protocol::Rest, Api::Other, "").end(Err(&error));
        let mut refusal = refusal(&error);
        if refusal.status() == StatusCode::UNAUTHORIZED {
            for challenge in CHALLENGES {
                let challenge = HeaderValue::from_static(challenge);
                refusal.headers_mut().append(WWW_AUTHENTICATE, challenge);
            }
        }
        refusal
    })
}
