//! Traces, as an OpenTelemetry collector receives them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use proto::tensorflow::serving::PredictRequest;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};

use crate::support::http;
use crate::support::predict::{model, request};
use crate::support::server::{TestServer, half_plus_two};
use crate::support::tensor::{TestTensor, Values};

/// The example in W3C Trace Context, section 3.2.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
const STAGES: [&str; 4] = ["decode", "encode", "queue", "run"];

/// A collector that stores the traces.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Starts the collector; it ends with the test's runtime.
    async fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = TraceServiceServer::new(self.clone());
        let server = Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        address
    }

    fn spans(&self) -> Vec<Span> {
        let exports = self.0.lock().unwrap().clone();
        let resources = exports.into_iter().flat_map(|it| it.resource_spans);
        let scopes = resources.flat_map(|it| it.scope_spans);
        scopes.flat_map(|it| it.spans).collect()
    }
}

async fn server(collector: &Collector, flags: &[&str]) -> TestServer {
    let endpoint = format!("--otlp_endpoint=http://{}", collector.start().await);
    let flags: Vec<&str> = [endpoint.as_str()].iter().chain(flags).copied().collect();
    TestServer::with_models(&[("half_plus_two", &half_plus_two())], &flags).await
}

async fn predict_rest(server: &TestServer, headers: &[(&str, &str)]) {
    let body: &[u8] = br#"{"instances": [1.0, 2.0, 5.0]}"#;
    let path = "/v1/models/half_plus_two:predict";
    let request = http::request("POST", path, headers, Some(body));
    let reply = http::exchange(server.rest, &request).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
}

fn predict_request(name: &str) -> PredictRequest {
    let x = TestTensor {
        shape: vec![1],
        values: Values::Float(vec![1.0]),
    };
    request(model(name, ""), "x", x.to_typed())
}

async fn predict_grpc(server: &TestServer, name: &str, traceparent: &str) -> Code {
    let metadata = [("traceparent".to_owned(), traceparent.to_owned())];
    let method = "/tensorflow.serving.PredictionService/Predict";
    let message = predict_request(name).encode_to_vec();
    let reply = server
        .grpc
        .call_with(method, message, None, &metadata)
        .await;
    reply.code
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Attributes as text.
fn attributes(span: &Span) -> BTreeMap<&str, String> {
    let text = |attribute: &KeyValue| match attribute.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text.clone()),
        any_value::Value::IntValue(number) => Some(number.to_string()),
        _ => None,
    };
    let attributes = span.attributes.iter();
    attributes
        .filter_map(|it| Some((it.key.as_str(), text(it)?)))
        .collect()
}

#[track_caller]
fn check_attributes(span: &Span, expected: &[(&str, &str)]) {
    let actual = attributes(span);
    for (key, value) in expected {
        assert_eq!(
            actual.get(key).map(String::as_str),
            Some(*value),
            "{key}: {actual:?}"
        );
    }
}

/// The request's span; its children are checked first.
#[track_caller]
fn check_trace(spans: &[Span], name: &str) -> Span {
    let of_name = |span: &&Span| span.name == name && hex(&span.trace_id) == TRACE;
    let root = spans.iter().find(of_name);
    let root = root.unwrap_or_else(|| panic!("no {name} in {spans:#?}"));
    assert_eq!(hex(&root.parent_span_id), PARENT);
    assert_eq!(root.kind, SpanKind::Server as i32);
    let children: Vec<&Span> = spans
        .iter()
        .filter(|span| span.parent_span_id == root.span_id)
        .collect();
    let mut names: Vec<&str> = children.iter().map(|span| span.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, STAGES);
    for child in children {
        assert_eq!(child.trace_id, root.trace_id);
        assert!(
            child.start_time_unix_nano >= root.start_time_unix_nano,
            "{child:?}"
        );
        assert!(
            child.end_time_unix_nano >= child.start_time_unix_nano,
            "{child:?}"
        );
        assert!(
            child.end_time_unix_nano <= root.end_time_unix_nano,
            "{child:?}"
        );
    }
    root.clone()
}

