//! Complete requests, from method and path to status, headers and body, with fake models.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::service::Service;
use tokio::sync::watch;

use super::{RestOptions, RestService};
use crate::access::Access;
use crate::access::auth::Auth;
use crate::admin::health::Readiness;
use crate::admin::pages::{Copies, Pages};
use base::error::{Code, Result};
use base::id::{ModelSpec, ServableId};
use base::vocabulary::ManagerState;
use net::limit::LoadShed;
use serving::inference::InferenceService;
use serving::monitoring::Metrics;
use serving::servable::{ServableHandle, ServableLookup, ServableState};

/// Model `m` has an available version 1; its look-up panics.
struct Fragile;

impl ServableLookup for Fragile {
    fn servable_handle(&self, _: &ModelSpec) -> Result<ServableHandle> {
        panic!("a secret of the server")
    }

    fn states(&self, model: &str) -> Vec<ServableState> {
        let state = ServableState {
            id: ServableId::new(model, 1),
            state: ManagerState::Available,
            code: Code::Ok,
            message: String::new(),
        };
        (model == "m").then_some(state).into_iter().collect()
    }

    fn models(&self) -> Vec<Arc<str>> {
        vec!["m".into()]
    }
}

fn service(options: RestOptions) -> (RestService, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new());
    let inference = InferenceService::new(Arc::new(Fragile), Arc::clone(&metrics));
    let (_, stopped) = watch::channel(false);
    let pages = Pages {
        metrics: Arc::clone(&metrics),
        readiness: Readiness::new(stopped, || panic!("a secret of the server")),
        shows_errors: true,
        monitoring_path: None,
        copies: Copies::default(),
    };
    let access = Access::new(
        Auth::default(),
        LoadShed::new(1, 1000),
        Arc::clone(&metrics),
    );
    let service = RestService::new(inference, pages, access, options);
    (service, metrics)
}

