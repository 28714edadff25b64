//! The one door, seen from the ports: the callers that each call of both protocols accepts and refuses.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::service::Service;
use tokio::sync::watch;

use crate::access::Access;
use crate::access::auth::{Auth, hash_token};
use crate::admin::health::{ModelsReport, Readiness};
use crate::admin::pages::{Copies, Pages};
use crate::admin::server::AdminService;
use crate::tfs::grpc::{self, GrpcOptions, GrpcService, ReloadConfig};
use crate::tfs::rest::{RestOptions, RestService};
use base::error::{Code, Result, ServingError};
use base::id::ModelSpec;
use net::limit::LoadShed;
use net::receive::ReceiveOptions;
use proto::onnx_model_server::{AuthConfig, Identity};
use proto::tensorflow::serving::ModelServerConfig;
use serving::inference::InferenceService;
use serving::monitoring::Metrics;
use serving::servable::{ServableHandle, ServableLookup, ServableState};

/// Counts the calls that come through the door, and has no model.
#[derive(Default)]
struct Inside(AtomicUsize);

impl Inside {
    fn enter(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl ServableLookup for Inside {
    fn servable_handle(&self, _: &ModelSpec) -> Result<ServableHandle> {
        self.enter();
        Err(ServingError::new(Code::NotFound, "no model"))
    }

    fn states(&self, _: &str) -> Vec<ServableState> {
        self.enter();
        Vec::new()
    }

    /// Does not count: a reload is checked against these.
    fn models(&self) -> Vec<Arc<str>> {
        Vec::new()
    }
}

impl ReloadConfig for Inside {
    fn reload(&self, _: ModelServerConfig, _: Box<dyn FnOnce() + Send>) -> Result<()> {
        self.enter();
        Ok(())
    }
}

/// The ports of one server.
struct Server {
    grpc: GrpcService,
    rest: RestService,
    admin: AdminService,
    inside: Arc<Inside>,
    load_shed: LoadShed,
    metrics: Arc<Metrics>,
}

/// `all` has every right for `m`, `other` for model `other` only, `none` has none. Their tokens are their
/// names.
fn rules() -> Auth {
    let identity = |name: &str, models: &[&str]| {
        let models: Vec<String> = models.iter().map(|&it| it.to_owned()).collect();
        Identity {
            name: name.to_owned(),
            token_sha256: vec![hash_token(name.as_bytes())],
            predict: models.clone(),
            metadata: models.clone(),
            status: models.clone(),
            admin: models,
            ..Identity::default()
        }
    };
    let config = AuthConfig {
        identity: vec![
            identity("all", &["m"]),
            identity("other", &["other"]),
            identity("none", &[]),
        ],
        metrics_need_identity: true,
    };
    Auth::try_new(&config).unwrap()
}

fn server(auth: Auth) -> Server {
    let metrics = Arc::new(Metrics::new());
    let inside = Arc::new(Inside::default());
    let lookup: Arc<dyn ServableLookup> = Arc::clone(&inside) as _;
    let inference = InferenceService::new(Arc::clone(&lookup), Arc::clone(&metrics));
    let load_shed = LoadShed::new(1, 1000);
    let access = Access::new(auth, load_shed.clone(), Arc::clone(&metrics));
    let (_, stopped) = watch::channel(false);
    let pages = Pages {
        metrics: Arc::clone(&metrics),
        readiness: Readiness::new(stopped.clone(), ModelsReport::default),
        shows_errors: true,
        monitoring_path: None,
        copies: Copies::default(),
    };
    let grpc = grpc::service(
        inference.clone(),
        &metrics,
        lookup,
        Arc::clone(&inside) as _,
        access.clone(),
        GrpcOptions {
            serialize_as_tensor_content: false,
            health_service: true,
            profiler_service: false,
            max_calls: None,
            receive: ReceiveOptions::new(1000),
        },
        stopped,
    );
    let rest = RestOptions {
        model_listing: true,
        ..RestOptions::default()
    };
    Server {
        grpc,
        rest: RestService::new(inference.clone(), pages.clone(), access.clone(), rest),
        admin: AdminService::new(pages, inference, access),
        inside,
        load_shed,
        metrics,
    }
}

/// A request's body that knows whether it was read.
struct Watched {
    bytes: Option<Bytes>,
    is_read: Arc<AtomicUsize>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Self::Error>>> {
        self.is_read.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// The outcome of a call, in the words that both protocols share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallOutcome {
    Unauthenticated,
    PermissionDenied,
    Overloaded,
    Unimplemented,
    /// Answered by a handler, with any code.
    Inside,
}

/// A call of one of the ports.
#[derive(Clone, Copy, Debug)]
enum Call {
    Grpc(&'static str, &'static [u8]),
    Rest(&'static str, &'static str, &'static str),
    Admin(&'static str),
}

/// A message whose first field is a `ModelSpec` with the name `m`.
const SPEC: &[u8] = b"\x0a\x03\x0a\x01m";
/// The same for the metadata `signature_def`.
const METADATA: &[u8] = b"\x0a\x03\x0a\x01m\x12\x0dsignature_def";
/// A `MultiInferenceRequest` with one task for `m`.
const TASK: &[u8] = b"\x0a\x05\x0a\x03\x0a\x01m";
/// A `ReloadConfigRequest` with the list of the model `m`.
const CONFIG: &[u8] = b"\x0a\x07\x0a\x05\x0a\x03\x0a\x01m";
const INSTANCES: &str = r#"{"instances": [1.0]}"#;
const EXAMPLES: &str = r#"{"examples": [{"x": 1.0}]}"#;

/// Every call that is about a model.
const CALLS: [Call; 14] = [
    Call::Grpc("/tensorflow.serving.PredictionService/Predict", SPEC),
    Call::Grpc("/tensorflow.serving.PredictionService/Classify", SPEC),
    Call::Grpc("/tensorflow.serving.PredictionService/Regress", SPEC),
    Call::Grpc("/tensorflow.serving.PredictionService/MultiInference", TASK),
    Call::Grpc(
        "/tensorflow.serving.PredictionService/GetModelMetadata",
        METADATA,
    ),
    Call::Grpc("/tensorflow.serving.ModelService/GetModelStatus", SPEC),
    Call::Grpc(
        "/tensorflow.serving.ModelService/HandleReloadConfigRequest",
        CONFIG,
    ),
    Call::Rest("POST", "/v1/models/m:predict", INSTANCES),
    Call::Rest("POST", "/v1/models/m/versions/1:predict", INSTANCES),
    Call::Rest("POST", "/v1/models/m:classify", EXAMPLES),
    Call::Rest("POST", "/v1/models/m/labels/stable:regress", EXAMPLES),
    Call::Rest("GET", "/v1/models/m/metadata", ""),
    Call::Rest("GET", "/v1/models/m", ""),
    Call::Rest("GET", "/v1/models/m/versions/1", ""),
];

impl Server {
    /// The outcome of a call with this token, and whether its body was read.
    async fn call(&self, call: Call, token: Option<&str>) -> (CallOutcome, bool) {
        let is_read = Arc::new(AtomicUsize::new(0));
        let (method, path, body) = match call {
            Call::Grpc(path, message) => {
                let length = u32::try_from(message.len()).unwrap().to_be_bytes();
                ("POST", path, [&[0], &length[..], message].concat())
            }
            Call::Rest(method, path, body) => (method, path, body.as_bytes().to_vec()),
            Call::Admin(path) => ("GET", path, Vec::new()),
        };
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = Watched {
            bytes: Some(Bytes::from(body)),
            is_read: Arc::clone(&is_read),
        };
        let request = request.body(body).unwrap();
        let outcome = match call {
            Call::Grpc(..) => grpc_outcome(self.grpc.call(request).await.unwrap()).await,
            Call::Rest(..) => http_outcome(&self.rest.call(request).await.unwrap()),
            Call::Admin(_) => http_outcome(&self.admin.call(request).await.unwrap()),
        };
        (outcome, is_read.load(Ordering::Relaxed) > 0)
    }

    fn entered(&self) -> usize {
        self.inside.0.load(Ordering::Relaxed)
    }

    /// The number of calls that were counted with this code.
    fn counted(&self, code: &str) -> usize {
        let code = format!("code=\"{code}\"");
        let page = self.metrics.page();
        page.lines()
            .filter(|line| line.starts_with("onnx_model_server_requests_total"))
            .filter(|line| line.contains(&code))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap())
            .sum()
    }
}

async fn grpc_outcome(response: Response<tonic::body::Body>) -> CallOutcome {
    let (parts, body) = response.into_parts();
    let has_retry = parts.headers.contains_key("grpc-retry-pushback-ms");
    let trailers = body.collect().await.unwrap().trailers().cloned();
    let status = parts.headers.get("grpc-status").cloned();
    let status = status.or_else(|| trailers?.get("grpc-status").cloned());
    match status.unwrap().to_str().unwrap() {
        "16" => CallOutcome::Unauthenticated,
        "7" => CallOutcome::PermissionDenied,
        "8" if has_retry => CallOutcome::Overloaded,
        "12" => CallOutcome::Unimplemented,
        _ => CallOutcome::Inside,
    }
}

fn http_outcome<B>(response: &Response<B>) -> CallOutcome {
    let has = |name| response.headers().contains_key(name);
    match response.status().as_u16() {
        401 if has("www-authenticate") => CallOutcome::Unauthenticated,
        403 => CallOutcome::PermissionDenied,
        429 if has("retry-after") => CallOutcome::Overloaded,
        501 => CallOutcome::Unimplemented,
        _ => CallOutcome::Inside,
    }
}

#[tokio::test]
async fn nothing_passes_without_an_identity() {
    for call in CALLS {
        for token in [None, Some("wrong"), Some("")] {
            let server = server(rules());
            let outcome = server.call(call, token).await;
            assert_eq!(outcome, (CallOutcome::Unauthenticated, false), "{call:?}");
            assert_eq!(server.entered(), 0, "{call:?}");
            assert_eq!(server.counted("UNAUTHENTICATED"), 1, "{call:?}");
        }
    }
}

#[tokio::test]
async fn nothing_passes_without_the_right() {
    for call in CALLS {
        for token in ["none", "other"] {
            let server = server(rules());
            let (outcome, is_read) = server.call(call, Some(token)).await;
            assert_eq!(outcome, CallOutcome::PermissionDenied, "{call:?} {token}");
            // In gRPC only the message names the model.
            let names_model_late = matches!(call, Call::Grpc(..)) && token == "other";
            assert_eq!(is_read, names_model_late, "{call:?} {token}");
            assert_eq!(server.entered(), 0, "{call:?} {token}");
            assert_eq!(server.counted("PERMISSION_DENIED"), 1, "{call:?} {token}");
        }
    }
}

#[tokio::test]
async fn a_caller_with_the_right_passes() {
    for call in CALLS {
        for (auth, token) in [(rules(), Some("all")), (Auth::default(), None)] {
            let server = server(auth);
            let (outcome, _) = server.call(call, token).await;
            assert_eq!(outcome, CallOutcome::Inside, "{call:?}");
            assert!(server.entered() > 0, "{call:?}");
        }
    }
}

#[tokio::test]
async fn nothing_passes_beyond_the_bound() {
    for call in CALLS {
        for (auth, token) in [(rules(), Some("all")), (Auth::default(), None)] {
            let server = server(auth);
            let in_flight = server.load_shed.enter_now(None).unwrap();
            let outcome = server.call(call, token).await;
            assert_eq!(outcome, (CallOutcome::Overloaded, false), "{call:?}");
            assert_eq!(server.entered(), 0, "{call:?}");
            assert_eq!(server.counted("RESOURCE_EXHAUSTED"), 1, "{call:?}");
            drop(in_flight);
            let (outcome, _) = server.call(call, token).await;
            assert_eq!(outcome, CallOutcome::Inside, "{call:?}");
        }
    }
}

#[tokio::test]
async fn an_undeclared_grpc_service_is_refused_unread() {
    for path in [
        "/tensorflow.serving.SessionService/SessionRun",
        "/tensorflow.serving.PredictionService/predict",
        "/tensorflow.serving.ModelService/Predict",
        // Not enabled.
        "/tensorflow.ProfilerService/Profile",
        "/grpc.channelz.v1.Channelz/GetServers",
        "/",
    ] {
        let call = Call::Grpc(path, SPEC);
        let server = server(rules());
        let outcome = server.call(call, None).await;
        assert_eq!(outcome, (CallOutcome::Unauthenticated, false), "{path}");
        let outcome = server.call(call, Some("none")).await;
        assert_eq!(outcome, (CallOutcome::Unimplemented, false), "{path}");
        let outcome = server.call(call, Some("all")).await;
        assert_eq!(outcome, (CallOutcome::Unimplemented, false), "{path}");
        assert_eq!(server.entered(), 0, "{path}");
    }
}

#[tokio::test]
async fn services_and_pages_without_a_model_have_their_own_rules() {
    const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let open = CallOutcome::Inside;
    let closed = CallOutcome::Unauthenticated;
    for (call, unknown, known) in [
        (Call::Grpc("/grpc.health.v1.Health/Check", b""), open, open),
        (Call::Grpc(REFLECTION, b""), closed, open),
        (Call::Rest("GET", "/healthz", ""), open, open),
        (Call::Rest("GET", "/readyz", ""), open, open),
        (Call::Rest("GET", "/metrics", ""), closed, open),
        (Call::Rest("GET", "/openapi.json", ""), closed, open),
        (Call::Rest("GET", "/nothing", ""), closed, open),
        (Call::Rest("POST", "/v1/nothing", ""), closed, open),
        (
            Call::Rest("OPTIONS", "/v1/models/m:predict", ""),
            closed,
            open,
        ),
        (Call::Admin("/healthz"), open, open),
        (Call::Admin("/metrics"), closed, open),
        (Call::Admin("/nothing"), closed, open),
        // The list is of models: `none` has no right to any.
        (
            Call::Rest("GET", "/v1/models", ""),
            closed,
            CallOutcome::PermissionDenied,
        ),
        (
            Call::Admin("/v1/models"),
            closed,
            CallOutcome::PermissionDenied,
        ),
    ] {
        let server = server(rules());
        for token in [None, Some("wrong")] {
            let (outcome, _) = server.call(call, token).await;
            assert_eq!(outcome, unknown, "{call:?} {token:?}");
        }
        let (outcome, _) = server.call(call, Some("none")).await;
        assert_eq!(outcome, known, "{call:?}");
        let (outcome, _) = server.call(call, Some("all")).await;
        assert_eq!(outcome, CallOutcome::Inside, "{call:?}");
    }
}
