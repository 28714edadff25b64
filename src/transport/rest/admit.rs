//! Who may ask the REST port for anything: the check before a request is looked at.
//!
//! Not here: the rules (`transport::auth`), what a caller may do with a model (`handlers`).

use bytes::Bytes;
use http::header::{HeaderValue, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode};

use super::handlers::Answer;
use super::route::is_api_path;
use super::{Inner, METRICS_PATH, full_path, http_status, response};
use crate::monitoring::{Api, Protocol};
use crate::transport::auth::Caller;
use crate::transport::observe::Observation;
use crate::transport::tls::PeerNames;

/// What a client can do about a 401 (RFC 9110, section 11.6.1).
const CHALLENGES: [&str; 2] = [
    "Bearer realm=\"onnx_model_server\"",
    "Basic realm=\"onnx_model_server\", charset=\"UTF-8\"",
];

/// Load balancers have no credentials.
const OPEN_PATHS: [&str; 2] = ["/healthz", "/readyz"];

impl Inner {
    /// Finds out who asks, before the body is read. What is open is for anybody.
    ///
    /// # Errors
    ///
    /// The response to refuse with.
    pub(super) async fn admit<B>(
        &self,
        request: &mut Request<B>,
    ) -> Result<Caller, Response<Bytes>> {
        if self.is_open(request) {
            return Ok(Caller::Anybody);
        }
        let auth = &self.options.auth;
        let peer = request.extensions().get::<PeerNames>().cloned();
        let peer = peer.unwrap_or_default();
        let caller = auth.authenticate(request.headers_mut(), &peer).await;
        caller.map_err(|error| {
            Observation::start(&self.metrics, Protocol::Rest, Api::Other, "").end(Err(&error));
            let answer = Answer::error(&error);
            let mut refusal = response(http_status(answer.code), answer.content_type, answer.body);
            if refusal.status() == StatusCode::UNAUTHORIZED {
                for challenge in CHALLENGES {
                    let challenge = HeaderValue::from_static(challenge);
                    refusal.headers_mut().append(WWW_AUTHENTICATE, challenge);
                }
            }
            refusal
        })
    }

    /// Whether anybody may ask for it, with credentials or without.
    fn is_open<B>(&self, request: &Request<B>) -> bool {
        let path = request.uri().path();
        if path == METRICS_PATH || self.options.monitoring_path.as_deref() == Some(path) {
            return !self.options.auth.guards_metrics();
        }
        // A browser asks so before it sends credentials.
        let is_preflight = request.method() == Method::OPTIONS && self.options.cors;
        OPEN_PATHS.contains(&path) || is_preflight && is_api_path(full_path(request.uri()))
    }
}
