//! `reference.json` holds texts and the result that protobuf's own C++ parser gave for each: the
//! message (`message`, in hexadecimal wire form) or the first error line (`error`). Recorded from
//! TensorFlow 2.21's `tf.io.decode_proto(…, message_format="text")`, which runs
//! `TextFormat::Parser`; the wire form is that of Python's protobuf 6 for the same text. Each
//! character of a text is one byte.

use std::io::Write;

use proptest::prelude::*;
use prost_reflect::{DynamicMessage, ReflectMessage};
use serde_json::Value as Json;

use super::*;
use proto::tensorflow::serving::{
    BatchingParameters, ModelServerConfig, SslConfig, model_server_config,
};

/// Texts that only protobuf accepts: bytes that are not UTF-8 cannot be a `string` here.
const REFUSED: [&str; 5] = [
    r#"name: "\777""#,
    r#"name: "\xff""#,
    "name: \"\u{ff}\"",
    r#"name: "\ud83d""#,
    r#"model_config_list { config { name: "\U00110000" } }"#,
];

#[test]
fn texts_parse_as_in_protobuf() {
    let cases: Vec<Json> = serde_json::from_str(include_str!("reference.json")).unwrap();
    assert!(cases.len() > 200, "{}", cases.len());
    for case in &cases {
        let text = case["text"].as_str().unwrap();
        let name = case["type"].as_str().unwrap();
        let parsed = parse_any(name, &latin1(text));
        if REFUSED.contains(&text) {
            parsed.unwrap_err();
            continue;
        }
        match case["error"].as_str() {
            Some(error) => {
                let line = format!("Error parsing text-format {name}: {error}");
                assert_eq!(parsed.unwrap_err().to_string(), line, "{text:?}");
            }
            None => {
                let parsed = parsed.unwrap_or_else(|error| panic!("{text:?}: {error}"));
                if let Some(message) = case["message"].as_str() {
                    check_same(&parsed, &unhex(message), text);
                }
            }
        }
    }
}

#[track_caller]
fn check_same(parsed: &DynamicMessage, expected: &[u8], text: &str) {
    let expected = DynamicMessage::decode(parsed.descriptor(), expected).unwrap();
    let (bytes, expected_bytes) = (parsed.encode_to_vec(), expected.encode_to_vec());
    // NaN is equal only as bytes, maps are equal only as messages.
    let same = bytes == expected_bytes || *parsed == expected;
    assert!(same, "{text:?}: {bytes:x?} is not {expected_bytes:x?}");
}

fn parse_any(name: &str, text: &[u8]) -> Result<DynamicMessage, ParseError> {
    match name {
        "tensorflow.ConfigProto" => parse_described(name, text),
        _ => parse_dynamic(&SERVED, name, text),
    }
}

fn latin1(text: &str) -> Vec<u8> {
    text.chars()
        .map(|character| u8::try_from(u32::from(character)).unwrap())
        .collect()
}

fn unhex(digits: &str) -> Vec<u8> {
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

#[test]
fn strings_that_are_not_utf8_are_refused() {
    let error = parse::<SslConfig>(b"server_key: '\\xff'").unwrap_err();
    assert_eq!(
        error.to_string(),
        "Error parsing text-format tensorflow.serving.SSLConfig: 1:19: String field \"server_key\" \
         contains invalid UTF-8."
    );
}

#[test]
fn generated_messages_come_out() {
    let text =
        br#"model_config_list: { config: { name: "a", base_path: '/b'; model_type: TENSORFLOW
        version_labels { key: "stable" value: 3 } } }"#;
    let config: ModelServerConfig = parse(text).unwrap();
    let Some(model_server_config::Config::ModelConfigList(list)) = config.config else {
        panic!("{config:?}");
    };
    assert_eq!(list.config[0].name, "a");
    assert_eq!(list.config[0].base_path, "/b");
    let wire_form = list.config[0].encode_to_vec();
    assert!(
        wire_form.windows(2).any(|field| field == [0x18, 1]),
        "model_type"
    );
    assert_eq!(list.config[0].version_labels["stable"], 3);
}

