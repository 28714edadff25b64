//! The gRPC port: TensorFlow Serving's services over tonic.
//!
//! A handler decodes, calls and encodes. Not here: message formats (`wire`), semantics (`inference`),
//! sockets (`net::serve`).

pub mod channel_arguments;
mod health;
mod message;
mod messages;
mod model_service;
mod predict;
mod prediction_service;
mod profiler_service;
mod reply;
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
use tonic::service::{Routes, RoutesBuilder};
use tower::Service;

use self::message::Framed;
use self::messages::{Answers, Failure, ReceivedMessages};
use self::model_service::ModelHandlers;
use self::prediction_service::PredictionHandlers;
use self::profiler_service::ProfilerServiceImpl;
use self::services::{Declared, Messages};
use self::status::{refusal, to_status};
use crate::access::{Access, CallContext};
use base::error::{Code, ServingError};
use base::vocabulary::Api;
use net::blocking::off_worker;
use net::catch_panic::catch_panic;
use net::concurrency_limit::ConcurrencyLimit;
use net::limit::Admitted;
use net::receive::ReceiveOptions;
use proto::SERVED_DESCRIPTORS;
use proto::tensorflow::profiler_service_server::ProfilerServiceServer;
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
}

/// All services of the port, ready for [`serve`](net::serve::serve).
pub fn service(
    inference: InferenceService,
    metrics: &Arc<Metrics>,
    servables: Arc<dyn ServableLookup>,
    reloader: Arc<dyn ReloadConfig>,
    access: Access,
    options: GrpcOptions,
    stopped: watch::Receiver<bool>,
) -> GrpcService {
    let mut routes = RoutesBuilder::default();
    let prediction = PredictionHandlers::new(
        inference.clone(),
        options.serialize_as_tensor_content,
        ConcurrencyLimit::new(options.max_calls),
    );
    let models = ModelHandlers::new(inference, Arc::clone(metrics), reloader);
    let mut declared = Declared::default();
    declared.add(&services::PREDICTION);
    declared.add(&services::MODEL);
    if options.profiler_service {
        routes.add_service(ProfilerServiceServer::new(ProfilerServiceImpl));
        declared.add(&services::PROFILER);
    }
    if options.health_service {
        routes.add_service(health::server(servables, stopped));
        declared.add(&services::HEALTH);
    }
    add_reflection(&mut routes, &mut declared);
    let receive_small = receive_small(&options.receive);
    GrpcService(Arc::new(Services {
        prediction,
        models,
        routes: routes.routes(),
        declared,
        access,
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
    prediction: PredictionHandlers,
    models: ModelHandlers,
    /// All other services.
    routes: Routes,
    declared: Declared,
    access: Access,
    receive: ReceiveOptions,
    receive_small: ReceiveOptions,
}

impl Services {
    /// Enters a call, and answers it. A path that no declared service has is refused like any other call
    /// first; then the answer is TensorFlow Serving's for unknown methods and services.
    async fn answer<B>(&self, mut request: Request<B>) -> http::Response<tonic::body::Body>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let (call, messages) = self.declared.call(request.uri().path());
        let mut context = match self.access.enter(&mut request, &call).await {
            Ok(context) => context,
            Err(error) => return refusal(&error).into_http(),
        };
        let admitted = Arc::clone(context.admitted());
        let response = match messages {
            Some(Messages::Request) => self.answer_request(request, call.api, &mut context).await,
            Some(Messages::Small) => self.answer_small(request, &admitted).await,
            Some(Messages::SmallStream) => self.answer_stream(request, &admitted).await,
            None => Ok(Status::unimplemented("").into_http()),
        };
        let mut response = response.unwrap_or_else(Status::into_http);
        // Until the answer is written, it counts for as much memory as the request.
        response.extensions_mut().insert(admitted);
        response
    }

    /// Answers a call of the inference and model services.
    async fn answer_request<B>(
        &self,
        request: Request<B>,
        api: Api,
        context: &mut CallContext,
    ) -> Result<http::Response<tonic::body::Body>, Status>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let (parts, body) = request.into_parts();
        let message = match self.receive(&parts.headers, body, api, context).await {
            Ok(message) => message,
            Err(error) => {
                context.end(Err(&error));
                return Err(refusal(&error));
            }
        };
        // The handler counts the call. One whose message is malformed does not reach it.
        context.leave_uncounted();
        context.deadline = deadline(&parts.headers);
        let pieces = self.handle(api, context, message).await;
        let pieces = pieces.map_err(|error| to_status(&error))?;
        let bytes = pieces.iter().map(Bytes::len).sum();
        let held = context.admitted().hold_answer(bytes);
        held.map_err(|error| to_status(&error))?;
        Ok(reply::response(pieces))
    }

    /// Receives the message of a call. The memory to decode it counts as held, too.
    async fn receive<B>(
        &self,
        headers: &HeaderMap,
        body: B,
        api: Api,
        context: &CallContext,
    ) -> Result<Bytes, ServingError>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let aligned = match api {
            Api::Predict => first_values,
            _ => |_: &[u8]| None,
        };
        let admitted = context.admitted();
        let message = message::receive(headers, body, &self.receive, admitted, aligned).await?;
        admitted.grow(off_worker(message.len(), || match api {
            Api::Predict => decoded_bytes::of_predict(&message),
            Api::Classify | Api::Regress | Api::MultiInference => {
                decoded_bytes::of_examples(&message)
            }
            _ => decoded_bytes::of_message(&message),
        }))?;
        Ok(message)
    }

    /// Decodes a message, calls its handler, and encodes the response.
    async fn handle(
        &self,
        api: Api,
        context: &mut CallContext,
        message: Bytes,
    ) -> Result<reply::Pieces, ServingError> {
        let (prediction, models) = (&self.prediction, &self.models);
        match api {
            Api::Predict => prediction.predict(context, message).await,
            Api::Classify => {
                let request = message::decode(message)?;
                reply::encode(&prediction.classify(context, request).await?)
            }
            Api::Regress => {
                let request = message::decode(message)?;
                reply::encode(&prediction.regress(context, request).await?)
            }
            Api::MultiInference => {
                let request = message::decode(message)?;
                reply::encode(&prediction.multi_inference(context, request).await?)
            }
            Api::Metadata => {
                let request = message::decode(message)?;
                reply::encode(&prediction.get_model_metadata(context, request)?)
            }
            Api::Status => {
                let request = message::decode(message)?;
                reply::encode(&models.get_model_status(context, request)?)
            }
            Api::Reload => {
                let request = message::decode(message)?;
                reply::encode(
                    &models
                        .handle_reload_config_request(context, request)
                        .await?,
                )
            }
            // No path has it.
            Api::Other => Err(ServingError::new(Code::Unimplemented, "")),
        }
    }

    /// Answers a call of another service, with one small message.
    async fn answer_small<B>(
        &self,
        request: Request<B>,
        admitted: &Arc<Admitted>,
    ) -> Result<http::Response<tonic::body::Body>, Status>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let (parts, body) = request.into_parts();
        let (headers, receive) = (&parts.headers, &self.receive_small);
        let message = message::receive(headers, body, receive, admitted, |_| None).await;
        let message = message.map_err(|error| refusal(&error))?;
        let request = Request::from_parts(parts, Framed::new(message));
        let response = call(self.routes.clone(), request).await;
        Ok(match admitted.lasts() {
            true => lasting(response, admitted, Failure::default()),
            false => response,
        })
    }

    /// Answers a call of another service, with a stream of small messages.
    async fn answer_stream<B>(
        &self,
        request: Request<B>,
        admitted: &Arc<Admitted>,
    ) -> Result<http::Response<tonic::body::Body>, Status>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let (parts, body) = request.into_parts();
        let receive = &self.receive_small;
        let (max_bytes, stall) = (receive.max_bytes, receive.stall_timeout);
        let received = ReceivedMessages::receive(body, max_bytes, stall, Arc::clone(admitted));
        let failure = received.failure();
        let request = Request::from_parts(parts, received);
        let response = call(self.routes.clone(), request).await;
        Ok(lasting(response, admitted, failure))
    }
}

/// The response of a call that lasts: it waits for its client all the time.
fn lasting(
    response: http::Response<tonic::body::Body>,
    admitted: &Arc<Admitted>,
    failure: Failure,
) -> http::Response<tonic::body::Body> {
    let waits = admitted.waits();
    response.map(|body| tonic::body::Body::new(Answers::new(body, failure, waits)))
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
