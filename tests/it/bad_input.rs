//! Malformed and hostile input on both ports: an error, no harm, and the next request is answered.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;
use proto::tensorflow::serving::PredictRequest;
use proto::tensorflow::tensor_shape_proto::Dim;
use proto::tensorflow::{DataType, TensorProto, TensorShapeProto};
use tonic::Code;

use crate::support::http::{self, HttpConnection};
use crate::support::predict::{self, PREDICT, model};
use crate::support::server::TestServer;
use crate::support::tensor::shape_proto;

const PATH: &str = "/v1/models/half_plus_two:predict";

// `Tensor::FromProto` of TensorFlow refuses these, too. The server must not try to allocate a size that
// overflows. Long, because it is a table of tensors.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_tensors_are_refused() {
    let server = TestServer::half_plus_two().await;
    let float = |shape: &[i64]| TensorProto {
        dtype: DataType::DtFloat.into(),
        tensor_shape: Some(shape_proto(shape)),
        ..TensorProto::default()
    };
    let dtype = |dtype: i32| TensorProto {
        dtype,
        ..float(&[1])
    };
    let content = |shape: &[i64], length: usize| TensorProto {
        tensor_content: vec![0; length].into(),
        ..float(shape)
    };
    let many_dims = TensorShapeProto {
        dim: vec![
            Dim {
                size: 1,
                ..Dim::default()
            };
            300
        ],
        ..TensorShapeProto::default()
    };
    for (what, tensor) in [
        ("no elements can be as many", float(&[i64::MAX])),
        ("the product overflows", float(&[1 << 31, 1 << 31, 1 << 31])),
        ("the bytes overflow", float(&[1 << 62])),
        ("a terabyte", float(&[1 << 38])),
        ("a negative dim", float(&[-1])),
        ("the smallest dim", float(&[i64::MIN])),
        (
            "overflow next to an empty dim",
            float(&[i64::MAX, i64::MAX, 0]),
        ),
        (
            "too many dims",
            TensorProto {
                tensor_shape: Some(many_dims),
                ..float(&[])
            },
        ),
        ("DT_INVALID", dtype(0)),
        ("a reference", dtype(101)),
        ("an unknown dtype", dtype(9999)),
        ("a negative dtype", dtype(-1)),
        ("content too short", content(&[2], 7)),
        ("content too long", content(&[2], 9)),
        ("content for a huge shape", content(&[1 << 40], 4)),
    ] {
        let request = predict::request(model("half_plus_two", ""), "x", tensor);
        let status = predict::call(&server.grpc, &request).await.unwrap_err();
        assert!(
            matches!(
                status.code(),
                Code::InvalidArgument | Code::ResourceExhausted
            ),
            "{what}: {status}"
        );
    }
    check_alive(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_truncation_of_a_message_is_answered() {
    let server = TestServer::half_plus_two().await;
    let message = good_request().encode_to_vec();
    for length in 0..message.len() {
        let reply = server.grpc.call(PREDICT, message[..length].to_vec()).await;
        assert_ne!(reply.code, Code::Ok, "{length} of {} bytes", message.len());
        assert_ne!(reply.code, Code::Unavailable, "{length}: {}", reply.details);
    }
    check_alive(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flipped_byte_of_a_message_is_answered() {
    let server = TestServer::half_plus_two().await;
    let message = good_request().encode_to_vec();
    for at in 0..message.len() {
        for flip in [0xff, 0x80, 0x01] {
            let mut message = message.clone();
            message[at] ^= flip;
            let reply = server.grpc.call(PREDICT, message).await;
            let is_fine = !matches!(reply.code, Code::Unavailable | Code::DeadlineExceeded);
            assert!(is_fine, "byte {at}, {flip:#x}: {reply:?}");
        }
    }
    check_alive(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_json_is_refused() {
    let server = TestServer::half_plus_two().await;
    let deep = "[".repeat(500_000);
    let deep_objects = r#"{"a":"#.repeat(200_000);
    for (what, body) in [
        ("deep lists", format!(r#"{{"instances": {deep}"#)),
        (
            "deep lists in a member that is not read",
            format!(r#"{{"other": {deep}"#),
        ),
        ("deep objects", deep_objects),
        (
            "a huge exponent",
            r#"{"instances": [1e999999999]}"#.to_owned(),
        ),
        (
            "a number without end",
            format!(r#"{{"instances": [1{}"#, "0".repeat(100_000)),
        ),
        ("an open string", r#"{"instances": ["#.to_owned() + "\"abc"),
        ("half an escape", r#"{"instances": ["\u12"]}"#.to_owned()),
    ] {
        let reply = server.post(PATH, body).await;
        assert_eq!(reply.status, 400, "{what}: {:.200}", reply.text());
    }
    check_alive(&server).await;
}

// TensorFlow Serving's limit on decompressed bodies is 100 MiB; above it the body counts as empty.
#[tokio::test(flavor = "multi_thread")]
async fn a_gzip_bomb_counts_as_an_empty_body() {
    let server = TestServer::half_plus_two().await;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..101 {
        encoder.write_all(&vec![b' '; 1 << 20]).unwrap();
    }
    let body = encoder.finish().unwrap();
    let request = http::request("POST", PATH, &[("Content-Encoding", "gzip")], Some(&body));

    let reply = http::exchange(server.rest, &request).await.unwrap();

    let text = "{\n    \"error\": \"JSON Parse error: The document is empty\"\n}";
    assert_eq!((reply.status, reply.text().as_str()), (400, text));
    check_alive(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_request_end_the_connection() {
    let server = TestServer::half_plus_two().await;
    for bytes in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"\xff\xfe\xfd\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET /\0 HTTP/1.1\r\n\r\n",
    ] {
        let mut connection = HttpConnection::open(server.rest).await.unwrap();
        connection.send(bytes).await.unwrap();
        connection.finish().await.unwrap();
        // An error page or nothing; a reset is also allowed.
        if let Ok(answer) = connection.read_to_end().await {
            assert!(!answer.starts_with(b"HTTP/1.1 2"), "{bytes:?}");
        }
    }
    check_alive(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_without_end_are_cut_off() {
    let server = TestServer::half_plus_two().await;
    let mut request = b"GET /v1/models/half_plus_two HTTP/1.1\r\n".to_vec();
    for number in 0..100_000 {
        request.extend(format!("X-{number}: {}\r\n", "v".repeat(90)).bytes());
    }

    let reply = http::exchange(server.rest, &request).await;

    // Refused, or closed before everything was sent.
    if let Ok(reply) = reply {
        assert!(reply.status >= 400, "{reply:?}");
    }
    check_alive(&server).await;
}

fn good_request() -> PredictRequest {
    let tensor = TensorProto {
        dtype: DataType::DtFloat.into(),
        tensor_shape: Some(shape_proto(&[2])),
        float_val: vec![1.0, 2.0],
        ..TensorProto::default()
    };
    predict::request(model("half_plus_two", ""), "x", tensor)
}

/// Both ports answer a good request.
async fn check_alive(server: &TestServer) {
    let reply = server.post(PATH, r#"{"instances": [1.0]}"#).await;
    assert_eq!(reply.status, 200);
    predict::call(&server.grpc, &good_request()).await.unwrap();
    let status = server.get("/v1/models/half_plus_two").await;
    assert!(status.text().contains("AVAILABLE"), "{}", status.text());
}
