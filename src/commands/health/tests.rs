use std::net::TcpListener;
use std::thread;

use super::*;

#[test]
fn flags_come_from_the_servers_process() {
    let flags = flags_of(b"/usr/bin/tensorflow_model_server\0--port=1\0--port=9000\0").unwrap();
    assert_eq!(flags.port, 9000);
    assert_eq!(flags.rest_api_port, 0);
}

#[test]
fn other_processes_are_no_servers() {
    for command_line in [
        &b""[..],
        b"/bin/sh\0/usr/bin/tf_serving_entrypoint.sh\0--port=9000\0",
        b"onnx_model_server\0health\0",
        b"/usr/bin/onnx_model_server\0check\0--dir\0/models/m/1\0",
        b"onnx_model_server\0--version\0",
        b"onnx_model_server\0--port=many\0",
    ] {
        assert!(flags_of(command_line).is_none(), "{command_line:?}");
    }
}

#[test]
fn flag_with_a_wrong_value_is_named() {
    let report = run(&[OsString::from("--port=abc")]);
    assert!(!report.passed);
    let text = report.text;
    assert!(
        text.contains("these flags: ") && text.contains("port"),
        "{text}"
    );
    assert!(text.contains("abc"), "{text}");
}

#[test]
fn a_ready_server_passes() {
    let port = answer_once("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let report = run(&[OsString::from(format!("--rest_api_port={port}"))]);
    assert_eq!((report.passed, report.text.as_str()), (true, "ok\n"));
}

#[test]
fn the_admin_port_is_asked_first() {
    let port = answer_once("HTTP/1.1 200 OK\r\n\r\nok");
    let report = run(&["--rest_api_port=1", "--admin_host=127.0.0.1"]
        .into_iter()
        .map(OsString::from)
        .chain([format!("--admin_port={port}").into()])
        .collect::<Vec<_>>());
    assert!(report.passed, "{report:?}");
}

#[test]
fn any_host_is_asked_on_this_machine() {
    for (host, asked) in [
        ("", "localhost"),
        ("0.0.0.0", "localhost"),
        ("::", "localhost"),
        ("127.0.0.2", "127.0.0.2"),
        ("server", "server"),
    ] {
        assert_eq!(LocalPort::open(host, 1).unwrap().host, asked, "{host}");
    }
    assert!(LocalPort::open("", 0).is_none());
}

#[test]
fn a_server_that_is_not_ready_fails() {
    let port = answer_once("HTTP/1.1 503 Service Unavailable\r\n\r\nmissing: mnist");
    let report = run(&[OsString::from(format!("--rest_api_port={port}"))]);
    assert!(!report.passed);
    assert_eq!(
        report.text,
        "HTTP/1.1 503 Service Unavailable\nmissing: mnist\n"
    );
}

#[test]
fn a_closed_port_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let report = run(&[OsString::from(format!("--rest_api_port={port}"))]);
    assert!(!report.passed);
    assert!(
        report.text.starts_with(&format!("port {port}: ")),
        "{report:?}"
    );
}

#[test]
fn without_rest_an_open_port_passes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let report = run(&[OsString::from(format!("--port={port}"))]);
    assert!(report.passed, "{report:?}");
}

/// TLS is not supported here: it is enough that the server listens.
#[test]
fn rest_over_tls_is_not_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let flags = [
        format!("--port={port}"),
        "--rest_api_port=1".to_owned(),
        "--rest_api_use_ssl=true".to_owned(),
    ];
    let report = run(&flags.map(OsString::from));
    assert!(report.passed, "{report:?}");
}

/// A port that answers one request, which must be for `/readyz`.
fn answer_once(answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 64];
        let length = stream.read(&mut request).unwrap();
        assert!(request[..length].starts_with(b"GET /readyz "));
        stream.write_all(answer.as_bytes()).unwrap();
    });
    port
}
