//! The REST port: TensorFlow Serving's HTTP API over hyper.
//!
//! Not here: JSON (`wire::tfs::json`), semantics (`inference`), sockets (`net::serve`).

mod body;
mod compress;
mod handlers;
mod openapi;
mod predict;
mod protobuf;
pub mod route;
mod status;
mod uri;

use std::convert::Infallible;
use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{EXPECT, HeaderName, HeaderValue, ORIGIN, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body;
use http_body_util::Full;

use self::handlers::{Call, HttpReply};

use self::status::http_status;
use crate::access::admit::admit;
use crate::access::auth::{Auth, Caller};
use crate::access::request_metrics::{AnsweredBy, Observation};
use crate::admin::pages::{Pages, drop_body, html_page, is_read, response};
use base::error::{Code, Result, ServingError};
use base::vocabulary::{Api, Protocol};
use net::blocking::off_worker;
use net::catch_panic::catch_panic;
use net::concurrency_limit::ConcurrencyLimit;
use net::head::Head;
use net::limit::{Admitted, ExemptCall, LoadShed};
use net::receive::ReceiveOptions;
use net::request_line::full_target;
use serving::inference::InferenceService;
use wire::tfs::{decoded_bytes, json};

pub use self::handlers::model_list;
pub use self::route::{Route, is_api_path, route};

/// TensorFlow Serving's limit on a gunzipped body.
const MAX_DECOMPRESSED_BYTES: usize = 100 << 20;

/// The REST port's flags.
#[derive(Clone, Debug)]
pub struct RestOptions {
    /// `--rest_api_timeout_in_ms`: limits a run; `None` for no limit.
    pub timeout: Option<Duration>,
    /// `--rest_api_enable_cors_support`.
    pub cors: bool,
    /// `--rest_api_num_threads`, if it is given: the largest number of requests that run at the same time.
    pub max_calls: Option<usize>,
    /// `--enable_serialization_as_tensor_content`, for Predict with protobuf bodies.
    pub serialize_as_tensor_content: bool,
    /// `--enable_model_listing`: whether `GET /v1/models` lists the models.
    pub model_listing: bool,
    /// Answers of at least this size are gzipped for clients that accept gzip; `None` disables it.
    pub compression_min_bytes: Option<usize>,
    /// Limits on a request's body.
    pub receive: ReceiveOptions,
    /// `--rest_api_max_json_depth`: the maximum nesting depth of a body; `None` for unlimited.
    pub max_json_depth: Option<usize>,
    /// Access control.
    pub auth: Auth,
}

impl Default for RestOptions {
    /// The flags' defaults.
    fn default() -> Self {
        Self {
            timeout: Some(Duration::from_secs(30)),
            cors: false,
            max_calls: None,
            serialize_as_tensor_content: false,
            model_listing: false,
            compression_min_bytes: None,
            receive: ReceiveOptions::new(MAX_DECOMPRESSED_BYTES),
            max_json_depth: None,
            auth: Auth::default(),
        }
    }
}

/// The REST API as a hyper service.
#[derive(Clone)]
pub struct RestService {
    inner: Arc<Inner>,
}

struct Inner {
    inference: InferenceService,
    pages: Pages,
    admission: LoadShed,
    gate: ConcurrencyLimit,
    options: RestOptions,
}

impl RestService {
    /// The API for this inference service, together with the pages.
    pub fn new(
        inference: InferenceService,
        pages: Pages,
        admission: LoadShed,
        options: RestOptions,
    ) -> Self {
        let inner = Inner {
            inference,
            pages,
            admission,
            gate: ConcurrencyLimit::new(options.max_calls),
            options,
        };
        Self {
            inner: Arc::new(inner),
        }
    }
}

impl<B> hyper::service::Service<Request<B>> for RestService
where
    B: Body<Data = Bytes, Error: StdError + 'static> + Send + Unpin + 'static,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let answered = catch_panic(inner.respond(request)).await;
            let response =
                answered.unwrap_or_else(|error| HttpReply::error(&error).into_response());
            Ok(response.map(Full::new))
        })
    }
}

