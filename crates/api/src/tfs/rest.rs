//! The REST port: TensorFlow Serving's HTTP API over hyper.
//!
//! Not here: access (`access`), JSON (`wire::tfs::json`), semantics (`inference`), sockets (`net::serve`).

mod body;
mod compress;
mod cors;
mod handlers;
mod openapi;
mod options;
mod predict;
mod protobuf;
mod reply;
pub mod route;
mod uri;

use std::convert::Infallible;
use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::EXPECT;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::Body;
use http_body_util::Full;

use self::reply::Reply;
use self::route::missing_name;
use crate::access::{Access, CallContext, CallHead, CountsAs, Right};
use crate::admin::pages::Pages;
use crate::http_reply::{drop_body, error_response, html_page, is_read, response};
use base::error::{Code, Result, ServingError};
use base::vocabulary::{Api, Protocol};
use net::blocking::off_worker;
use net::catch_panic::catch_panic;
use net::concurrency_limit::ConcurrencyLimit;
use net::request_line::full_target;
use serving::inference::InferenceService;
use wire::tfs::{decoded_bytes, json};

pub use self::options::RestOptions;
pub use self::route::{Route, is_api_path, route};

/// The REST API as a hyper service.
#[derive(Clone)]
pub struct RestService {
    inner: Arc<Inner>,
}

struct Inner {
    inference: InferenceService,
    pages: Pages,
    access: Access,
    turns: ConcurrencyLimit,
    options: RestOptions,
}

impl RestService {
    /// The API for this inference service, together with the pages.
    pub fn new(
        inference: InferenceService,
        pages: Pages,
        access: Access,
        options: RestOptions,
    ) -> Self {
        let inner = Inner {
            inference,
            pages,
            access,
            turns: ConcurrencyLimit::new(options.max_calls),
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
            let response = answered.unwrap_or_else(|error| error_response(&error));
            Ok(response.map(Full::new))
        })
    }
}

/// The part of the port that a request is for.
enum Target {
    /// TensorFlow Serving's metrics page.
    Monitoring,
    /// A page for operators, or the description of the API.
    Page,
    /// `OPTIONS` for a path of the API.
    Preflight,
    /// The API. A path that it does not have is an error.
    Api(Result<Route>),
    /// A path that does not exist.
    Unknown,
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

    /// Checks the method, then enters the request, in the order of `evhttp_server.cc`.
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
        let target = self.target(&request);
        let allows_origins = !matches!(target, Target::Monitoring | Target::Unknown);
        let call = self.call_head(&target, request.uri().path());
        let mut response = match self.access.enter(&mut request, &call).await {
            Ok(mut context) => {
                let (parts, mut body) = request.into_parts();
                let mut response = self.answer(target, &parts, &mut body, &mut context).await;
                // Until the answer is written, it counts for as much memory as the request.
                response
                    .extensions_mut()
                    .insert(Arc::clone(context.admitted()));
                response
            }
            Err(error) => error_response(&error),
        };
        if self.options.cors && allows_origins {
            cors::add_headers(&mut response, self.access.is_enforced());
        }
        response
    }

    fn target<B>(&self, request: &Request<B>) -> Target {
        let (method, path) = (request.method(), request.uri().path());
        let full_target = full_target(request.uri(), request.extensions());
        if self.pages.is_monitoring(path) {
            Target::Monitoring
        } else if is_read(method) && (self.pages.is_own(path) || path == openapi::PATH) {
            Target::Page
        } else if !is_api_path(full_target) {
            Target::Unknown
        } else if method == Method::OPTIONS {
            Target::Preflight
        } else {
            Target::Api(match route(method.as_str(), full_target) {
                Ok(Route::Models) if !self.options.model_listing => Err(missing_name()),
                route => route,
            })
        }
    }

    /// A request for this target, for the door.
    fn call_head<'a>(&self, target: &'a Target, path: &str) -> CallHead<'a> {
        let (api, model, right) = match target {
            Target::Monitoring | Target::Page | Target::Unknown => {
                return self.pages.call_head(path, &self.access);
            }
            // Browsers send this before they send credentials.
            Target::Preflight if self.options.cors => (Api::Other, None, Right::Open),
            Target::Preflight | Target::Api(Err(_)) => (Api::Other, None, Right::Identity),
            // The list contains only the models that the caller is allowed to see.
            Target::Api(Ok(Route::Models)) => (Api::Status, None, Right::Permission),
            Target::Api(Ok(route)) => {
                let model = Some(route.model());
                (handlers::api_of(route), model, Right::Permission)
            }
        };
        CallHead {
            protocol: Protocol::Rest,
            api,
            model,
            right,
            counts_as: CountsAs::Request,
        }
    }

    async fn answer<B>(
        &self,
        target: Target,
        parts: &Parts,
        body: &mut B,
        context: &mut CallContext,
    ) -> Response<Bytes>
    where
        B: Body<Data = Bytes, Error: StdError + 'static> + Unpin,
    {
        let (method, uri) = (&parts.method, &parts.uri);
        match target {
            Target::Monitoring | Target::Page => self
                .pages
                .monitoring(uri)
                .or_else(|| self.pages.own(method, uri.path()))
                .unwrap_or_else(openapi::document),
            Target::Unknown => html_page(StatusCode::NOT_FOUND),
            Target::Preflight => {
                let code = cors::preflight_code(&parts.headers);
                context.end_with_code(code, None);
                cors::preflight(code)
            }
            Target::Api(route) => {
                let answer = match route {
                    Ok(route) => self.answer_call(route, &parts.headers, body, context).await,
                    Err(error) => Err(error),
                };
                match answer {
                    Ok(reply) => {
                        context.end_with_code(Code::Ok, reply.answered_by());
                        response(StatusCode::OK, reply.content_type, reply.body)
                    }
                    Err(error) => {
                        context.end(Err(&error));
                        error_response(&error)
                    }
                }
            }
        }
    }

    /// Reads the body of a call, within the limits, and handles it.
    async fn answer_call<B>(
        &self,
        route: Route,
        headers: &HeaderMap,
        body: &mut B,
        context: &mut CallContext,
    ) -> Result<Reply>
    where
        B: Body<Data = Bytes, Error: StdError + 'static> + Unpin,
    {
        let (options, admitted) = (&self.options, Arc::clone(context.admitted()));
        let body = body::read(headers, body, &options.receive, &admitted).await?;
        let is_protobuf = protobuf::is_protobuf(headers);
        admitted.grow(off_worker(body.len(), || match route {
            Route::Predict(_) if is_protobuf => decoded_bytes::of_predict(&body),
            Route::Predict(_) => decoded_bytes::of_json_predict(&body),
            _ => decoded_bytes::of_json_examples(&body),
        }))?;
        if let Some(max) = options.max_json_depth
            && !is_protobuf
            && off_worker(body.len(), || json::is_deeper_than(&body, max))
        {
            let text = format!("the body nests deeper than {max} (--rest_api_max_json_depth)");
            return Err(ServingError::new(Code::ResourceExhausted, text));
        }
        let timeout = options.timeout;
        context.deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let _turn = self.turns.enter(context.deadline).await?;
        let inference = &self.inference;
        let reply = handlers::handle(inference, options, context, &route, headers, body).await?;
        admitted.hold_answer(reply.body.len())?;
        Ok(reply)
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

#[cfg(test)]
mod tests;
