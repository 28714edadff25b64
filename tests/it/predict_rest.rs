//! `POST …:predict` and the HTTP around it. Bodies are those of TensorFlow Serving
//! (`json_tensor.cc`, `http_rest_api_handler.cc`), to the byte.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::support::http::{self, HttpConnection};
use crate::support::server::TestServer;

const PATH: &str = "/v1/models/half_plus_two:predict";
const BODY: &str = r#"{"instances": [1.0, 2.0, 5.0]}"#;
const ANSWER: &str = "{\n    \"predictions\": [2.5, 3.0, 4.5\n    ]\n}";

#[tokio::test(flavor = "multi_thread")]
async fn predict_answers_both_formats_to_the_byte() {
    let server = TestServer::half_plus_two().await;
    for (body, status, answer) in [
        (BODY, 200, ANSWER),
        (
            r#"{"instances": [{"x": 1}, {"x": 2}, {"x": 5}]}"#,
            200,
            ANSWER,
        ),
        (
            r#"{"inputs": {"x": [1.0, 2.0]}}"#,
            200,
            "{\n    \"outputs\": [\n        2.5,\n        3.0\n    ]\n}",
        ),
        (r#"{"inputs": []}"#, 200, "{\n    \"outputs\": []\n}"),
        (
            r#"{"instances": ["a"]}"#,
            400,
            "{\n    \"error\": \"Failed to process element: 0 of 'instances' list. Error: \
             INVALID_ARGUMENT: JSON Value: \\\"a\\\" Type: String is not of expected type: \
             float\"\n}",
        ),
        (
            "",
            400,
            "{\n    \"error\": \"JSON Parse error: The document is empty\"\n}",
        ),
    ] {
        let reply = server.post(PATH, body).await;
        assert_eq!(
            (reply.status, reply.text().as_str()),
            (status, answer),
            "{body}"
        );
        assert_eq!(reply.header("content-type"), Some("application/json"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_carries_many_requests() {
    let server = TestServer::half_plus_two().await;
    let mut connection = HttpConnection::open(server.rest).await.unwrap();
    let good = http::request("POST", PATH, &[], Some(BODY.as_bytes()));
    let bad = http::request("POST", PATH, &[], Some(b"{"));
    for (request, status) in [(&good, 200), (&bad, 400), (&good, 200)] {
        let reply = connection.exchange(request).await.unwrap();
        assert_eq!(reply.status, status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_may_come_in_chunks() {
    let server = TestServer::half_plus_two().await;
    let head = format!("POST {PATH} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    let (first, second) = BODY.split_at(7);
    let mut request = head.into_bytes();
    for part in [first, second, ""] {
        request.extend(format!("{:x}\r\n{part}\r\n", part.len()).into_bytes());
    }

    let reply = http::exchange(server.rest, &request).await.unwrap();

    assert_eq!((reply.status, reply.text().as_str()), (200, ANSWER));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_ask_before_it_sends_the_body() {
    let server = TestServer::half_plus_two().await;
    let headers = [("Expect", "100-continue")];
    let request = http::request("POST", PATH, &headers, Some(BODY.as_bytes()));

    let reply = http::exchange(server.rest, &request).await.unwrap();

    assert_eq!((reply.status, reply.text().as_str()), (200, ANSWER));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gzipped_body_is_unpacked() {
    let server = TestServer::half_plus_two().await;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(BODY.as_bytes()).unwrap();
    let body = encoder.finish().unwrap();
    let request = http::request("POST", PATH, &[("Content-Encoding", "gzip")], Some(&body));

    let reply = http::exchange(server.rest, &request).await.unwrap();

    assert_eq!((reply.status, reply.text().as_str()), (200, ANSWER));
    assert_eq!(reply.header("content-encoding"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_says_one_thing_about_its_connection() {
    let server = TestServer::half_plus_two().await;
    for (method, path, version, connection, expected) in [
        ("GET", "/nothing", "1.0", "keep-alive", "close"),
        ("GET", "/nothing", "1.0", "close", "close"),
        ("GET", "/nothing", "1.1", "keep-alive", "close"),
        ("CONNECT", "localhost:80", "1.0", "keep-alive", "close"),
        ("GET", "/healthz", "1.0", "keep-alive", "keep-alive"),
    ] {
        let request = format!("{method} {path} HTTP/{version}\r\nConnection: {connection}\r\n\r\n");
        let mut client = HttpConnection::open(server.rest).await.unwrap();
        let reply = client.exchange(request.as_bytes()).await.unwrap();
        let values = reply
            .headers
            .iter()
            .filter(|(name, _)| name == "connection");
        let values: Vec<_> = values.map(|(_, value)| value.as_str()).collect();
        assert_eq!(values, [expected], "{request}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connection_closes_when_the_client_asks() {
    let server = TestServer::half_plus_two().await;
    for request in [
        http::request(
            "POST",
            PATH,
            &[("Connection", "close")],
            Some(BODY.as_bytes()),
        ),
        format!(
            "POST {PATH} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{BODY}",
            BODY.len()
        )
        .into(),
    ] {
        let mut connection = HttpConnection::open(server.rest).await.unwrap();
        connection.send(&request).await.unwrap();
        let all = connection.read_to_end().await.unwrap();
        assert!(
            all.ends_with(ANSWER.as_bytes()),
            "{}",
            String::from_utf8_lossy(&all)
        );
    }
}
