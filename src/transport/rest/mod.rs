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
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, ORIGIN};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;

use self::handlers::Answer;
use self::route::{Route, RouteError, is_api_path, route};
use self::status::http_status;
use super::limit::Gate;
use super::observe::{AnsweredBy, Observation};
use crate::error::Code;
use crate::inference::InferenceService;
use crate::monitoring::{Api, Metrics, Protocol, TENSORFLOW_PAGE_CONTENT_TYPE};

/// What the flags say about the REST port.
#[derive(Clone, Debug)]
pub struct RestOptions {
    /// `--rest_api_timeout_in_ms`: bounds a run; `None` for no bound.
    pub timeout: Option<Duration>,
    /// `--rest_api_enable_cors_support`.
    pub cors: bool,
    /// `--rest_api_num_threads`, where it is given: requests that are worked on at the same time.
    pub max_calls: Option<usize>,
    /// Where `--monitoring_config_file` puts TensorFlow Serving's metrics page.
    pub monitoring_path: Option<String>,
}

/// The REST API as a hyper service.
#[derive(Clone)]
pub struct RestService {
    inner: Arc<Inner>,
}

struct Inner {
    inference: InferenceService,
    metrics: Arc<Metrics>,
    gate: Gate,
    options: RestOptions,
}

impl RestService {
    /// The API over these calls.
    pub fn new(inference: InferenceService, metrics: Arc<Metrics>, options: RestOptions) -> Self {
        let inner = Inner {
            inference,
            metrics,
            gate: Gate::new(options.max_calls),
            options,
        };
        Self {
            inner: Arc::new(inner),
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
    /// Methods first, then the metrics page, then the API, in the order of `evhttp_server.cc`.
    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if !is_known_method(request.method()) {
            return html_page(StatusCode::NOT_IMPLEMENTED);
        }
        if self.options.monitoring_path.as_deref() == Some(request.uri().path()) {
            return self.monitoring_page(request.uri());
        }
        if !is_api_path(full_path(request.uri())) {
            return html_page(StatusCode::NOT_FOUND);
        }
        let mut response = if request.method() == Method::OPTIONS {
            self.preflight(&request)
        } else {
            json_response(self.answer(request).await)
        };
        if self.options.cors {
            add_cors_headers(&mut response);
        }
        response
    }

    /// Answers what is below `/v1/`, and counts it.
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let (parts, body) = request.into_parts();
        let route = route(parts.method.as_str(), full_path(&parts.uri));
        let (api, model) = match &route {
            Ok(route) => (handlers::api_of(route), route.model()),
            Err(_) => (Api::Other, ""),
        };
        let observation = Observation::start(&self.metrics, Protocol::Rest, api, model);
        let answer = match route {
            Ok(route) => match body::read(&parts.headers, body).await {
                Ok(body) => self.handle(route, body).await,
                Err(error) => Answer::error(&error),
            },
            Err(RouteError::Malformed(error)) => Answer::error(&error),
            Err(RouteError::VersionOverflow) => Answer::without_body(Code::InvalidArgument),
        };
        let answered_by = answer.answered_by.as_ref();
        let answered_by = answered_by.map(|(servable, signature)| AnsweredBy {
            servable,
            signature: signature.as_deref(),
        });
        observation.end_with_code(answer.code, answered_by);
        answer
    }

    async fn handle(&self, route: Route, body: Bytes) -> Answer {
        let timeout = self.options.timeout;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        match self.gate.enter(deadline).await {
            Ok(_permit) => handlers::handle(&self.inference, deadline, route, body).await,
            Err(error) => Answer::error(&error),
        }
    }

    /// `OPTIONS`: fine for an `Origin` with `http://` or `https://` in it; the body is empty
    /// either way.
    fn preflight(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let observation = Observation::start(&self.metrics, Protocol::Rest, Api::Other, "");
        let origin = request.headers().get(ORIGIN);
        let origin = origin.map_or(&b""[..], HeaderValue::as_bytes);
        let contains = |part: &[u8]| origin.windows(part.len()).any(|window| window == part);
        let code = if contains(b"http://") || contains(b"https://") {
            Code::Ok
        } else {
            Code::FailedPrecondition
        };
        observation.end_with_code(code, None);
        let content_type = "text/html; charset=ISO-8859-1";
        response(http_status(code), content_type, Bytes::new())
    }

    /// The page answers any method; a query is an error of its own (`prometheus_exporter.cc`).
    fn monitoring_page(&self, uri: &Uri) -> Response<Full<Bytes>> {
        let (path, full) = (uri.path(), full_path(uri));
        if full != path {
            let text = format!("Unexpected path: {full}. Should be {path}");
            return response(StatusCode::BAD_REQUEST, "text/plain", text.into());
        }
        let page = self.metrics.tensorflow_page();
        response(StatusCode::OK, TENSORFLOW_PAGE_CONTENT_TYPE, page.into())
    }
}

/// The methods that libevent was told of; others are "Not Implemented".
fn is_known_method(method: &Method) -> bool {
    [
        Method::GET,
        Method::POST,
        Method::OPTIONS,
        Method::HEAD,
        Method::PUT,
        Method::DELETE,
        Method::PATCH,
    ]
    .contains(method)
}

/// The path with its query, undecoded, as the original matches it.
fn full_path(uri: &Uri) -> &str {
    uri.path_and_query().map_or("", |path| path.as_str())
}

fn json_response(answer: Answer) -> Response<Full<Bytes>> {
    response(http_status(answer.code), "application/json", answer.body)
}

fn response(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

fn add_cors_headers(response: &mut Response<Full<Bytes>>) {
    for (name, value) in [
        ("access-control-allow-origin", "*"),
        ("access-control-allow-methods", "POST, GET"),
        ("access-control-allow-headers", "Content-Type"),
    ] {
        let name = HeaderName::from_static(name);
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
}

/// The page that answers what is outside the API.
fn html_page(status: StatusCode) -> Response<Full<Bytes>> {
    let reason = status.canonical_reason().unwrap_or_default();
    let page = format!(
        "<HTML><HEAD>\n<TITLE>{} {reason}</TITLE>\n</HEAD><BODY>\n<H1>{reason}</H1>\n\
         </BODY></HTML>\n",
        status.as_u16()
    );
    let mut response = response(status, "text/html", page.into());
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    response
}
