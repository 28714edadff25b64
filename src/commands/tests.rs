use super::*;

fn parse(line: &str) -> Option<std::result::Result<Command, String>> {
    Command::parse(line.split_whitespace().map(OsString::from))
}

#[track_caller]
fn check_shown(line: &str, tags: &[&str], shown: Shown) {
    let command = Command::Show {
        directory: "m/1".into(),
        tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
        shown,
        timeout: bounded::default_bound(),
    };
    assert_eq!(parse(line), Some(Ok(command)), "{line}");
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
        names,
    );
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
fn check_takes_the_servers_library() {
    let command = Command::Check {
        directory: "m/1".into(),
        tags: vec!["serve".to_owned()],
        backend: BackendChoice::Auto,
        onnxruntime_library: Some("x.so".into()),
        timeout: None,
    };
    assert_eq!(
        parse("server check --dir m/1 --onnxruntime_library=x.so --model_load_timeout_seconds=0"),
        Some(Ok(command))
    );
    let command = Command::Check {
        directory: "m/1".into(),
        tags: vec!["serve".to_owned()],
        backend: BackendChoice::Tract,
        onnxruntime_library: None,
        timeout: bounded::default_bound(),
    };
    assert_eq!(
        parse("server check --dir m/1 --backend tract"),
        Some(Ok(command))
    );
}

#[test]
fn commands_count_as_first_argument_only() {
    assert_eq!(parse("server"), None);
    assert_eq!(parse("server --port=1 show --dir m/1"), None);
    assert_eq!(parse("server shows --dir m/1"), None);
}

#[test]
fn wrong_arguments_are_named() {
    for (line, text) in [
        ("server show", "--dir is missing"),
        ("server show --dir", "--dir needs a value"),
        ("server check --dir=", "--dir needs a value"),
        (
            "server show --dir m --signature_def=",
            "--signature_def needs a value",
        ),
        (
            "server show --dir m --all --signature_def x",
            "--all shows every signature",
        ),
        (
            "server check --dir m --model_load_timeout_seconds soon",
            "--model_load_timeout_seconds is a whole number of seconds: soon",
        ),
        (
            "server show --dir m --tagset x",
            "unknown argument: --tagset",
        ),
        ("server show m", "unknown argument: m"),
        ("server check --dir m --all", "check runs every signature"),
        (
            "server show --dir m --onnxruntime_library x",
            "show runs nothing",
        ),
        ("server show --dir m --backend tract", "show runs nothing"),
        (
            "server check --dir m --backend other",
            "--backend is one of auto, onnxruntime, tract",
        ),
    ] {
        let error = parse(line).unwrap().unwrap_err();
        assert!(error.contains(text), "{line}: {error}");
    }
    assert_eq!(parse("server check --help"), Some(Ok(Command::Help)));
}
