//! Expected values are those of TensorFlow Serving's `command_line_flags.cc`, `main.cc`, `server.cc`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::table::FLAGS;
use super::*;
use base::error::Code;

fn parse(arguments: &[&str]) -> ParsedFlags {
    Flags::parse(
        std::iter::once(&"server")
            .chain(arguments)
            .map(OsString::from),
    )
}

#[track_caller]
fn flags(arguments: &[&str]) -> Flags {
    match parse(arguments) {
        ParsedFlags::Run {
            flags,
            unknown: None,
            ..
        } => flags,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn check_bad_value(argument: &str, error: &str) {
    match parse(&[argument]) {
        ParsedFlags::Usage { text, errors } => {
            assert_eq!(errors, [error]);
            assert_eq!(text, Flags::usage("server"));
        }
        other => panic!("{argument}: {other:?}"),
    }
}

#[track_caller]
fn check_unknown(arguments: &[&str], first: &str) -> Flags {
    match parse(arguments) {
        ParsedFlags::Run {
            flags,
            unknown: Some(text),
            ..
        } => {
            let usage = Flags::usage("server");
            assert_eq!(text, format!("unknown argument: {first}\n{usage}"));
            flags
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_arguments_give_defaults() {
    let flags = flags(&[]);
    assert_eq!(flags, Flags::default());
    assert_eq!(flags.port, 8500);
    assert_eq!(flags.rest_api_port, 0);
    assert_eq!(flags.rest_api_timeout_in_ms, 30_000);
    assert_eq!(flags.model_name, "default");
    assert_eq!(flags.saved_model_tags, "serve");
    assert_eq!(flags.load_retry_interval_micros, 60_000_000);
    assert!(flags.enable_model_warmup && flags.flush_filesystem_caches);
    assert_eq!(flags.rest_api_num_threads, 4 * flags.num_tflite_pools);
}

#[test]
fn every_type_is_read() {
    let flags = flags(&[
        "--port=9000",
        "--load_retry_interval_micros=-9223372036854775808",
        "--per_process_gpu_memory_fraction=0.5",
        "--model_name=m=1",
        "--saved_model_tags=",
        "--enable_batching",
    ]);
    assert_eq!(flags.port, 9000);
    assert_eq!(flags.load_retry_interval_micros, i64::MIN);
    assert_eq!(flags.per_process_gpu_memory_fraction, 0.5);
    assert_eq!(flags.model_name, "m=1");
    assert_eq!(flags.saved_model_tags, "");
    assert!(flags.enable_batching);
}

#[test]
fn bools_take_words_and_digits() {
    for value in ["true", "True", "TRUE", "1"] {
        assert!(flags(&[&format!("--enable_batching={value}")]).enable_batching);
    }
    for value in ["false", "False", "FALSE", "0"] {
        assert!(
            !flags(&["--enable_batching", &format!("--enable_batching={value}")]).enable_batching
        );
    }
    for value in ["", "yes", "2", " true", "t"] {
        check_bad_value(
            &format!("--enable_batching={value}"),
            &format!("Couldn't interpret value {value} for flag enable_batching."),
        );
    }
    check_unknown(&["--noenable_batching"], "--noenable_batching");
}

#[test]
fn integers_are_read_as_by_scanf() {
    assert_eq!(flags(&["--port= \t\n80"]).port, 80);
    assert_eq!(flags(&["--port=+80"]).port, 80);
    assert_eq!(flags(&["--port=-2147483648"]).port, i32::MIN);
    assert_eq!(flags(&["--port=007"]).port, 7);
    for value in [
        "",
        "80x",
        "80 ",
        "x",
        "1.5",
        "0x50",
        "- 5",
        "2147483648",
        "1e3",
    ] {
        check_bad_value(
            &format!("--port={value}"),
            &format!("Couldn't interpret value {value} for flag port."),
        );
    }
    check_bad_value(
        "--per_process_gpu_memory_fraction=half",
        "Couldn't interpret value half for flag per_process_gpu_memory_fraction.",
    );
}

#[test]
fn last_value_wins() {
    let flags = flags(&["--port=1", "--model_name=a", "--port=2", "--model_name=b"]);
    assert_eq!((flags.port, flags.model_name.as_str()), (2, "b"));
}

#[test]
fn every_bad_value_is_reported() {
    match parse(&["--port=x", "--port=1", "--unknown", "--enable_batching=x"]) {
        ParsedFlags::Usage { errors, .. } => assert_eq!(
            errors,
            [
                "Couldn't interpret value x for flag port.",
                "Couldn't interpret value x for flag enable_batching."
            ]
        ),
        other => panic!("{other:?}"),
    }
}

#[test]
fn unknown_arguments_do_not_stop_the_server() {
    assert_eq!(
        check_unknown(&["--bogus=1", "--port=7", "x"], "--bogus=1").port,
        7
    );
    // Two words are not an assignment, one dash does not make a flag, names are whole and case counts.
    assert_eq!(check_unknown(&["--port", "9000"], "--port").port, 8500);
    assert_eq!(check_unknown(&["-port=9000"], "-port=9000").port, 8500);
    check_unknown(&["--Port=1"], "--Port=1");
    check_unknown(&["--enable_batching_x"], "--enable_batching_x");
    check_unknown(&["positional"], "positional");
    check_unknown(&[""], "");
    check_unknown(&["--="], "--=");
}

#[test]
fn two_dashes_end_the_flags() {
    let flags = check_unknown(&["--port=1", "--", "--port=2", "--help"], "--");
    assert_eq!(flags.port, 1);
}

#[test]
fn help_counts_as_first_unknown_argument_only() {
    assert!(matches!(
        parse(&["--port=1", "--help", "--bogus"]),
        ParsedFlags::Usage { errors, .. } if errors.is_empty()
    ));
    check_unknown(&["--bogus", "--help"], "--bogus");
    check_unknown(&["--help=true"], "--help=true");
}

#[test]
fn version_goes_before_unknown_arguments() {
    assert!(matches!(
        parse(&["--bogus", "--version"]),
        ParsedFlags::Version(_)
    ));
    assert!(matches!(
        parse(&["--version=false"]),
        ParsedFlags::Run { .. }
    ));
    assert!(matches!(
        parse(&["--version", "--port=x"]),
        ParsedFlags::Usage { .. }
    ));
}

#[test]
fn arguments_need_not_be_utf8_or_present() {
    let bytes = OsString::from_vec(b"--model_name=\xff".to_vec());
    match Flags::parse(["server".into(), bytes]) {
        ParsedFlags::Run { flags, .. } => assert_eq!(flags.model_name, "\u{fffd}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(Flags::parse([]), ParsedFlags::Run { .. }));
}

#[test]
fn usage_has_the_originals_format() {
    let usage = Flags::usage("/usr/bin/server");
    assert!(usage.starts_with("usage: /usr/bin/server\nFlags:\n\t--port=8500 "));
    for row in [
        "\t--port=8500                      \tint32\t",
        "\t--grpc_socket_path=\"\"            \tstring\t",
        "\t--enable_batching=false          \tbool\t",
        "\t--load_retry_interval_micros=60000000\tint64\t",
        "\t--per_process_gpu_memory_fraction=0.000000\tfloat\t",
        "\t--model_name=\"default\"           \tstring\t",
        "\t--onnxruntime_library=\"\"         \tstring\t",
    ] {
        assert!(usage.contains(row), "{row:?}");
    }
    assert!(usage.ends_with('\n'));
    assert!(
        usage
            .lines()
            .skip(2)
            .all(|line| line.split('\t').count() == 4)
    );
}

#[test]
fn the_documentation_names_our_own_flags() {
    let docs = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/docs")).unwrap();
    let pages = docs.map(|page| std::fs::read_to_string(page.unwrap().path()).unwrap_or_default());
    let documentation: String = pages.collect();
    let own = FLAGS.iter().skip_while(|flag| flag.name != "backend");
    for flag in own {
        assert!(
            documentation.contains(&format!("`--{}", flag.name)),
            "{}",
            flag.name
        );
    }
}

#[test]
fn flags_without_effect_leave_a_note() {
    let arguments = [
        "--mixed_precision=bfloat16",
        "--enable_profiler=false",
        "--num_tflite_pools=999",
    ];
    match parse(&arguments) {
        ParsedFlags::Run { notes, .. } => {
            let notes: Vec<_> = notes.iter().map(Note::to_string).collect();
            assert_eq!(
                notes,
                [
                    "--num_tflite_pools has no effect: TensorFlow Lite models are not supported",
                    "--mixed_precision has no effect: models run in ONNX Runtime, not in TensorFlow",
                ]
            );
        }
        other => panic!("{other:?}"),
    }
    match parse(&["--enable_profiler=true", "--port=1"]) {
        ParsedFlags::Run { notes, .. } => assert_eq!(notes, []),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn check_invalid(arguments: &[&str], code: Code, text: &str) {
    let error = flags(arguments).validate().unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (code, text));
}

#[test]
fn contradictions_have_the_originals_texts() {
    let invalid = |arguments: &[&str], text| check_invalid(arguments, Code::InvalidArgument, text);
    let base = "--model_base_path=/m";
    invalid(
        &["--port=0"],
        "At least one of server_options.grpc_port or server_options.grpc_socket_path must be set.",
    );
    invalid(
        &["--use_alts_credentials", "--ssl_config_file=f"],
        "Either use_alts_credentials must be false or ssl_config_file must be empty.",
    );
    invalid(
        &[],
        "Both server_options.model_base_path and server_options.model_config_file are empty!",
    );
    invalid(
        &[base, "--batching_parameters_file=f"],
        "server_options.batching_parameters_file is set without setting \
         server_options.enable_batching to true.",
    );
    invalid(
        &[
            base,
            "--tensorflow_session_parallelism=1",
            "--tensorflow_intra_op_parallelism=1",
            "--tensorflow_inter_op_parallelism=1",
        ],
        "Either configure server_options.tensorflow_session_parallelism or \
         (server_options.tensorflow_intra_op_parallelism, \
         server_options.tensorflow_inter_op_parallelism) separately. You cannot configure all.",
    );
}

#[test]
fn rest_over_tls_needs_a_certificate() {
    check_invalid(
        &["--model_base_path=/m", "--rest_api_use_ssl"],
        Code::InvalidArgument,
        "--rest_api_use_ssl needs --ssl_config_file",
    );
}

#[test]
fn flags_that_cannot_be_honoured_are_refused() {
    check_invalid(
        &["--model_base_path=/m", "--use_alts_credentials"],
        Code::Unimplemented,
        "--use_alts_credentials: ALTS is not supported",
    );
    check_invalid(
        &[
            "--model_base_path=/m",
            "--thread_pool_factory_config_file=f",
        ],
        Code::Unimplemented,
        "--thread_pool_factory_config_file: no thread pool factory is registered",
    );
}

#[test]
fn sensible_flags_are_valid() {
    for arguments in [
        ["--model_base_path=/m", "--port=8500"],
        ["--model_config_file=f", "--grpc_socket_path=/s"],
        ["--model_base_path=/m", "--enable_batching"],
    ] {
        flags(&arguments).validate().unwrap();
    }
    flags(&["--model_base_path=/m", "--port=0", "--grpc_socket_path=/s"])
        .validate()
        .unwrap();
    flags(&[
        "--model_base_path=/m",
        "--enable_batching",
        "--batching_parameters_file=f",
    ])
    .validate()
    .unwrap();
}

#[test]
fn threads_follow_the_parallelism_rule() {
    // (session, intra, inter), (in the file), (expected)
    for (flag, file, expected) in [
        ((0, 0, 0), (0, 0), (0, 0)),
        ((4, 0, 0), (0, 0), (4, 4)),
        ((4, 2, 0), (0, 0), (2, 0)),
        ((4, 0, 3), (0, 0), (0, 3)),
        ((0, 2, 3), (7, 8), (2, 3)),
        ((4, 0, 0), (7, 8), (4, 4)),
        ((0, 0, 0), (7, 8), (7, 8)),
        ((0, 2, 0), (7, 8), (2, 8)),
        ((-1, -1, -1), (0, 0), (0, 0)),
        ((0, i64::MAX, 1), (0, 0), (1024, 1)),
    ] {
        let flags = Flags {
            tensorflow_session_parallelism: flag.0,
            tensorflow_intra_op_parallelism: flag.1,
            tensorflow_inter_op_parallelism: flag.2,
            ..Flags::default()
        };
        let threads = |(intra_op, inter_op)| SessionThreads { intra_op, inter_op };
        assert_eq!(
            flags.session_threads(threads(file)),
            threads(expected),
            "{flag:?}"
        );
    }
}