/// The error response.
pub fn refusal(error: &ServingError) -> Response<Bytes> {
    HttpReply::error(error).into_response()
}

impl HttpReply {
    fn into_response(self) -> Response<Bytes> {
        let mut response = response(http_status(self.code), self.content_type, self.body);
        if self.may_pass_later {
            let seconds = HeaderValue::from_static("1");
            response.headers_mut().insert(RETRY_AFTER, seconds);
        }
        response
    }
}

impl Inner {
    /// Answers a request, gzipped if the client accepts that.
    async fn respond<B>(&self, request: Request<B>) -> Response<Bytes>
    where
        B: Body<Data = Bytes, Error: StdError + 'static> + Unpin,
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

    /// Checks the method, then the pages, then the API, in the order of `evhttp_server.cc`.
    async fn dispatch<B>(&self, mut request: Request<B>) -> Response<Bytes>
    where
        B: Body<Data = Bytes, Error: StdError + 'static> + Unpin,
    {
        if !is_known_method(request.method()) {
            return html_page(StatusCode::NOT_IMPLEMENTED);
        }
        if expects_the_unknown(&request) {
            return html_page(StatusCode::EXPECTATION_FAILED);
        }
        if !uri::is_conforming(full_target(request.uri(), request.extensions())) {
            return html_page(StatusCode::BAD_REQUEST);
        }
        let caller = match self.admit(&mut request).await {
            Ok(caller) => caller,
            Err(refusal) => return refusal,
        };
        let path = request.uri().path();
        let is_page = self.pages.is_at(request.method(), path)
            || (path == openapi::PATH && is_read(request.method()));
        let mut response = if is_page {
            let head = Head::of(&request);
            let admitted = match self.admission.enter(Some(ExemptCall::Probe), &head).await {
                Ok(admitted) => Arc::new(admitted),
                Err(error) => return refusal(&error),
            };
            if let Some(mut page) = self.pages.monitoring(request.uri()) {
                page.extensions_mut().insert(admitted);
                return page;
            }
            let page = self.pages.own(request.method(), path);
            let mut page = page.unwrap_or_else(openapi::document);
            page.extensions_mut().insert(admitted);
            page
        } else if !is_api_path(full_target(request.uri(), request.extensions())) {
            return html_page(StatusCode::NOT_FOUND);
        } else if request.method() == Method::OPTIONS {
            self.preflight(&request)
        } else {
            self.answer(request, &caller).await
        };
        if self.options.cors {
            add_cors_headers(&mut response, &self.options.auth);
        }
        response
    }

    /// Identifies the caller.
    ///
    /// # Errors
    ///
    /// The response that refuses the request.
    async fn admit<B>(&self, request: &mut Request<B>) -> Result<Caller, Response<Bytes>> {
        let is_api = is_api_path(full_target(request.uri(), request.extensions()));
        let is_metrics = self.pages.is_metrics(request.uri().path());
        // Browsers send this before they send credentials.
        if self.options.cors && request.method() == Method::OPTIONS && is_api && !is_metrics {
            return Ok(Caller::Anybody);
        }
        let mut admitted = admit(&self.options.auth, &self.pages, request).await;
        if let Err(refusal) = &mut admitted
            && self.options.cors
        {
            add_cors_headers(refusal, &self.options.auth);
        }
        admitted
    }

