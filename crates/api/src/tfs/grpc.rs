//! The gRPC port: TensorFlow Serving's services over tonic.
//!
//! A handler decodes, calls and encodes. Not here: message formats (`wire`), semantics (`inference`),
//! sockets (`net::serve`).

mod authorized;
pub mod channel_arguments;
mod health;
mod message;
mod messages;
mod model_service;
mod predict;
mod prediction_service;
mod profiler_service;
mod services;
mod status;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body::Body;
use tokio::sync::watch;
use tonic::Status;
use tonic::metadata::MetadataValue;
use tonic::service::{Routes, RoutesBuilder};
use tower::Service;

use self::authorized::{Authorized, Guard};
use self::message::Framed;
use self::messages::{Answers, Failure, Messages};
use self::prediction_service::PredictionServiceImpl;
use self::services::{Access, Declared, Takes};
use self::status::to_status;
use crate::access::auth::Auth;
use crate::access::request_metrics::Observation;
use base::error::{Code, ServingError};
use base::vocabulary::{Api, Protocol};
use net::blocking::off_worker;
use net::catch_panic::catch_panic;
use net::concurrency_limit::ConcurrencyLimit;
use net::head::Head;
use net::limit::{Admitted, ExemptCall, LoadShed};
use net::receive::ReceiveOptions;
use proto::SERVED_DESCRIPTORS;
use proto::tensorflow::profiler_service_server::ProfilerServiceServer;
use proto::tensorflow::serving::model_service_server::ModelServiceServer;
use proto::tensorflow::serving::prediction_service_server::PredictionServiceServer;
use serving::inference::InferenceService;
use serving::monitoring::Metrics;
use serving::servable::ServableLookup;
use wire::tfs::decoded_bytes;
use wire::tfs::predict::first_values;

pub use self::model_service::ReloadConfig;

/// The largest message to services other than TensorFlow Serving's. It contains a name.
const MAX_SMALL_BYTES: usize = 16 << 10;

/// The gRPC port's flags.
#[derive(Clone, Debug)]
pub struct GrpcOptions {
    /// `--enable_serialization_as_tensor_content`.
    pub serialize_as_tensor_content: bool,
    /// `--enable_grpc_healthcheck_service`.
    pub health_service: bool,
    /// `--enable_profiler`.
    pub profiler_service: bool,
    /// `--grpc_max_threads`, if it is given: the largest number of calls that run at the same time.
    pub max_calls: Option<usize>,
    /// Limits on messages.
    pub receive: ReceiveOptions,
    /// Access control.
    pub auth: Auth,
}

/// All services of the port, ready for [`serve`](net::serve::serve).
pub fn service(
    inference: InferenceService,
    metrics: &Arc<Metrics>,
    servables: Arc<dyn ServableLookup>,
    reloader: Arc<dyn ReloadConfig>,
    admission: LoadShed,
    options: GrpcOptions,
    stopped: watch::Receiver<bool>,
) -> GrpcService {
    let mut routes = RoutesBuilder::default();
    macro_rules! configured {
        ($server:expr) => {
            $server
                // `message` has limited them.
                .max_decoding_message_size(usize::MAX)
                .max_encoding_message_size(usize::MAX)
        };
    }
    let predict = Arc::new(PredictionServiceImpl::new(
        inference.clone(),
        Arc::clone(metrics),
        options.serialize_as_tensor_content,
        ConcurrencyLimit::new(options.max_calls),
    ));
    let model_service =
        model_service::ModelServiceImpl::new(inference.clone(), Arc::clone(metrics), reloader);
    let guard = Guard::new(options.auth, inference, Arc::clone(metrics));
    let prediction = configured!(PredictionServiceServer::new(
        guard.authorize(Arc::clone(&predict))
    ));
    let model_service = ModelServiceServer::new(guard.authorize(Arc::new(model_service)));
    routes.add_service(configured!(model_service));
    let mut declared = Declared::default();
    declared.add(&services::PREDICTION);
    declared.add(&services::MODEL);
    if options.profiler_service {
        let profiler = ProfilerServiceServer::new(profiler_service::ProfilerServiceImpl);
        routes.add_service(configured!(profiler));
        declared.add(&services::PROFILER);
    }
    if options.health_service {
        routes.add_service(health::server(servables, stopped));
        declared.add(&services::HEALTH);
    }
    add_reflection(&mut routes, &mut declared);
    let receive_small = receive_small(&options.receive);
    GrpcService(Arc::new(Services {
        predict,
        prediction,
        routes: routes.routes(),
        declared,
        guard,
        metrics: Arc::clone(metrics),
        admission,
        receive: options.receive,
        receive_small,
    }))
}

