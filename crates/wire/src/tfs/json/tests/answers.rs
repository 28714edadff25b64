//! Spec sections 1.8, 6, 7 and 8: E97 to E110, status and metadata.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::text;
use crate::tfs::json::Format;
use crate::tfs::json::Format::{Columnar, Row};
use crate::tfs::json::{
    VersionStatus, encode_classifications, encode_model_metadata, encode_model_status,
    encode_predict, encode_regressions, error_body,
};
use base::error::Code;
use base::tensor::{DataType, Element, Tensor};
use proto::tensorflow::tensor_info::Encoding;
use proto::tensorflow::tensor_shape_proto::Dim;
use proto::tensorflow::{SignatureDef, TensorInfo, TensorShapeProto};

fn numbers<T: Element>(shape: &[usize], elements: &[T]) -> Tensor {
    Tensor::from_vec(shape, elements.to_vec()).unwrap()
}

fn strings(shape: &[usize], elements: &[&'static str]) -> Tensor {
    let elements = elements
        .iter()
        .map(|text| Bytes::from_static(text.as_bytes()));
    Tensor::from_strings(shape, elements.collect()).unwrap()
}

fn named<const N: usize>(outputs: [(&str, Tensor); N]) -> Vec<(String, Tensor)> {
    outputs
        .map(|(alias, tensor)| (alias.to_owned(), tensor))
        .to_vec()
}

#[track_caller]
fn check<const N: usize>(outputs: [(&str, Tensor); N], format: Format, expected: &str) {
    let answer = encode_predict(&named(outputs), format).unwrap();
    assert_eq!(text(answer), expected);
}

#[track_caller]
fn check_error<const N: usize>(outputs: [(&str, Tensor); N], format: Format, expected: &str) {
    let error = encode_predict(&named(outputs), format).unwrap_err();
    assert_eq!(error.to_string(), expected);
    assert_eq!(error.code(), Code::InvalidArgument);
}

/// Long, because it has the specification's examples with their whole texts.
#[test]
fn one_output_stands_without_its_name() {
    // E97, E98, E102 to E105.
    let y = || [("y", numbers(&[3], &[2.5f32, 3.0, 4.5]))];
    check(y(), Row, "{\n    \"predictions\": [2.5, 3.0, 4.5\n    ]\n}");
    check(
        y(),
        Columnar,
        "{\n    \"outputs\": [\n        2.5,\n        3.0,\n        4.5\n    ]\n}",
    );
    let y = numbers(
        &[2, 3],
        &[9000000f32, 999999.0, 0.5, 0.0003, 0.00003, 555557.5],
    );
    check(
        [("y", y)],
        Row,
        "{\n    \"predictions\": [[9e+06, 999999.0, 0.5], [0.0003, 3e-05, 555557.5]\n    ]\n}",
    );
    let y = numbers(&[2, 3, 2], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2]);
    check(
        [("y", y)],
        Row,
        "{\n    \"predictions\": [[[1, 2], [3, 4], [5, 6]], [[7, 8], [9, 0], [1, 2]]\n    ]\n}",
    );
    check(
        [("y", numbers(&[], &[1f32]))],
        Columnar,
        "{\n    \"outputs\": 1.0\n}",
    );
    let none: &[f32] = &[];
    check(
        [("y", numbers(&[0, 2], none))],
        Row,
        "{\n    \"predictions\": []\n}",
    );
    check(
        [("y", numbers(&[0, 2], none))],
        Columnar,
        "{\n    \"outputs\": []\n}",
    );
    check(
        [("y", numbers(&[2, 0], none))],
        Row,
        "{\n    \"predictions\": [[], []\n    ]\n}",
    );
    check(
        [("y", numbers(&[2, 0], none))],
        Columnar,
        "{\n    \"outputs\": [\n        [],\n        []\n    ]\n}",
    );
    check(
        [("y", numbers(&[2], &[i64::MAX, -1]))],
        Row,
        "{\n    \"predictions\": [9223372036854775807, -1\n    ]\n}",
    );
    check(
        [("y", numbers(&[1], &[u64::MAX]))],
        Row,
        "{\n    \"predictions\": [18446744073709551615\n    ]\n}",
    );
    let bools = Tensor::from_bytes(DataType::Bool, &[2], Bytes::from_static(&[1, 0])).unwrap();
    check(
        [("y", bools)],
        Row,
        "{\n    \"predictions\": [true, false\n    ]\n}",
    );
    check(
        [("y", numbers(&[3], &[i8::MIN, 0, 99]))],
        Row,
        "{\n    \"predictions\": [-128, 0, 99\n    ]\n}",
    );
    let special = [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1.0];
    check(
        [("y", numbers(&[1, 4], &special))],
        Row,
        "{\n    \"predictions\": [[Infinity, -Infinity, NaN, 1.0]\n    ]\n}",
    );
}