/// Long, because it compares all attributes of three spans.
#[tokio::test(flavor = "multi_thread")]
async fn spans_continue_the_clients_trace() {
    let collector = Collector::default();
    let server = server(&collector, &[]).await;
    let traceparent = format!("00-{TRACE}-{PARENT}-01");
    let id = ("x-request-id", "mine");
    predict_rest(&server, &[("traceparent", &traceparent), id]).await;
    assert_eq!(
        predict_grpc(&server, "half_plus_two", &traceparent).await,
        Code::Ok
    );
    assert_eq!(
        predict_grpc(&server, "nope", &traceparent).await,
        Code::NotFound
    );
    server.stop().await;

    let spans = collector.spans();
    let rest = check_trace(&spans, "POST predict");
    let model = [
        ("onnx_model_server.model", "half_plus_two"),
        ("onnx_model_server.version", "1"),
        ("onnx_model_server.signature", "serving_default"),
    ];
    check_attributes(&rest, &model);
    check_attributes(
        &rest,
        &[
            ("http.request.method", "POST"),
            ("url.path", "/v1/models/half_plus_two:predict"),
            ("http.response.status_code", "200"),
            ("onnx_model_server.request_id", "mine"),
        ],
    );
    let name = "tensorflow.serving.PredictionService/Predict";
    let succeeded: Vec<Span> = spans
        .iter()
        .filter(|span| span.status.as_ref().is_none_or(|status| status.code != 2))
        .cloned()
        .collect();
    let grpc = check_trace(&succeeded, name);
    check_attributes(&grpc, &model);
    check_attributes(
        &grpc,
        &[
            ("rpc.system", "grpc"),
            ("rpc.service", "tensorflow.serving.PredictionService"),
            ("rpc.method", "Predict"),
            ("rpc.grpc.status_code", "0"),
        ],
    );
    // opentelemetry.proto: STATUS_CODE_ERROR is 2.
    let failed = spans
        .iter()
        .find(|span| span.status.as_ref().is_some_and(|it| it.code == 2))
        .expect("the failed call");
    assert_eq!(
        (failed.name.as_str(), hex(&failed.trace_id).as_str()),
        (name, TRACE)
    );
    check_attributes(failed, &[("rpc.grpc.status_code", "5")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_decides_what_is_recorded() {
    let collector = Collector::default();
    let server = server(&collector, &["--otlp_sampling_rate=0"]).await;
    predict_rest(&server, &[]).await;
    predict_rest(
        &server,
        &[("traceparent", &format!("00-{TRACE}-{PARENT}-00"))],
    )
    .await;
    predict_rest(
        &server,
        &[("traceparent", &format!("00-{TRACE}-{PARENT}-01"))],
    )
    .await;
    predict_rest(&server, &[("traceparent", "no-trace")]).await;
    server.stop().await;

    let spans = collector.spans();
    assert_eq!(spans.len(), 1 + STAGES.len());
    check_trace(&spans, "POST predict");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_a_trace_begin_one() {
    let collector = Collector::default();
    let server = server(&collector, &[]).await;
    predict_rest(&server, &[]).await;
    server.stop().await;

    let spans = collector.spans();
    let roots = spans.iter().filter(|span| span.name == "POST predict");
    let roots: Vec<&Span> = roots.collect();
    assert_eq!(roots.len(), 1);
    assert!(roots[0].parent_span_id.is_empty());
    assert!(roots[0].trace_id.iter().any(|&byte| byte != 0));
}

/// No collector listens there: requests are still answered, and the stop does not hang.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_collector_disturbs_nobody() {
    let flags = ["--otlp_endpoint=http://127.0.0.1:9"];
    let models: [(&str, &std::path::Path); 1] = [("half_plus_two", &half_plus_two())];
    let server = TestServer::with_models(&models, &flags).await;
    predict_rest(&server, &[]).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_endpoint_is_refused_at_the_start() {
    for endpoint in ["https://collector:4317", "collector:4317", "http://"] {
        let flags = [
            format!("--model_base_path={}", half_plus_two().display()),
            format!("--otlp_endpoint={endpoint}"),
        ];
        let started = TestServer::try_start(&flags, tempfile::tempdir().unwrap()).await;
        let error = started.err().expect("no server");
        assert!(error.to_string().contains(endpoint), "{error}");
    }
}