#[test]
fn deep_nesting_is_refused_not_followed() {
    let text =
        "custom_model_config { [type.googleapis.com/tensorflow.serving.ModelServerConfig] { "
            .repeat(100_000);
    let error = parse::<ModelServerConfig>(text.as_bytes()).unwrap_err();
    assert!(error.reason.contains("too deep"), "{error}");
    for text in [
        "{".repeat(100_000),
        "[".repeat(100_000),
        "<".repeat(100_000),
    ] {
        parse::<ModelServerConfig>(text.as_bytes()).unwrap_err();
    }
}

#[test]
fn long_tokens_are_shortened_in_errors() {
    let error = parse::<ModelServerConfig>("x".repeat(1 << 20).as_bytes()).unwrap_err();
    assert!(error.to_string().len() < 400);
}

#[test]
fn missing_file_is_not_found() {
    check_unreadable(
        "/nonexistent/x.config",
        Code::NotFound,
        "No such file or directory",
    );
    check_unreadable("/", Code::FailedPrecondition, "Is a directory");
    check_unreadable("", Code::NotFound, "No such file or directory");
}

#[track_caller]
fn check_unreadable(path: &str, code: Code, reason: &str) {
    let error = read_file::<BatchingParameters>(Path::new(path)).unwrap_err();
    assert_eq!(error.code(), code);
    assert_eq!(error.to_string(), format!("{path}; {reason}"));
}

#[test]
fn empty_and_blank_files_are_empty_messages() {
    for text in ["", " \n\t\n", "# nothing"] {
        let file = file_of(text.as_bytes());
        let config: ModelServerConfig = read_file(file.path()).unwrap();
        assert_eq!(config, ModelServerConfig::default());
    }
}

#[test]
fn unparsable_file_names_its_path() {
    let file = file_of(b"model_config_list { config { nam: 'x' } }");
    let error = read_file::<ModelServerConfig>(file.path()).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let text = format!("Invalid protobuf file: '{}'", file.path().display());
    assert_eq!(error.to_string(), text);
}

#[test]
fn endless_file_is_refused() {
    let error = read_file::<ModelServerConfig>(Path::new("/dev/zero")).unwrap_err();
    assert_eq!(error.to_string(), "/dev/zero; larger than 67108864 bytes");
}

fn file_of(text: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text).unwrap();
    file
}

proptest! {
    #[test]
    fn no_text_panics(words in prop::collection::vec(word(), 0..40)) {
        let text = words.concat();
        let _ = parse::<ModelServerConfig>(&text);
        let _ = parse_dynamic(&SERVED, "tensorflow.TensorProto", &text);
        let _ = parse_described("tensorflow.ConfigProto", &text);
    }
}

/// A part of a typical text, or any bytes.
fn word() -> impl Strategy<Value = Vec<u8>> {
    let pieces = [
        "{",
        "}",
        "<",
        ">",
        "[",
        "]",
        ":",
        ",",
        ";",
        "-",
        ".",
        "/",
        " ",
        "\n",
        "#",
        "'",
        "\"",
        "\\",
        "\\u",
        "\\U",
        "\\x",
        "0x",
        "08",
        "1e",
        "1.5f",
        "9999999999999999999999",
        "inf",
        "model_config_list",
        "config",
        "name",
        "version_labels",
        "key",
        "value",
        "custom_model_config",
        "[type.googleapis.com/tensorflow.serving.ModelConfig]",
        "double_val",
        "int64_val",
        "string_val",
        "tensor_shape",
        "dim",
        "size",
        "dtype",
        "gpu_options",
        "device_count",
        "d83d",
    ];
    prop_oneof![
        9 => prop::sample::select(pieces.as_slice().to_vec()).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ]
}