#[test]
fn several_outputs_become_objects() {
    // E99, E100.
    let a = || numbers(&[2, 1], &[1f32, 2.0]);
    let b = || numbers(&[2], &[8f32, 9.0]);
    let outputs = [
        ("a", a()),
        ("b", b()),
        ("b_bytes", strings(&[2], &["x", "y"])),
        ("c", numbers(&[2, 2, 2], &[0, 1, 2, 3, 4, 5, 6, 7])),
    ];
    let expected = r#"{
    "predictions": [
        {
            "a": [1.0],
            "b": 8.0,
            "b_bytes": {
                "b64": "eA=="
            },
            "c": [[0, 1], [2, 3]]
        },
        {
            "a": [2.0],
            "b": 9.0,
            "b_bytes": {
                "b64": "eQ=="
            },
            "c": [[4, 5], [6, 7]]
        }
    ]
}"#;
    check(outputs, Row, expected);
    let expected = r#"{
    "outputs": {
        "a": [
            [
                1.0
            ],
            [
                2.0
            ]
        ],
        "b": [
            8.0,
            9.0
        ]
    }
}"#;
    check([("a", a()), ("b", b())], Columnar, expected);
}

#[test]
fn bytes_outputs_are_base64_objects() {
    // E101.
    let expected = r#"{
    "predictions": [{
            "b64": "aGVsbG8="
        }, {
            "b64": "d29ybGQ="
        }
    ]
}"#;
    let two = || strings(&[2], &["hello", "world"]);
    check([("s_bytes", two())], Row, expected);
    let expected = r#"{
    "predictions": [[{
                "b64": "aGVsbG8="
            }, {
                "b64": "d29ybGQ="
            }], [{
                "b64": "dGY="
            }, {
                "b64": "c2VydmluZw=="
            }]
    ]
}"#;
    let four = strings(&[2, 2], &["hello", "world", "tf", "serving"]);
    check([("s_bytes", four)], Row, expected);
    let expected = r#"{
    "outputs": [
        {
            "b64": "aGVsbG8="
        },
        {
            "b64": "d29ybGQ="
        }
    ]
}"#;
    check([("s_bytes", two())], Columnar, expected);
    // Section 6.5: strings only.
    let numbers = numbers(&[1], &[7]);
    check(
        [("n_bytes", numbers)],
        Columnar,
        "{\n    \"outputs\": [\n        7\n    ]\n}",
    );
}

#[test]
fn strings_are_escaped_and_not_checked() {
    // Section 6.5.
    let string = Bytes::from_static(b"\"\\\x08\x0c\n\r\t\x1f\x00/\x7f\xff");
    let tensor = Tensor::from_strings(&[], vec![string]).unwrap();
    let answer = encode_predict(&named([("s", tensor)]), Columnar).unwrap();
    let expected = b"{\n    \"outputs\": \"\\\"\\\\\\b\\f\\n\\r\\t\\u001F\\u0000/\x7f\xff\"\n}";
    assert_eq!(answer, expected);
}

#[test]
fn unfit_outputs_are_named() {
    // Section 6.2.
    let three = || numbers(&[3], &[1, 2, 3]);
    check_error(
        [("a", three()), ("y", numbers(&[], &[1]))],
        Row,
        "Tensor name: y has no shape information ",
    );
    check_error(
        [("a", three()), ("b", numbers(&[2], &[1, 2]))],
        Row,
        "Tensor name: b has inconsistent batch size: 2 expecting: 3",
    );
    check_error([], Row, "Cannot convert empty tensor map to JSON");
    let half = || Tensor::zeros(DataType::Half, &[1]).unwrap();
    for format in [Row, Columnar] {
        let expected = "Failed to write JSON value for tensor type: half";
        check_error([("y", half())], format, expected);
    }
    let none = Tensor::zeros(DataType::Half, &[2, 0]).unwrap();
    check(
        [("y", none)],
        Row,
        "{\n    \"predictions\": [[], []\n    ]\n}",
    );
}

