//! The REST port: TensorFlow Serving's HTTP API over hyper.
//!
//! Not here: JSON (`wire::json`), meaning (`inference`), sockets (`transport::serve`).

mod admit;
mod body;
mod compress;
mod handlers;
mod isolate;
mod openapi;
mod predict;
mod protobuf;
mod route;
mod status;

use std::convert::Infallible;
use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, ORIGIN,
};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::Body;
use http_body_util::Full;

use self::handlers::Answer;
use self::isolate::isolated;
use self::route::{Route, is_api_path, route};
use self::status::http_status;
use super::auth::{Auth, Caller};
use super::blocking::off_worker;
use super::limit::Gate;
use super::observe::{AnsweredBy, Observation};
use crate::error::Code;
use crate::inference::InferenceService;
use crate::monitoring::{Api, Metrics, PAGE_CONTENT_TYPE, Protocol, TENSORFLOW_PAGE_CONTENT_TYPE};

/// libevent's socket timeout.
const STALL_TIMEOUT: Duration = Duration::from_secs(50);

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
    /// `--enable_serialization_as_tensor_content`, for Predict with protobuf bodies.
    pub serialize_as_tensor_content: bool,
    /// `--enable_model_listing`: whether `GET /v1/models` lists the models.
    pub model_listing: bool,
    /// Answers of this size are gzipped for clients that take it; `None` for none.
    pub compression_min_bytes: Option<usize>,
    /// A request's body that stalls for this long is given up.
    pub stall_timeout: Duration,
    /// Who may call.
    pub auth: Auth,
}

impl Default for RestOptions {
    /// The flags' defaults.
    fn default() -> Self {
        Self {
            timeout: Some(Duration::from_secs(30)),
            cors: false,
            max_calls: None,
            monitoring_path: None,
            serialize_as_tensor_content: false,
            model_listing: false,
            compression_min_bytes: None,
            stall_timeout: STALL_TIMEOUT,
            auth: Auth::default(),
        }
    }
}

/// Where Prometheus looks for metrics by default: this server's own are there.
const METRICS_PATH: &str = "/metrics";

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

impl<B> hyper::service::Service<Request<B>> for RestService
where
    B: Body<Data = Bytes, Error: Display> + Send + Unpin + 'static,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { Ok(inner.respond(request).await.map(Full::new)) })
    }
}

impl Inner {
    /// Answers a request, in the form that the client asked for.
    async fn respond<B>(&self, request: Request<B>) -> Response<Bytes>
    where
        B: Body<Data = Bytes, Error: Display> + Unpin,
    {
        let is_head = request.method() == Method::HEAD;
        let compression = self
            .options
            .compression_min_bytes
            .map(|min_bytes| (min_bytes, compress::accepts_gzip(request.headers())));
        let mut response = self.dispatch(request).await;
        if let Some((min_bytes, accepts_gzip)) = compression {
            compress::apply(&mut response, min_bytes, accepts_gzip);
        }
        if is_head {
            drop_body(&mut response);
        }
        response
    }

    /// Methods first, then the pages, then the API, in the order of `evhttp_server.cc`.
    async fn dispatch<B>(&self, mut request: Request<B>) -> Response<Bytes>
    where
        B: Body<Data = Bytes, Error: Display> + Unpin,
    {
        if !is_known_method(request.method()) {
            return html_page(StatusCode::NOT_IMPLEMENTED);
        }
        let caller = match self.admit(&mut request).await {
            Ok(caller) => caller,
            Err(refusal) => return refusal,
        };
        let path = request.uri().path();
        if self.options.monitoring_path.as_deref() == Some(path) {
            return self.monitoring_page(request.uri());
        }
        let mut response = if path == openapi::PATH && is_read(request.method()) {
            openapi::document()
        } else if path == METRICS_PATH && is_read(request.method()) {
            response(
                StatusCode::OK,
                PAGE_CONTENT_TYPE,
                self.metrics.page().into(),
            )
        } else if !is_api_path(full_path(request.uri())) {
            return html_page(StatusCode::NOT_FOUND);
        } else if request.method() == Method::OPTIONS {
            self.preflight(&request)
        } else {
            let answer = self.answer(request, &caller).await;
            response(http_status(answer.code), answer.content_type, answer.body)
        };
        if self.options.cors {
            add_cors_headers(&mut response, &self.options.auth);
        }
        response
    }

    /// Answers what is below `/v1/`, and counts it.
    async fn answer<B>(&self, request: Request<B>, caller: &Caller) -> Answer
    where
        B: Body<Data = Bytes, Error: Display> + Unpin,
    {
        let (parts, body) = request.into_parts();
        let route = route(parts.method.as_str(), full_path(&parts.uri));
        let (api, model) = match &route {
            Ok(route) => (handlers::api_of(route), route.model()),
            Err(_) => (Api::Other, ""),
        };
        let observation = Observation::start(&self.metrics, Protocol::Rest, api, model);
        let allowed = route.and_then(|route| {
            handlers::check_allowed(&route, caller)?;
            Ok(route)
        });
        let answer = match allowed {
            Ok(route) => isolated(self.handle(route, &parts.headers, body, caller)).await,
            Err(error) => Err(error),
        };
        let answer = answer.unwrap_or_else(|error| Answer::error(&error));
        let answered_by = answer.answered_by.as_ref();
        let answered_by = answered_by.map(|(servable, signature)| AnsweredBy {
            servable,
            signature: signature.as_deref(),
        });
        observation.end_with_code(answer.code, answered_by);
        answer
    }

    async fn handle<B>(&self, route: Route, headers: &HeaderMap, body: B, caller: &Caller) -> Answer
    where
        B: Body<Data = Bytes, Error: Display> + Unpin,
    {
        let body = match body::read(headers, body, self.options.stall_timeout).await {
            Ok(body) => body,
            Err(error) => return Answer::error(&error),
        };
        let timeout = self.options.timeout;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        match self.gate.enter(deadline).await {
            Ok(_permit) => {
                let (inference, options) = (&self.inference, &self.options);
                handlers::handle(inference, options, deadline, route, headers, body, caller).await
            }
            Err(error) => Answer::error(&error),
        }
    }

    /// `OPTIONS`: fine for an `Origin` with `http://` or `https://` in it; the body is empty
    /// either way.
    fn preflight<B>(&self, request: &Request<B>) -> Response<Bytes> {
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
    fn monitoring_page(&self, uri: &Uri) -> Response<Bytes> {
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

/// The methods that pages of our own answer.
fn is_read(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// The path with its query, undecoded, as the original matches it.
fn full_path(uri: &Uri) -> &str {
    uri.path_and_query().map_or("", |path| path.as_str())
}

fn response(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

fn add_cors_headers(response: &mut Response<Bytes>, auth: &Auth) {
    let allowed_headers = match auth.is_enforced() {
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

/// The page that answers what is outside the API.
fn html_page(status: StatusCode) -> Response<Bytes> {
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

/// Leaves the headers as they are, `Content-Length` included.
fn drop_body(response: &mut Response<Bytes>) {
    let body = std::mem::take(response.body_mut());
    let length = HeaderValue::from(body.len());
    response.headers_mut().insert(CONTENT_LENGTH, length);
}

#[cfg(test)]
mod tests;
