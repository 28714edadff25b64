//! The program: flags, exit status, output, the order of its start, its end. The expectations follow
//! TensorFlow Serving's `main.cc` and `server.cc`.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;

use crate::support::process::{Process, TIMEOUT, free_port};
use crate::support::server::half_plus_two;

#[test]
fn version_has_a_line_for_the_server_and_each_backend() {
    let output = Process::run(&["--version"]);

    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(output.status.code(), Some(0));
    let backends = [cfg!(feature = "onnxruntime"), cfg!(feature = "tract")];
    let backends = backends.into_iter().filter(|&is_built| is_built);
    assert_eq!(lines.len(), 1 + backends.count(), "{text}");
    assert!(lines[0].ends_with(env!("CARGO_PKG_VERSION")), "{text}");
}

#[test]
fn help_and_bad_values_print_usage_and_exit_255() {
    for flags in [
        &["--help"][..],
        &["--port=80x"],
        &["--enable_batching=maybe"],
    ] {
        let output = Process::run(flags);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(255), "{flags:?}");
        assert!(text.starts_with("usage: "), "{flags:?}: {text}");
        assert!(text.contains("\nFlags:\n\t--port=8500"), "{text}");
    }
}

#[test]
fn wrong_combinations_exit_255_with_the_originals_text() {
    let base_path = "--model_base_path=/nowhere";
    for (flags, text) in [
        (
            &["--port=0", base_path][..],
            "At least one of server_options.grpc_port or server_options.grpc_socket_path must be \
             set.",
        ),
        (
            &[],
            "Both server_options.model_base_path and server_options.model_config_file are empty!",
        ),
        (
            &[base_path, "--batching_parameters_file=/nowhere"],
            "server_options.batching_parameters_file is set without setting \
             server_options.enable_batching to true.",
        ),
        (
            &[
                base_path,
                "--use_alts_credentials=true",
                "--ssl_config_file=/nowhere",
            ],
            "Either use_alts_credentials must be false or ssl_config_file must be empty.",
        ),
    ] {
        let output = Process::run(flags);
        let stdout = String::from_utf8(output.stdout).unwrap();
        let expected = format!("Failed to start server. Error: INVALID_ARGUMENT: {text}");
        assert_eq!(output.status.code(), Some(255), "{flags:?}");
        assert!(stdout.contains(&expected), "{flags:?}: {stdout}");
    }
}

#[test]
fn a_model_that_does_not_load_exits_255() {
    let base_path = tempfile::tempdir().unwrap();
    fs::create_dir(base_path.path().join("1")).unwrap();
    fs::write(base_path.path().join("1/model.onnx"), "no model").unwrap();
    let flags = [
        format!("--model_base_path={}", base_path.path().display()),
        "--max_num_load_retries=0".to_owned(),
        format!("--port={}", free_port()),
    ];

    let output = Process::run(&flags.each_ref().map(String::as_str));

    let stdout = String::from_utf8(output.stdout).unwrap();
    let text = "Failed to start server. Error: UNKNOWN: 1 servable(s) did not become available: \
                {{{name: default version: 1} due to error: ";
    assert_eq!(output.status.code(), Some(255));
    assert!(stdout.contains(text), "{stdout}");
}

#[test]
fn platform_file_that_cannot_be_read_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("platforms");
    let base_path = format!("--model_base_path={}", half_plus_two().display());
    for (path, code, reason) in [
        (missing.as_path(), "NOT_FOUND", "No such file or directory"),
        (folder.path(), "FAILED_PRECONDITION", "Is a directory"),
    ] {
        let path = path.display();
        let output = Process::run(&[&base_path, &format!("--platform_config_file={path}")]);
        let stdout = String::from_utf8(output.stdout).unwrap();
        let text = format!("Failed to start server. Error: {code}: {path}; {reason}");
        assert_eq!(output.status.code(), Some(255));
        assert!(stdout.contains(&text), "{stdout}");
    }
}

/// As TensorFlow Serving, which parses the file before it loads a model.
#[test]
fn platform_file_has_to_parse() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("platforms");
    let base_path = format!("--model_base_path={}", half_plus_two().display());
    for garbage in [
        "<html></html>",
        "platform_configs { key: 1 }",
        "platforms {}",
    ] {
        std::fs::write(&file, garbage).unwrap();
        let output = Process::run(&[
            &base_path,
            &format!("--platform_config_file={}", file.display()),
        ]);
        let stdout = String::from_utf8(output.stdout).unwrap();
        let text = format!(
            "Failed to start server. Error: INVALID_ARGUMENT: Invalid protobuf file: '{}'",
            file.display()
        );
        assert_eq!(output.status.code(), Some(255), "{garbage}");
        assert!(stdout.contains(&text), "{garbage}: {stdout}");
    }
}

#[test]
fn ports_open_in_the_originals_order() {
    let (grpc, rest) = (free_port(), free_port());
    let mut server = Process::start(&half_plus_two(), &[], grpc, rest);

    for line in [
        "Successfully reserved resources to load servable {name: default version: 1}".to_owned(),
        "Approving load for servable version {name: default version: 1}".to_owned(),
        "Loading servable version {name: default version: 1}".to_owned(),
        format!("Running gRPC ModelServer at 0.0.0.0:{grpc} ..."),
        format!("Exporting HTTP/REST API at:localhost:{rest} ..."),
        "Entering the event loop ...".to_owned(),
    ] {
        server.wait_for(&line);
    }
    assert!(is_open(grpc) && is_open(rest));
}

#[test]
fn unknown_flags_do_not_stop_the_start() {
    let flags = ["--no_such_flag=1", "word"];
    let mut server = Process::start(&half_plus_two(), &flags, free_port(), free_port());

    server.wait_for("Entering the event loop ...");
    let stdout = server.stop_and_read_stdout();

    assert!(
        stdout.starts_with("unknown argument: --no_such_flag=1\nusage: "),
        "{stdout}"
    );
}

#[test]
fn a_missing_base_path_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let base_path = folder.path().join("later");
    let (grpc, rest) = (free_port(), free_port());
    let mut server = Process::start(&base_path, &[], grpc, rest);

    server.wait_for("Could not find base path");
    assert!(
        !is_open(grpc) && !is_open(rest),
        "a port is open before there is a model"
    );
    copy(&half_plus_two().join("1"), &base_path.join("1"));

    server.wait_for("Entering the event loop ...");
    assert!(is_open(grpc) && is_open(rest));
}

#[test]
fn sigterm_ends_the_process_with_status_0() {
    let mut server = Process::start(&half_plus_two(), &[], free_port(), free_port());
    server.wait_for("Entering the event loop ...");

    server.signal("TERM");

    assert_eq!(server.wait().code(), Some(0));
}

fn is_open(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, TIMEOUT).is_ok()
}

fn copy(from: &Path, to: &Path) {
    // Copied to a temporary name first: the server must not find half a version.
    let aside = to.with_extension("part");
    fs::create_dir_all(&aside).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), aside.join(entry.file_name())).unwrap();
    }
    fs::rename(aside, to).unwrap();
}