    /// Answers requests below `/v1/`, and counts them.
    async fn answer<B>(&self, request: Request<B>, caller: &Caller) -> Response<Bytes>
    where
        B: Body<Data = Bytes, Error: StdError + 'static> + Unpin,
    {
        let head = Head::of(&request);
        let (parts, body) = request.into_parts();
        let target = full_target(&parts.uri, &parts.extensions);
        let route = route(parts.method.as_str(), target);
        let (api, model) = match &route {
            Ok(route) => (handlers::api_of(route), route.model()),
            Err(_) => (Api::Other, ""),
        };
        let mut observation = Observation::start(&self.pages.metrics, Protocol::Rest, api, model);
        let allowed = route.and_then(|route| {
            handlers::check_allowed(&route, caller)?;
            Ok(route)
        });
        let (answer, admitted) = match (allowed, self.admission.enter(None, &head).await) {
            (Ok(route), Ok(admitted)) => {
                let admitted = Arc::new(admitted);
                let call = Call {
                    headers: &parts.headers,
                    caller,
                };
                let answer = self
                    .handle(route, call, body, &admitted, &mut observation)
                    .await;
                let answer = answer.and_then(|answer| {
                    admitted.hold_answer(answer.body.len())?;
                    Ok(answer)
                });
                (
                    answer.unwrap_or_else(|error| HttpReply::error(&error)),
                    Some(admitted),
                )
            }
            (Err(error), _) | (_, Err(error)) => (HttpReply::error(&error), None),
        };
        let answered_by = answer.answered_by.as_ref();
        let answered_by = answered_by.map(|(servable, signature)| AnsweredBy {
            servable,
            signature: signature.as_deref(),
        });
        observation.end_with_code(answer.code, answered_by);
        let mut response = answer.into_response();
        if let Some(admitted) = admitted {
            // Until the answer is written, it counts for as much memory as the request.
            response.extensions_mut().insert(admitted);
        }
        response
    }

    async fn handle<B>(
        &self,
        route: Route,
        call: Call<'_>,
        body: B,
        admitted: &Arc<Admitted>,
        observation: &mut Observation,
    ) -> Result<HttpReply>
    where
        B: Body<Data = Bytes, Error: StdError + 'static> + Unpin,
    {
        let body = body::read(call.headers, body, &self.options.receive, admitted).await?;
        let is_protobuf = protobuf::is_protobuf(call.headers);
        admitted.grow(off_worker(body.len(), || match route {
            Route::Predict(_) if is_protobuf => decoded_bytes::of_predict(&body),
            Route::Predict(_) => decoded_bytes::of_json_predict(&body),
            _ => decoded_bytes::of_json_examples(&body),
        }))?;
        if let Some(max) = self.options.max_json_depth
            && !is_protobuf
            && off_worker(body.len(), || json::is_deeper_than(&body, max))
        {
            let text = format!("the body nests deeper than {max} (--rest_api_max_json_depth)");
            return Err(ServingError::new(Code::ResourceExhausted, text));
        }
        let timeout = self.options.timeout;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let _permit = self.gate.enter(deadline).await?;
        let (inference, options) = (&self.inference, &self.options);
        let answer = handlers::handle(inference, options, deadline, route, call, body, observation);
        Ok(answer.await)
    }

    /// `OPTIONS`: succeeds for an `Origin` that contains `http://` or `https://`; the body is empty in
    /// either case.
    fn preflight<B>(&self, request: &Request<B>) -> Response<Bytes> {
        let observation = Observation::start(&self.pages.metrics, Protocol::Rest, Api::Other, "");
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
}

/// The methods that TensorFlow Serving enables in libevent; others are "Not Implemented".
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

/// Whether libevent refuses the request's `Expect`, which it checks before it reads a body
/// (`evhttp_get_body`).
fn expects_the_unknown<B: Body>(request: &Request<B>) -> bool {
    let has_body = [Method::POST, Method::PUT, Method::PATCH].contains(request.method())
        && !request.body().is_end_stream();
    let expected = request.headers().get(EXPECT);
    has_body
        && request.version() == Version::HTTP_11
        && expected.is_some_and(|it| !it.as_bytes().eq_ignore_ascii_case(b"100-continue"))
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

#[cfg(test)]
mod tests;