/// The limits on messages that are small.
fn receive_small(receive: &ReceiveOptions) -> ReceiveOptions {
    ReceiveOptions {
        max_bytes: receive.max_bytes.min(MAX_SMALL_BYTES),
        max_decompressed_bytes: MAX_SMALL_BYTES,
        ..*receive
    }
}

/// Describes the declared services and their messages, in both versions of the reflection protocol.
fn add_reflection(routes: &mut RoutesBuilder, declared: &mut Declared) {
    let builder = || {
        let mut builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(SERVED_DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        for service in declared.names() {
            builder = builder.with_service_name(service);
        }
        builder
    };
    match (builder().build_v1(), builder().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => {
            routes.add_service(v1);
            routes.add_service(v1alpha);
            services::REFLECTION.iter().for_each(|it| declared.add(it));
        }
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "server reflection is not available");
        }
    }
}

/// The port's services as a hyper service.
#[derive(Clone)]
pub struct GrpcService(Arc<Services>);

struct Services {
    /// `Predict` itself.
    predict: Arc<PredictionServiceImpl>,
    /// Bypasses the router, which is too slow for small requests.
    prediction: PredictionServiceServer<Authorized<PredictionServiceImpl>>,
    /// All others.
    routes: Routes,
    declared: Declared,
    guard: Guard,
    metrics: Arc<Metrics>,
    admission: LoadShed,
    receive: ReceiveOptions,
    receive_small: ReceiveOptions,
}

/// The kind of a call, as far as its path tells.
#[derive(Clone, Copy)]
enum Call {
    /// A call of the inference and model services.
    Request(Api),
    /// A call of another service, with one small message.
    Small(Option<ExemptCall>),
    SmallStream,
}

impl Services {
    async fn answer<B>(&self, mut request: Request<B>) -> http::Response<tonic::body::Body>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let (access, call) = self.look_up(request.uri().path());
        if let Err(refusal) = self.guard.admit(&mut request, access).await {
            return refusal.into_http();
        }
        match call {
            Some(Call::Request(api)) => self.answer_request(request, api).await,
            Some(Call::Small(exempt)) => self.answer_small(request, exempt).await,
            Some(Call::SmallStream) => self.answer_stream(request).await,
            // As TensorFlow Serving answers unknown methods and services.
            None => Status::unimplemented("").into_http(),
        }
    }

    /// The access rule of a path and the kind of its calls; `None` if the path does not exist.
    fn look_up(&self, path: &str) -> (Access, Option<Call>) {
        let Some((service, method)) = self.declared.find(path) else {
            return (Access::Known, None);
        };
        let call = match service.takes {
            Takes::Request => api_of(path).map(Call::Request),
            Takes::SmallRequest => Some(Call::Small(None)),
            Takes::Probe if method == "Watch" => Some(Call::Small(Some(ExemptCall::Lasting))),
            Takes::Probe => Some(Call::Small(Some(ExemptCall::Probe))),
            Takes::SmallStream => Some(Call::SmallStream),
        };
        (service.access, call)
    }

    async fn answer_request<B>(
        &self,
        request: Request<B>,
        api: Api,
    ) -> http::Response<tonic::body::Body>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let head = Head::of(&request);
        let (parts, body) = request.into_parts();
        // Dropped if the client leaves before its message has arrived, which counts the call.
        let observation = Observation::start(&self.metrics, Protocol::Grpc, api, "");
        let received = async {
            let admitted = Arc::new(self.admission.enter(None, &head).await?);
            let aligned = match api {
                Api::Predict => first_values,
                _ => |_: &[u8]| None,
            };
            let (headers, receive) = (&parts.headers, &self.receive);
            let message = message::receive(headers, body, receive, &admitted, aligned).await?;
            admitted.grow(off_worker(message.len(), || match api {
                Api::Predict => decoded_bytes::of_predict(&message),
                Api::Classify | Api::Regress | Api::MultiInference => {
                    decoded_bytes::of_examples(&message)
                }
                _ => decoded_bytes::of_message(&message),
            }))?;
            Ok((message, admitted))
        };
        match received.await {
            Ok((message, admitted)) => {
                observation.leave_to_handler();
                let framed = |parts| Request::from_parts(parts, Framed::new(message.clone()));
                let response = match api {
                    Api::Predict => {
                        let answer =
                            predict::answer(&self.predict, &self.guard, &parts, message, &admitted);
                        answer.await
                    }
                    Api::Status | Api::Reload => call(self.routes.clone(), framed(parts)).await,
                    _ => call(self.prediction.clone(), framed(parts)).await,
                };
                // Until the answer is written, it counts for as much memory as the request.
                held(response, admitted)
            }
            Err(error) => {
                observation.end(Err(&error));
                refusal(&error).into_http()
            }
        }
    }

    /// Answers a call of another service; `exempt` is its kind if it does not count as a request.
    async fn answer_small<B>(
        &self,
        request: Request<B>,
        exempt: Option<ExemptCall>,
    ) -> http::Response<tonic::body::Body>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let head = Head::of(&request);
        let (parts, body) = request.into_parts();
        let received = async {
            let admitted = Arc::new(self.admission.enter(exempt, &head).await?);
            let (headers, receive) = (&parts.headers, &self.receive_small);
            let message = message::receive(headers, body, receive, &admitted, |_| None).await?;
            Ok((message, admitted))
        };
        match received.await {
            Ok((message, admitted)) => {
                let request = Request::from_parts(parts, Framed::new(message));
                let response = call(self.routes.clone(), request).await;
                match admitted.lasts() {
                    true => lasting(response, admitted, Failure::default()),
                    false => held(response, admitted),
                }
            }
            Err(error) => refusal(&error).into_http(),
        }
    }

    async fn answer_stream<B>(&self, request: Request<B>) -> http::Response<tonic::body::Body>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let head = Head::of(&request);
        let entered = self
            .admission
            .enter(Some(ExemptCall::Reflection), &head)
            .await;
        let (parts, body) = request.into_parts();
        let admitted = match entered {
            Ok(admitted) => Arc::new(admitted),
            Err(error) => return refusal(&error).into_http(),
        };
        let (max_bytes, stall) = (
            self.receive_small.max_bytes,
            self.receive_small.stall_timeout,
        );
        let messages = Messages::receive(body, max_bytes, stall, Arc::clone(&admitted));
        let failure = messages.failure();
        let request = Request::from_parts(parts, messages);
        let response = call(self.routes.clone(), request).await;
        lasting(response, admitted, failure)
    }
}