#[test]
fn classifications_and_regressions_have_their_layouts() {
    let labels = |classes: &[(&'static str, f32)]| -> Vec<(&'static [u8], f32)> {
        classes
            .iter()
            .map(|&(label, score)| (label.as_bytes(), score))
            .collect()
    };
    // E107 to E110, and the recorded cls_context.
    let answer = encode_classifications([
        labels(&[("car", 0.2), ("bike", 0.7), ("bus", 0.1)]),
        labels(&[("car", 0.7), ("bike", 0.1), ("bus", 0.2)]),
    ]);
    assert_eq!(
        text(answer.unwrap()),
        "{\n    \"results\": [[[\"car\", 0.2], [\"bike\", 0.7], [\"bus\", 0.1]], \
         [[\"car\", 0.7], [\"bike\", 0.1], [\"bus\", 0.2]]\n    ]\n}"
    );
    let answer = encode_classifications([labels(&[("", 12.0)])]);
    assert_eq!(
        text(answer.unwrap()),
        "{\n    \"results\": [[[\"\", 12.0]]\n    ]\n}"
    );
    let answer = encode_classifications([labels(&[])]);
    assert_eq!(text(answer.unwrap()), "{\n    \"results\": [[]\n    ]\n}");
    let error = encode_classifications(Vec::<Vec<(&[u8], f32)>>::new()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Cannot convert empty ClassificationResults to JSON"
    );

    let values = [0.2, 0.9, 1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    assert_eq!(
        text(encode_regressions(&values).unwrap()),
        "{\n    \"results\": [0.2, 0.9, 1.0, Infinity, -Infinity, NaN]\n}"
    );
    let error = encode_regressions(&[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Cannot convert empty RegressionResults to JSON"
    );
}

#[test]
fn errors_have_one_member() {
    // Section 1.8.
    assert_eq!(
        text(error_body("a \"b\"\n")),
        "{\n    \"error\": \"a \\\"b\\\"\\n\"\n}"
    );
}

#[test]
fn status_lists_versions_as_given() {
    // Section 7.1; recorded: status_multi_version.
    let available = |version| VersionStatus {
        version,
        state: "AVAILABLE",
        error_code: Code::Ok,
        error_message: String::new(),
    };
    let one = |version| {
        format!(
            "  {{\n   \"version\": \"{version}\",\n   \"state\": \"AVAILABLE\",\n   \"status\": {{\n    \
             \"error_code\": \"OK\",\n    \"error_message\": \"\"\n   }}\n  }}"
        )
    };
    let answer = encode_model_status(&[available(3), available(2)]);
    let expected = format!(
        "{{\n \"model_version_status\": [\n{},\n{}\n ]\n}}\n",
        one(3),
        one(2)
    );
    assert_eq!(text(answer), expected);
}

/// Recorded: metadata of a model with versions, its signatures sorted here.
const METADATA: &str = include_str!("metadata.json");

#[test]
fn metadata_is_glued_from_two_documents() {
    let info = |name: &str, dtype, dims: Option<&[i64]>| TensorInfo {
        encoding: Some(Encoding::Name(name.to_owned())),
        dtype,
        tensor_shape: Some(TensorShapeProto {
            dim: dims
                .unwrap_or_default()
                .iter()
                .map(|&size| Dim {
                    size,
                    name: String::new(),
                })
                .collect(),
            unknown_rank: dims.is_none(),
        }),
    };
    let serving_default = SignatureDef {
        inputs: BTreeMap::from([("x".to_owned(), info("serving_default_x:0", 1, Some(&[-1])))]),
        outputs: BTreeMap::from([("y".to_owned(), info("PartitionedCall:0", 1, Some(&[-1])))]),
        method_name: "tensorflow/serving/predict".to_owned(),
        defaults: BTreeMap::new(),
    };
    let init = SignatureDef {
        outputs: BTreeMap::from([("__saved_model_init_op".to_owned(), info("NoOp", 0, None))]),
        ..SignatureDef::default()
    };
    let signatures = BTreeMap::from([
        ("serving_default".to_owned(), serving_default),
        ("__saved_model_init_op".to_owned(), init),
    ]);
    let answer = encode_model_metadata("vers", 3, signatures).unwrap();
    assert_eq!(text(answer), METADATA);
}