async fn send(service: &RestService, request: Request<Full<Bytes>>) -> Response<Bytes> {
    let (mut parts, body) = service.call(request).await.unwrap().into_parts();
    // As if the answer were written.
    parts.extensions.clear();
    Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

/// One request without a body to a server with these options.
async fn call(options: RestOptions, method: &str, path: &str) -> Response<Bytes> {
    let request = Request::builder().method(method).uri(path);
    let request = request.body(Full::default()).unwrap();
    send(&service(options).0, request).await
}

#[tokio::test]
async fn a_panic_is_answered_and_counted() {
    let (service, metrics) = service(RestOptions::default());
    for _ in 0..2 {
        let body = Full::new(Bytes::from_static(br#"{"instances": [1.0]}"#));
        let request = Request::post("/v1/models/m:predict").body(body).unwrap();
        let response = send(&service, request).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        assert_eq!(
            response.body(),
            "{\n    \"error\": \"internal server error; see the server log\"\n}"
        );
    }
    let page = metrics.tensorflow_page();
    let counted = page
        .lines()
        .find(|line| line.contains("request_count{") && line.contains("INTERNAL"));
    assert!(counted.is_some_and(|line| line.ends_with(" 2")), "{page}");
}

#[tokio::test]
async fn a_panic_outside_the_api_is_answered() {
    let response = call(RestOptions::default(), "GET", "/readyz").await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let body = String::from_utf8_lossy(response.body());
    assert!(body.contains("internal server error"), "{body}");
    assert!(!body.contains("secret"), "{body}");
}

#[tokio::test]
async fn too_much_at_a_time_is_refused_for_a_moment() {
    let (service, metrics) = service(RestOptions::default());
    let request = |body: Vec<u8>| {
        let request = Request::post("/v1/models/m:predict");
        request.body(Full::new(Bytes::from(body))).unwrap()
    };
    // More bytes than all requests together are allowed to hold.
    let response = send(&service, request(vec![b' '; 100_000])).await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(response.headers()[RETRY_AFTER], "1");
    // The only place is taken until the answer is written.
    let in_flight = service.call(request(b"{".to_vec())).await.unwrap();
    let response = send(&service, request(b"{".to_vec())).await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(response.headers()[RETRY_AFTER], "1");
    drop(in_flight);
    let response = send(&service, request(b"{".to_vec())).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert!(!response.headers().contains_key(RETRY_AFTER));
    assert!(metrics.page().contains("RESOURCE_EXHAUSTED"));
}

#[tokio::test]
async fn depth_is_bounded_on_demand() {
    let status = async |max_json_depth, body: &'static str| {
        let options = RestOptions {
            max_json_depth,
            ..RestOptions::default()
        };
        let request = Request::post("/v1/models/m:predict").body(Full::from(body));
        send(&service(options).0, request.unwrap()).await.status()
    };
    let body = r#"{"instances": [[]"#;
    assert_eq!(status(Some(2), body).await, StatusCode::TOO_MANY_REQUESTS);
    assert_ne!(status(Some(3), body).await, StatusCode::TOO_MANY_REQUESTS);
    assert_ne!(status(None, body).await, StatusCode::TOO_MANY_REQUESTS);
}

// rest.md, section 2: the answer of TensorFlow Serving.
#[tokio::test]
async fn models_are_not_listed_by_default() {
    let response = call(RestOptions::default(), "GET", "/v1/models").await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(
        response.body(),
        "{\n    \"error\": \"Missing model name in request.\"\n}"
    );
}

#[tokio::test]
async fn models_are_listed_on_demand() {
    let options = RestOptions {
        model_listing: true,
        ..RestOptions::default()
    };
    let response = call(options, "GET", "/v1/models").await;
    assert_eq!(response.status(), StatusCode::OK);
    let list: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
    let status = serde_json::json!({"error_code": "OK", "error_message": ""});
    let version = serde_json::json!({"version": "1", "state": "AVAILABLE", "status": status});
    let expected = serde_json::json!({"models": [{"name": "m", "versions": [version]}]});
    assert_eq!(list, expected);
}

#[tokio::test]
async fn the_description_is_for_reading_only() {
    let response = call(RestOptions::default(), "GET", "/openapi.json").await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    let response = call(RestOptions::default(), "POST", "/openapi.json").await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
}

// RFC 9110, section 9.3.2: the headers of the answer with its body, and no body.
#[tokio::test]
async fn head_is_answered_without_body() {
    for (path, status) in [
        ("/v1/models/m", StatusCode::BAD_REQUEST),
        ("/openapi.json", StatusCode::OK),
        ("/nothing", StatusCode::NOT_FOUND),
    ] {
        let response = call(RestOptions::default(), "HEAD", path).await;
        assert_eq!(response.status(), status, "{path}");
        assert!(response.body().is_empty(), "{path}");
        assert_ne!(response.headers()[CONTENT_LENGTH], "0", "{path}");
    }
}

// rest.md, section 1.3.
#[tokio::test]
async fn what_is_outside_the_api_is_a_page_of_html() {
    let response = call(RestOptions::default(), "GET", "/nothing").await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!(response.headers()[CONTENT_TYPE], "text/html");
    assert_eq!(response.headers()[CONNECTION], "close");
    assert_eq!(
        response.body(),
        "<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n\
         </BODY></HTML>\n"
    );
}

#[tokio::test]
async fn answers_are_compressed_on_demand() {
    for (min_bytes, is_compressed) in [(None, false), (Some(100), true), (Some(100_000), false)] {
        let options = RestOptions {
            compression_min_bytes: min_bytes,
            ..RestOptions::default()
        };
        let request = Request::get("/v1/models/m").header("accept-encoding", "gzip");
        let request = request.body(Full::default()).unwrap();
        let response = send(&service(options).0, request).await;
        let coding = response.headers().get(CONTENT_ENCODING);
        assert_eq!(coding.is_some(), is_compressed, "{min_bytes:?}");
    }
}