/// Holds the place until the response is written.
fn held(
    mut response: http::Response<tonic::body::Body>,
    admitted: Arc<Admitted>,
) -> http::Response<tonic::body::Body> {
    response.extensions_mut().insert(admitted);
    response
}

/// The same for a call that lasts: it waits for its client all the time.
fn lasting(
    response: http::Response<tonic::body::Body>,
    admitted: Arc<Admitted>,
    failure: Failure,
) -> http::Response<tonic::body::Body> {
    let waits = admitted.waits();
    let response = response.map(|body| tonic::body::Body::new(Answers::new(body, failure, waits)));
    held(response, admitted)
}

/// The status of a message that could not be received.
fn refusal(error: &ServingError) -> Status {
    let mut status = to_status(error);
    if error.code() == Code::Unimplemented {
        let accepted = MetadataValue::from_static(message::ACCEPTED_ENCODINGS);
        status
            .metadata_mut()
            .insert("grpc-accept-encoding", accepted);
    }
    status
}

async fn call<S, B>(mut service: S, request: Request<B>) -> http::Response<tonic::body::Body>
where
    S: Service<Request<B>, Response = http::Response<tonic::body::Body>, Error = Infallible>,
{
    // These are always ready; the wait only keeps tower's contract.
    let Ok(()) = poll_fn(|cx| service.poll_ready(cx)).await;
    let Ok(response) = service.call(request).await;
    response
}

impl<B> hyper::service::Service<Request<B>> for GrpcService
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let services = Arc::clone(&self.0);
        // A panic in one call must not end the connection and its other calls.
        Box::pin(async move {
            let answered = catch_panic(services.answer(request)).await;
            Ok(answered.unwrap_or_else(|error| to_status(&error).into_http()))
        })
    }
}

/// The API of a call of the inference and model services, for metrics; `None` for the other services.
fn api_of(path: &str) -> Option<Api> {
    let (service, method) = path.strip_prefix("/tensorflow.serving.")?.split_once('/')?;
    let api = match (service, method) {
        ("PredictionService", "Predict") => Api::Predict,
        ("PredictionService", "Classify") => Api::Classify,
        ("PredictionService", "Regress") => Api::Regress,
        ("PredictionService", "MultiInference") => Api::MultiInference,
        ("PredictionService", "GetModelMetadata") => Api::Metadata,
        ("ModelService", "GetModelStatus") => Api::Status,
        ("ModelService", "HandleReloadConfigRequest") => Api::Reload,
        _ => return None,
    };
    Some(api)
}

/// The caller's deadline, from the header `grpc-timeout`; `None` if it is absent or malformed, which gRPC
/// ignores.
fn deadline(headers: &HeaderMap) -> Option<Instant> {
    let timeout = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = timeout.split_at_checked(timeout.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    let timeout = match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    };
    Instant::now().checked_add(timeout)
}

#[cfg(test)]
mod tests;
