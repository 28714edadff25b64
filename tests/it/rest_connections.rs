//! How the REST port treats connections: HTTP/2 with prior knowledge, HEAD, large headers.

use std::future::poll_fn;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tower::Service;

use crate::support::http::{HttpConnection, exchange, request};
use crate::support::material;
use crate::support::server::TestServer;

const PREDICT: &str = "/v1/models/half_plus_two:predict";
const ANSWER: &str = "{\n    \"predictions\": [2.5, 3.0, 4.5\n    ]\n}";

async fn half_plus_two() -> TestServer {
    let base_path = material::root().join("models/half_plus_two");
    TestServer::with_models(&[("half_plus_two", &base_path)], &[]).await
}

/// gRPC's channel is an HTTP/2 client that can send any request.
async fn http2(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect().await.unwrap()
}

async fn call(
    mut channel: Channel,
    method: &str,
    path: &str,
    body: &'static str,
) -> http::Response<Bytes> {
    let body = Full::new(Bytes::from_static(body.as_bytes()));
    let request = http::Request::builder().method(method).uri(path);
    let request = request.body(Body::new(body)).unwrap();
    poll_fn(|context| channel.poll_ready(context))
        .await
        .unwrap();
    let (head, body) = channel.call(request).await.unwrap().into_parts();
    http::Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_answers_as_http1_does() {
    let server = half_plus_two().await;
    let channel = http2(server.rest).await;
    let body = r#"{"instances": [1.0, 2.0, 5.0]}"#;
    // Several at a time on one connection.
    let calls = (0..8).map(|_| tokio::spawn(call(channel.clone(), "POST", PREDICT, body)));
    for reply in calls.collect::<Vec<_>>() {
        let reply = reply.await.unwrap();
        assert_eq!(reply.version(), http::Version::HTTP_2);
        assert_eq!(reply.status(), 200);
        assert_eq!(reply.headers()["content-type"], "application/json");
        assert_eq!(reply.body(), ANSWER);
    }
    for path in [
        "/v1/models/half_plus_two",
        "/v1/models/nope?x=1",
        "/nothing",
    ] {
        let reply = call(channel.clone(), "GET", path, "").await;
        let on_http1 = server.get(path).await;
        assert_eq!(reply.status(), on_http1.status, "{path}");
        assert_eq!(reply.body(), &on_http1.body, "{path}");
    }
    drop(channel);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn head_has_no_body_on_either_version() {
    let server = half_plus_two().await;
    let path = "/v1/models/half_plus_two";
    let error = "{\n    \"error\": \"Malformed request: HEAD /v1/models/half_plus_two\"\n}";

    let channel = http2(server.rest).await;
    let reply = call(channel.clone(), "HEAD", path, "").await;
    assert_eq!(reply.status(), 400);
    assert_eq!(reply.headers()["content-length"], error.len().to_string());
    assert!(reply.body().is_empty());
    drop(channel);

    // The next answer on the connection begins right after the headers.
    let mut connection = HttpConnection::open(server.rest).await.unwrap();
    let head = request("HEAD", path, &[], None);
    let reply = connection.exchange(&head).await.unwrap();
    assert_eq!(reply.status, 400);
    let length = error.len().to_string();
    assert_eq!(reply.header("content-length"), Some(length.as_str()));
    let get = request("GET", path, &[], None);
    assert_eq!(connection.exchange(&get).await.unwrap().status, 200);
    drop(connection);
    server.stop().await;
}

// TensorFlow Serving has no limit; docs/rest.md documents ours.
#[tokio::test(flavor = "multi_thread")]
async fn headers_are_bounded() {
    let server = half_plus_two().await;
    let status = async |headers: &[(&str, &str)]| {
        let get = request("GET", "/v1/models/half_plus_two", headers, None);
        let mut connection = HttpConnection::open(server.rest).await.unwrap();
        connection.exchange(&get).await.unwrap().status
    };
    assert_eq!(status(&[("X-Large", &"x".repeat(60_000))]).await, 200);
    for size in [70_000, 1_000_000] {
        assert_eq!(status(&[("X-Large", &"x".repeat(size))]).await, 431);
    }
    // `Host` counts as well.
    assert_eq!(status(&[("X-Many", "x"); 99]).await, 200);
    assert_eq!(status(&[("X-Many", "x"); 100]).await, 431);
    server.stop().await;
}

// `evhttp_get_body` of libevent 2.1.12: for a request with a body, before it is dispatched.
#[tokio::test(flavor = "multi_thread")]
async fn unknown_expectation_is_refused() {
    let server = half_plus_two().await;
    let body = Some(&br#"{"instances": [1.0, 2.0, 5.0]}"#[..]);
    for (method, path, expect, body, status) in [
        ("POST", PREDICT, "foo", body, 417),
        ("POST", PREDICT, "", body, 417),
        ("POST", PREDICT, "100-continue, foo", body, 417),
        ("PUT", "/nothing", "foo", body, 417),
        // With or without an interim answer.
        ("POST", PREDICT, "100-continue", body, 100),
        ("POST", PREDICT, "100-CONTINUE", body, 100),
        ("POST", PREDICT, "foo", None, 400),
        ("GET", "/v1/models/half_plus_two", "foo", None, 200),
    ] {
        let request = request(method, path, &[("Expect", expect)], body);
        let reply = exchange(server.rest, &request).await.unwrap();
        let expected = if status == 100 && reply.status == 200 {
            200
        } else {
            status
        };
        assert_eq!(
            reply.status,
            expected,
            "{method} {path} {expect:?}: {}",
            reply.text()
        );
        if status == 417 {
            assert_eq!(reply.header("connection"), Some("close"));
            assert_eq!(reply.header("content-type"), Some("text/html"));
            assert_eq!(
                reply.text(),
                "<HTML><HEAD>\n<TITLE>417 Expectation Failed</TITLE>\n</HEAD><BODY>\n\
                 <H1>Expectation Failed</H1>\n</BODY></HTML>\n"
            );
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fragment_belongs_to_the_path() {
    let server = half_plus_two().await;
    let mut connection = HttpConnection::open(server.rest).await.unwrap();
    let body = br##"{"instances": [1.0], "#": "/v1/models/half_plus_two#body"}"##;
    // On one connection, with bodies and other requests in between.
    for _ in 0..3 {
        for (method, path, body, status, text) in [
            ("GET", "/v1/models/half_plus_two", None, 200, "AVAILABLE"),
            (
                "GET",
                "/v1/models/m#f",
                None,
                404,
                "Could not find any versions of model m#f",
            ),
            ("GET", "/v1/models/m?a#f", None, 404, "of model m?a#f"),
            (
                "GET",
                "/v1/models/half_plus_two%23",
                None,
                404,
                "of model half_plus_two#",
            ),
            (
                "POST",
                "/v1/models/half_plus_two:predict#f",
                Some(&body[..]),
                400,
                "Malformed request: POST /v1/models/half_plus_two:predict#f",
            ),
            ("POST", PREDICT, Some(&body[..]), 200, "2.5"),
        ] {
            let request = request(method, path, &[], body);
            let reply = connection.exchange(&request).await.unwrap();
            assert_eq!(reply.status, status, "{method} {path}: {}", reply.text());
            assert!(
                reply.text().contains(text),
                "{method} {path}: {}",
                reply.text()
            );
        }
    }
    server.stop().await;
}

// Recorded for bytes beyond ASCII; `evhttp_uri_parse` refuses the others as well.
#[tokio::test(flavor = "multi_thread")]
async fn target_that_is_not_a_uri_is_answered_with_a_page() {
    let server = half_plus_two().await;
    for path in [
        "/v1/models/ü",
        "/v1/models/a|b",
        "/v1/models/a%zz",
        "/v1/models/a#b#c",
    ] {
        let reply = server.get(path).await;
        assert_eq!(reply.status, 400, "{path}: {}", reply.text());
        assert_eq!(reply.header("content-type"), Some("text/html"), "{path}");
        assert_eq!(reply.header("connection"), Some("close"), "{path}");
        assert!(
            reply.text().contains("<H1>Bad Request</H1>"),
            "{}",
            reply.text()
        );
    }
    server.stop().await;
}
