use super::*;

fn parse(line: &str) -> Option<Result<Command, Refusal>> {
    Command::parse(line.split_whitespace().map(OsString::from))
}

#[track_caller]
fn check_shown(line: &str, tags: &[&str], shown: Shown) {
    let Some(Ok(Command::Show(arguments))) = parse(line) else {
        panic!("{line}");
    };
    assert_eq!(arguments.version.dir, PathBuf::from("m/1"), "{line}");
    assert_eq!(arguments.version.tags(), tags, "{line}");
    assert_eq!(arguments.shown(), shown, "{line}");
    assert_eq!(
        arguments.version.timeout(),
        Some(Duration::from_secs(1800)),
        "{line}"
    );
}

/// The combinations that TensorFlow's `saved_model_cli show` accepts.
#[test]
fn show_takes_the_flags_of_saved_model_cli() {
    check_shown("server show --dir m/1", &["serve"], Shown::TagSets);
    check_shown("server show --dir=m/1 --all", &["serve"], Shown::All);
    let names = Shown::SignatureNames;
    check_shown(
        "server show --tag_set serve,gpu --dir m/1",
        &["serve", "gpu"],
        names.clone(),
    );
    // A meta graph can be without tags.
    check_shown("server show --tag_set= --dir m/1", &[""], names);
    let signature = Shown::Signature("a=b".to_owned());
    check_shown(
        "server show --dir m/1 --tag_set serve --signature_def a=b",
        &["serve"],
        signature.clone(),
    );
    check_shown(
        "server show --dir m/1 --signature_def=a=b",
        &["serve"],
        signature,
    );
}

#[test]
fn last_value_of_a_command_wins() {
    check_shown(
        "server show --dir x --tag_set a,b --dir m/1 --tag_set c --all --all",
        &["c"],
        Shown::All,
    );
}

#[track_caller]
fn checked(line: &str) -> CheckArguments {
    match parse(line) {
        Some(Ok(Command::Check(arguments))) => arguments,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn check_takes_the_servers_library() {
    let arguments =
        checked("server check --dir m/1 --onnxruntime_library=x.so --model_load_timeout_seconds=0");
    assert_eq!(arguments.version.dir, PathBuf::from("m/1"));
    assert_eq!(arguments.version.tags(), ["serve"]);
    assert_eq!(arguments.backend, BackendChoice::Auto);
    assert_eq!(arguments.onnxruntime_library, Some("x.so".into()));
    assert_eq!(arguments.version.timeout(), None);

    let arguments = checked("server check --dir m/1 --backend tract");
    assert_eq!(arguments.backend, BackendChoice::Tract);
    assert_eq!(arguments.onnxruntime_library, None);
    let arguments = checked("server check --dir m/1 --model_load_timeout_seconds 90");
    assert_eq!(arguments.version.timeout(), Some(Duration::from_secs(90)));
}

#[test]
fn health_takes_the_servers_flags() {
    let flags = |line| match parse(line) {
        Some(Ok(Command::Health { flags })) => flags,
        other => panic!("{other:?}"),
    };
    assert_eq!(flags("server health"), [""; 0]);
    assert_eq!(
        flags("server health --port=1 --enable_batching x"),
        ["--port=1", "--enable_batching", "x"]
    );
}

#[test]
fn commands_count_as_first_argument_only() {
    assert_eq!(parse("server"), None);
    assert_eq!(parse("server --port=1 show --dir m/1"), None);
    assert_eq!(parse("server shows --dir m/1"), None);
    assert_eq!(parse("server help"), None);
}

#[test]
fn wrong_arguments_are_named() {
    for (line, text) in [
        ("server show", "--dir <DIR>"),
        ("server show --dir", "a value is required for '--dir <DIR>'"),
        (
            "server check --dir=",
            "a value is required for '--dir <DIR>'",
        ),
        (
            "server show --dir m --signature_def=",
            "a value is required for '--signature_def <NAME>'",
        ),
        (
            "server show --dir m --all --signature_def x",
            "'--all' cannot be used with '--signature_def <NAME>'",
        ),
        (
            "server check --dir m --model_load_timeout_seconds soon",
            "invalid value 'soon' for '--model_load_timeout_seconds <SECONDS>'",
        ),
        (
            "server check --dir m --model_load_timeout_seconds=-1",
            "invalid value '-1' for '--model_load_timeout_seconds <SECONDS>'",
        ),
        (
            "server show --dir m --tagset x",
            "unexpected argument '--tagset'",
        ),
        ("server show --dir m m2", "unexpected argument 'm2'"),
        ("server check --dir m --all", "unexpected argument '--all'"),
        (
            "server show --dir m --onnxruntime_library x",
            "unexpected argument '--onnxruntime_library'",
        ),
        (
            "server show --dir m --backend tract",
            "unexpected argument '--backend'",
        ),
        (
            "server check --dir m --backend other",
            "expected one of auto, onnxruntime, tract",
        ),
    ] {
        let refusal = parse(line).unwrap().unwrap_err();
        assert!(refusal.is_error);
        assert!(refusal.text.contains(text), "{line}: {}", refusal.text);
    }
}

#[test]
fn secrets_on_the_command_line_are_not_repeated() {
    for line in [
        "server hash_password hunter2",
        "server hash_token --hunter2=x",
    ] {
        let refusal = parse(line).unwrap().unwrap_err();
        assert!(refusal.is_error);
        assert!(refusal.text.contains("it reads stdin"), "{}", refusal.text);
        assert!(!refusal.text.contains("hunter2"), "{}", refusal.text);
    }
}

#[test]
fn each_command_has_its_help() {
    for (line, text) in [
        ("server show --help", "Usage: server show"),
        ("server check -h", "--onnxruntime_library <FILE>"),
        ("server health --help", "Usage: server health"),
        ("server hash_token --help", "token_sha256"),
        ("server hash_password --help", "password_argon2"),
    ] {
        let refusal = parse(line).unwrap().unwrap_err();
        assert!(!refusal.is_error, "{line}");
        assert!(refusal.text.contains(text), "{line}: {}", refusal.text);
    }
}

#[test]
fn import_needs_a_target_or_lists_operators() {
    let imported = |line: &str| match parse(line) {
        Some(Ok(Command::Import(arguments))) => arguments,
        other => panic!("{line}: {other:?}"),
    };
    let line = "server import m --output n --rename a=b --rename c=d --saved_model_tags x,y";
    let arguments = imported(line);
    assert_eq!(arguments.output, Some(PathBuf::from("n")));
    assert_eq!(arguments.rename, ["a=b", "c=d"]);
    assert_eq!(arguments.tags(), ["x", "y"]);
    assert!(!arguments.saved_model_partial);
    for flag in ["--list_ops", "--list-ops"] {
        let arguments = imported(&format!("server import {flag} m"));
        assert_eq!(arguments.output, None);
        assert_eq!(arguments.tags(), ["serve"]);
    }
    for line in ["server import m", "server import m --output n --list_ops"] {
        assert!(
            matches!(parse(line), Some(Err(refusal)) if refusal.is_error),
            "{line}"
        );
    }
}

#[test]
fn run_and_example_have_a_signature() {
    let Some(Ok(Command::Run(arguments))) =
        parse("server run --dir m/1 --inputs x=a.npy;y=b.npz[c]")
    else {
        panic!("not run");
    };
    assert_eq!(arguments.signature_def, "serving_default");
    assert_eq!(arguments.inputs, "x=a.npy;y=b.npz[c]");
    let Some(Ok(Command::Example(arguments))) = parse("server example --dir m/1") else {
        panic!("not example");
    };
    assert_eq!(arguments.signature_def, None);
}
