//! Answers of the REST port beyond TensorFlow Serving's API.

use std::io::Read;

use flate2::read::GzDecoder;
use prost::Message;
use proto::tensorflow::serving::{ModelSpec, PredictRequest, PredictResponse};

use crate::support::http::{self, HttpReply};
use crate::support::material;
use crate::support::predict::{model, model_version, request};
use crate::support::server::TestServer;
use crate::support::tensor::{TestTensor, Values};

const PROTOBUF: &str = "application/x-protobuf";

async fn half_plus_two(flags: &[&str]) -> TestServer {
    let base_path = material::root().join("models/half_plus_two");
    TestServer::with_models(&[("half_plus_two", &base_path)], flags).await
}

/// TensorFlow Serving's example: y = x / 2 + 2.
fn predict_request(spec: ModelSpec) -> PredictRequest {
    let x = TestTensor {
        shape: vec![3],
        values: Values::Float(vec![1.0, 2.0, 5.0]),
    };
    request(spec, "x", x.to_typed())
}

async fn post_protobuf(server: &TestServer, path: &str, message: &[u8]) -> HttpReply {
    let headers = [("Content-Type", PROTOBUF)];
    let request = http::request("POST", path, &headers, Some(message));
    http::exchange(server.rest, &request).await.unwrap()
}

#[track_caller]
fn check_predicted(reply: &HttpReply) {
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("content-type"), Some(PROTOBUF));
    let response = PredictResponse::decode(&reply.body[..]).unwrap();
    let y = TestTensor::from_proto(&response.outputs["y"]).unwrap();
    assert_eq!(y.values, Values::Float(vec![2.5, 3.0, 4.5]));
    let spec = response.model_spec.unwrap();
    assert_eq!(spec, model_version("half_plus_two", 1, "serving_default"));
}

#[track_caller]
fn check_refused(reply: &HttpReply, status: u16, text: &str) {
    assert_eq!(reply.status, status, "{}", reply.text());
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert!(reply.text().contains(text), "{}", reply.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn predict_takes_a_serialized_request() {
    let server = half_plus_two(&[]).await;
    let without_spec = PredictRequest {
        model_spec: None,
        ..predict_request(model("", ""))
    };
    for message in [
        without_spec,
        predict_request(model("", "")),
        predict_request(model("half_plus_two", "serving_default")),
        predict_request(model_version("half_plus_two", 1, "")),
    ] {
        for path in [
            "/v1/models/half_plus_two:predict",
            "/v1/models/half_plus_two/versions/1:predict",
        ] {
            check_predicted(&post_protobuf(&server, path, &message.encode_to_vec()).await);
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn predict_refuses_what_contradicts_the_url() {
    let server = half_plus_two(&[]).await;
    let path = "/v1/models/half_plus_two/versions/1:predict";
    for (spec, status, text) in [
        (model("mnist", ""), 400, "names \\\"mnist\\\""),
        (
            model_version("half_plus_two", 2, ""),
            400,
            "different versions",
        ),
        (model("", "nope"), 400, "nope"),
    ] {
        let message = predict_request(spec).encode_to_vec();
        check_refused(&post_protobuf(&server, path, &message).await, status, text);
    }
    let reply = post_protobuf(&server, path, b"{\"instances\": [1.0]}").await;
    check_refused(&reply, 400, "not a PredictRequest");
    let reply = post_protobuf(&server, "/v1/models/nope:predict", b"").await;
    check_refused(&reply, 404, "Servable not found for request: Latest(nope)");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn predict_returns_the_outputs_asked_for() {
    let base_path = material::data().join("golden/models/multi");
    let server = TestServer::with_models(&[("multi", &base_path)], &[]).await;
    let path = "/v1/models/multi:predict";
    // Recorded without a filter: rest/142_mixed2_row, rest/143_mixed2_col.
    for (body, status, expected) in [
        (
            r#"{"signature_name": "mixed2", "inputs": [1, 2, 3], "output_filter": ["batch"]}"#,
            200,
            "{\n    \"outputs\": [\n        2.0,\n        4.0,\n        6.0\n    ]\n}",
        ),
        (
            r#"{"output_filter": ["batch"], "signature_name": "mixed2", "instances": [1, 2, 3]}"#,
            200,
            "{\n    \"predictions\": [2.0, 4.0, 6.0\n    ]\n}",
        ),
    ] {
        let reply = server.post(path, body).await;
        assert_eq!((reply.status, reply.text().as_str()), (status, expected));
    }
    // An empty filter counts as missing.
    let body = r#"{"signature_name": "mixed2", "instances": [1, 2, 3], "output_filter": []}"#;
    check_refused(
        &server.post(path, body).await,
        400,
        "inconsistent batch size",
    );
    let body = r#"{"signature_name": "mixed2", "inputs": [1], "output_filter": ["nope"]}"#;
    check_refused(&server.post(path, body).await, 400, "nope");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_turn_on_compression_and_the_list_of_models() {
    let server = half_plus_two(&[
        "--enable_model_listing",
        "--rest_api_enable_response_compression",
        "--rest_api_response_compression_min_bytes=100",
    ])
    .await;
    let gzip = [("Accept-Encoding", "gzip")];
    let list = http::request("GET", "/v1/models", &gzip, None);
    let reply = http::exchange(server.rest, &list).await.unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-encoding"), Some("gzip"));
    assert_eq!(reply.header("vary"), Some("Accept-Encoding"));
    let mut text = String::new();
    GzDecoder::new(&reply.body[..])
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, server.get("/v1/models").await.text());
    assert!(text.contains("\"name\": \"half_plus_two\""), "{text}");
    assert!(text.contains("\"state\": \"AVAILABLE\""), "{text}");
    server.stop().await;
}

// rest.md, sections 1.4 and 2: TensorFlow Serving's answers.
#[tokio::test(flavor = "multi_thread")]
async fn by_default_nothing_is_compressed_or_listed() {
    let server = half_plus_two(&[]).await;
    let gzip = [("Accept-Encoding", "gzip")];
    let metadata = http::request("GET", "/v1/models/half_plus_two/metadata", &gzip, None);
    let reply = http::exchange(server.rest, &metadata).await.unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-encoding"), None);
    assert_eq!(reply.header("vary"), None);
    let reply = server.get("/v1/models").await;
    check_refused(&reply, 400, "Missing model name in request.");
    server.stop().await;
}
