//! The REST port: TensorFlow Serving's HTTP API over hyper.
//!
//! Not here: JSON (`wire::json`), meaning (`inference`), sockets (`transport::serve`).

mod body;
mod handlers;
mod route;
mod status;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, ORIGIN};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;

use self::handlers::Answer;
use self::route::{RouteError, is_api_path, route};
use self::status::http_status;
use crate::inference::InferenceService;
use crate::wire::json;

/// What the flags say about the REST port.
#[derive(Clone, Copy, Debug)]
pub struct RestOptions {
    /// `--rest_api_timeout_in_ms`: bounds a run; `None` for no bound.
    pub timeout: Option<Duration>,
    /// `--rest_api_enable_cors_support`.
    pub cors: bool,
}

/// The REST API as a hyper service.
#[derive(Clone)]
pub struct RestService {
    inner: Arc<Inner>,
}

struct Inner {
    inference: InferenceService,
    options: RestOptions,
}

impl RestService {
    /// The API over these calls.
    pub fn new(inference: InferenceService, options: RestOptions) -> Self {
        Self {
            inner: Arc::new(Inner { inference, options }),
        }
    }
}

impl hyper::service::Service<Request<Incoming>> for RestService {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { Ok(inner.respond(request).await) })
    }
}

impl Inner {
    /// Methods first, then paths, in the order of `evhttp_server.cc` and `http_server.cc`.
    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let known = [
            Method::GET,
            Method::POST,
            Method::OPTIONS,
            Method::HEAD,
            Method::PUT,
            Method::DELETE,
            Method::PATCH,
        ];
        if !known.contains(request.method()) {
            return html_page(StatusCode::NOT_IMPLEMENTED);
        }
        let path = request
            .uri()
            .path_and_query()
            .map_or("", |path| path.as_str());
        if !is_api_path(path) {
            return html_page(StatusCode::NOT_FOUND);
        }
        let mut response = if request.method() == Method::OPTIONS {
            preflight(&request)
        } else {
            json_response(self.answer(request).await)
        };
        if self.options.cors {
            add_cors_headers(&mut response);
        }
        response
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
        let route = match route(parts.method.as_str(), path) {
            Ok(route) => route,
            // The status is the error's, the body stays empty: rest.md 1.8.
            Err(error @ RouteError::VersionOverflow) => {
                return Answer {
                    code: error.code(),
                    body: Bytes::new(),
                };
            }
            Err(RouteError::Malformed(error)) => return Answer::error(&error),
        };
        let body = match body::read(&parts.headers, body).await {
            Ok(body) => body,
            Err(error) => return Answer::error(&error),
        };
        handlers::handle(&self.inference, &self.options, route, body).await
    }
}

fn json_response(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = http_status(answer.code);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// `OPTIONS`: fine for an `Origin` with `http://` or `https://` in it; the body is empty either way.
fn preflight(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let origin = request
        .headers()
        .get(ORIGIN)
        .map_or(&b""[..], |origin| origin.as_bytes());
    let contains = |part: &[u8]| origin.windows(part.len()).any(|window| window == part);
    let mut response = Response::new(Full::default());
    if !(contains(b"http://") || contains(b"https://")) {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    let html = HeaderValue::from_static("text/html; charset=ISO-8859-1");
    response.headers_mut().insert(CONTENT_TYPE, html);
    response
}

fn add_cors_headers(response: &mut Response<Full<Bytes>>) {
    for (name, value) in [
        ("access-control-allow-origin", "*"),
        ("access-control-allow-methods", "POST, GET"),
        ("access-control-allow-headers", "Content-Type"),
    ] {
        let name = HeaderName::from_static(name);
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
}

/// The page that answers what is outside the API.
fn html_page(status: StatusCode) -> Response<Full<Bytes>> {
    let reason = status.canonical_reason().unwrap_or_default();
    let page = format!(
        "<HTML><HEAD>\n<TITLE>{} {reason}</TITLE>\n</HEAD><BODY>\n<H1>{reason}</H1>\n</BODY></HTML>\n",
        status.as_u16()
    );
    let mut response = Response::new(Full::from(page));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The error document of `error`.
fn error_body(error: &crate::error::ServingError) -> Bytes {
    json::error_body(&error.to_string()).into()
}
