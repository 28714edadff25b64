//! The choice of a backend: `--backend`, and running without ONNX Runtime.

use crate::support::process::Process;

/// Checks the program's output when it does not start.
#[track_caller]
fn check_refused(flags: &[&str], text: &str) {
    let base_path = "--model_base_path=/nowhere";
    let output = Process::run(&[&[base_path], flags].concat());
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(255), "{stdout}");
    assert!(stdout.contains(text), "{stdout}");
}

#[test]
fn an_unknown_backend_is_refused() {
    check_refused(
        &["--backend=openvino"],
        "--backend=openvino: expected one of auto, onnxruntime, tract",
    );
}

#[test]
fn a_library_that_is_named_has_to_be_there() {
    let library = "--onnxruntime_library=/nowhere/libonnxruntime.so";
    check_refused(&[library], "cannot load ONNX Runtime");
    check_refused(
        &[library, "--backend=onnxruntime"],
        "cannot load ONNX Runtime",
    );
}

#[cfg(not(feature = "tract"))]
#[test]
fn a_backend_that_was_not_built_is_refused() {
    check_refused(
        &["--backend=tract"],
        "this program was built without the backend tract",
    );
}

#[cfg(feature = "tract")]
mod tract {
    use std::net::{Ipv4Addr, SocketAddr};

    use serde_json::{Value, json};

    use crate::support::http;
    use crate::support::process::{Process, free_port};
    use crate::support::server::half_plus_two;

    /// The documentation's example for TensorFlow Serving's REST API.
    async fn check_half_plus_two(rest: u16) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, rest));
        let body = br#"{"instances": [1.0, 2.0, 5.0]}"#;
        let path = "/v1/models/default:predict";
        let request = http::request("POST", path, &[], Some(body));
        let reply = http::exchange(address, &request).await.unwrap();
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(body, json!({"predictions": [2.5, 3.0, 4.5]}));
    }

    #[tokio::test]
    async fn auto_takes_tract_where_no_library_is_found() {
        let (grpc, rest) = (free_port(), free_port());
        let library = "/nowhere/libonnxruntime.so";
        let mut server = Process::start_with_library_path(library, &half_plus_two(), grpc, rest);

        server.wait_for(&format!("searched={library}"));
        server.wait_for("Entering the event loop ...");

        check_half_plus_two(rest).await;
    }

    #[tokio::test]
    async fn tract_opens_no_library() {
        let (grpc, rest) = (free_port(), free_port());
        let flags = [
            "--backend=tract",
            "--onnxruntime_library=/nowhere/libonnxruntime.so",
        ];
        let mut server = Process::start(&half_plus_two(), &flags, grpc, rest);

        server.wait_for("tract is ready");
        server.wait_for("Entering the event loop ...");

        check_half_plus_two(rest).await;
    }
}
