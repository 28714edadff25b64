//! Complete calls, from path and message to status, with fake models.

use http::Response;
use http_body_util::{BodyExt, Full};
use hyper::service::Service as _;

use super::*;
use crate::access::auth::Auth;
use base::error::Result;
use base::id::ModelSpec;
use net::limit::LoadShed;
use proto::tensorflow::serving::ModelServerConfig;
use serving::servable::{ServableHandle, ServableState};

/// Panics at every look-up of a model, and at every reload.
struct Fragile;

impl ServableLookup for Fragile {
    fn servable_handle(&self, _: &ModelSpec) -> Result<ServableHandle> {
        panic!("a secret of the server")
    }

    fn states(&self, _: &str) -> Vec<ServableState> {
        Vec::new()
    }

    fn models(&self) -> Vec<Arc<str>> {
        Vec::new()
    }
}

impl ReloadConfig for Fragile {
    fn reload(&self, _: ModelServerConfig, _: Box<dyn FnOnce() + Send>) -> Result<()> {
        panic!("a secret of the server")
    }
}

fn fragile(load_shed: LoadShed) -> (GrpcService, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new());
    let inference = InferenceService::new(Arc::new(Fragile), Arc::clone(&metrics));
    let options = GrpcOptions {
        serialize_as_tensor_content: false,
        health_service: true,
        profiler_service: false,
        max_calls: None,
        receive: ReceiveOptions::new(1000),
    };
    let (_, stopped) = watch::channel(false);
    let service = service(
        inference,
        &metrics,
        Arc::new(Fragile),
        Arc::new(Fragile),
        Access::new(Auth::default(), load_shed, Arc::clone(&metrics)),
        options,
        stopped,
    );
    (service, metrics)
}

/// The status of a call with this message, from the headers or from the trailers.
async fn status(service: &GrpcService, path: &str, message: &[u8]) -> (String, Response<()>) {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let body = Full::new(Bytes::from([&[0], &length[..], message].concat()));
    let request = Request::post(path).header("content-type", "application/grpc");
    let response = service.call(request.body(body).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned().unwrap_or_default();
    let status = parts.headers.get("grpc-status");
    let status = status.or_else(|| trailers.get("grpc-status")).unwrap();
    let status = status.to_str().unwrap().to_owned();
    (status, Response::from_parts(parts, ()))
}

const INTERNAL: &str = "13";
const RESOURCE_EXHAUSTED: &str = "8";
const CLASSIFY: &str = "/tensorflow.serving.PredictionService/Classify";
/// A `ClassificationRequest` whose `model_spec.name` is `m`.
const OF_M: &[u8] = b"\x0a\x03\x0a\x01m";

#[tokio::test]
async fn a_panic_is_answered_and_counted() {
    let (service, metrics) = fragile(LoadShed::new(1, 1000));
    for _ in 0..2 {
        let (code, response) = status(&service, CLASSIFY, OF_M).await;
        assert_eq!(code, INTERNAL);
        let message = format!("{:?}", response.headers().get("grpc-message"));
        assert!(!message.contains("secret"), "{message}");
    }
    let page = metrics.page();
    let mut lines = page.lines().filter(|it| it.contains("code=\"INTERNAL\""));
    assert!(lines.next().is_some_and(|it| it.ends_with(" 2")), "{page}");
}

#[tokio::test]
async fn too_much_at_a_time_is_refused_for_a_moment() {
    let load_shed = LoadShed::new(1, 1000);
    let (service, metrics) = fragile(load_shed.clone());
    let _in_flight = load_shed.enter_now(None).unwrap();
    let (code, response) = status(&service, CLASSIFY, OF_M).await;
    assert_eq!(code, RESOURCE_EXHAUSTED);
    assert_eq!(response.headers()["grpc-retry-pushback-ms"], "1000");
    assert!(metrics.page().contains("code=\"RESOURCE_EXHAUSTED\""));
    // Probes are still answered.
    let (code, _) = status(&service, "/grpc.health.v1.Health/Check", b"").await;
    assert_eq!(code, "0");
}

fn seconds_left(timeout: &str) -> Option<f64> {
    let mut headers = HeaderMap::new();
    headers.insert("grpc-timeout", timeout.parse().unwrap());
    deadline(&headers).map(|at| at.duration_since(Instant::now()).as_secs_f64())
}

// Units and the limit of eight digits: gRPC over HTTP/2, "Timeout".
#[test]
fn deadline_reads_every_unit() {
    for (timeout, seconds) in [
        ("2H", 7200.0),
        ("3M", 180.0),
        ("5S", 5.0),
        ("70000m", 70.0),
        ("9000000u", 9.0),
    ] {
        let left = seconds_left(timeout).unwrap();
        assert!(left <= seconds && left > seconds - 2.0, "{timeout}: {left}");
    }
    for malformed in ["", "S", "5", "5x", "-5S", "123456789S", "1.5S"] {
        assert_eq!(seconds_left(malformed), None, "{malformed}");
    }
}
