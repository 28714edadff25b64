//! Spec section 4: E21 to E80.

mod kept_aliases;
mod refusals;

use super::{Inputs, X_FLOAT, decode, specs};
use crate::tfs::json::{
    Format, InputSpec, PredictBody, decode_predict, no_inputs, signature_not_found,
};
use base::error::{Code, ServingError};
use base::tensor::{DataType, Element, Tensor};

const XY_FLOAT: Inputs<'_> = &[("x", DataType::Float), ("y", DataType::Float)];

const fn x(dtype: DataType) -> [(&'static str, DataType); 1] {
    [("x", dtype)]
}

#[track_caller]
fn check<T: Element>(dtype: DataType, body: &str, shape: &[usize], elements: Vec<T>) {
    check_tensor(&decode(&x(dtype), body).unwrap(), "x", shape, elements);
}

#[track_caller]
fn check_tensor<T: Element>(body: &PredictBody, alias: &str, shape: &[usize], elements: Vec<T>) {
    let expected = Tensor::from_vec(shape, elements).unwrap();
    let tensor = &body.inputs[alias];
    assert_eq!(tensor.shape(), shape);
    assert_eq!(*tensor, expected);
}

#[track_caller]
fn check_strings(body: &PredictBody, alias: &str, shape: &[usize], expected: &[&str]) {
    let tensor = &body.inputs[alias];
    assert_eq!(tensor.shape(), shape);
    let strings: Vec<&[u8]> = tensor.strings().unwrap().iter().map(|s| &s[..]).collect();
    let expected: Vec<&[u8]> = expected.iter().map(|text| text.as_bytes()).collect();
    assert_eq!(strings, expected);
}

#[track_caller]
fn rejected(inputs: Inputs<'_>, body: &str) -> ServingError {
    decode(inputs, body).unwrap_err()
}

/// Checks an error of the whole request, or of an element of `instances`.
#[track_caller]
fn check_error(inputs: Inputs<'_>, body: &str, expected: &str) {
    let error = rejected(inputs, body);
    assert_eq!(error.to_string(), expected);
    assert_eq!(error.code(), Code::InvalidArgument);
}

#[track_caller]
fn check_element_error(inputs: Inputs<'_>, body: &str, place: &str, expected: &str) {
    let expected =
        format!("Failed to process element: {place} of 'instances' list. Error: {expected}");
    check_error(inputs, body, &expected);
}

/// Long, because it has the specification's examples of every dtype.
#[test]
fn numbers_become_tensors_of_their_dtype() {
    use DataType::*;

    // E21, E24 to E29.
    check(
        Int32,
        r#"{"instances": [[1,2],[3,4],[5,6]]}"#,
        &[3, 2],
        vec![1, 2, 3, 4, 5, 6],
    );
    check(
        Float,
        r#"{"instances": [1, 2.0, 3, 4, 5.003, 0.007, 0.0]}"#,
        &[7],
        vec![1f32, 2.0, 3.0, 4.0, 5.003, 0.007, 0.0],
    );
    check(
        Double,
        r#"{"instances": [1.0, 2, 3, 4, 0.662, 0, 0.0]}"#,
        &[7],
        vec![1f64, 2.0, 3.0, 4.0, 0.662, 0.0, 0.0],
    );
    for body in [
        r#"{"instances": [1435774380]}"#,
        r#"{"instances": [1435774380.0]}"#,
    ] {
        check(Float, body, &[1], vec![1435774336f32]);
    }
    let body = r#"{"instances": [1.79769e+308, -1.79769e+308, 2.22507e-308, -2.22507e-308]}"#;
    check(
        Float,
        body,
        &[4],
        vec![f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0],
    );
    // Section 3: `-0` is the integer 0.
    check(
        Float,
        r#"{"instances": [-0, -0.0, 0]}"#,
        &[3],
        vec![0f32, -0.0, 0.0],
    );
    // E41, E42: no range check below 32 bits.
    check(Int8, r#"{"instances":[300,-200]}"#, &[2], vec![44i8, 56]);
    check(UInt8, r#"{"instances":[-1,256]}"#, &[2], vec![255u8, 0]);
    // E48.
    check(
        UInt64,
        r#"{"instances":[18446744073709551615]}"#,
        &[1],
        vec![u64::MAX],
    );
    check(
        Int64,
        r#"{"instances":[-9223372036854775808]}"#,
        &[1],
        vec![i64::MIN],
    );
    check(
        UInt32,
        r#"{"instances":[4294967295,-0]}"#,
        &[2],
        vec![u32::MAX, 0],
    );
}

#[test]
fn signature_name_is_taken_from_anywhere() {
    // E29.
    let bodies = [
        r#"{"signature_name":"predict_images","instances":[[1,2]]}"#,
        r#"{"instances":[[1,2]],"signature_name":"predict_images"}"#,
        r#"{"instances":[[1,2]],"signature_name":"predict_images","signature_name":"other"}"#,
    ];
    for body in bodies {
        let decoded = decode_predict(body.as_bytes(), |name| match name {
            "predict_images" => Ok(specs(&x(DataType::Int32))),
            _ => Ok(specs(X_FLOAT)),
        });
        let decoded = decoded.unwrap();
        assert_eq!(decoded.signature_name, "predict_images");
        check_tensor(&decoded, "x", &[1, 2], vec![1i32, 2]);
    }
}

#[test]
fn strings_come_plain_or_in_base64() {
    let string = &x(DataType::String);
    // E30 to E33.
    let body = r#"{"instances":[{"b64":"aGVsbG8="},{"b64":"d29ybGQ="}]}"#;
    check_strings(
        &decode(string, body).unwrap(),
        "x",
        &[2],
        &["hello", "world"],
    );
    let body = r#"{"instances":[[{"b64":"aGVsbG8="}],[{"b64":"d29ybGQ="}]]}"#;
    check_strings(
        &decode(string, body).unwrap(),
        "x",
        &[2, 1],
        &["hello", "world"],
    );
    let body = r#"{"instances":[{"x":[[{"b64":"aGVsbG8="}],[{"b64":"d29ybGQ="}]]}]}"#;
    check_strings(
        &decode(string, body).unwrap(),
        "x",
        &[1, 2, 1],
        &["hello", "world"],
    );
    let body = r#"{"instances":[{"b64":"aGVsbG8="},"plain"]}"#;
    check_strings(
        &decode(string, body).unwrap(),
        "x",
        &[2],
        &["hello", "plain"],
    );
    // Section 4.2: the forms that Abseil accepts.
    let cases = [
        ("aGVsbG8", "hello"),
        ("aGVs bG8=", "hello"),
        (r"aGVsbG8=\n", "hello"),
        ("YQ", "a"),
        ("YQ==", "a"),
        ("YQ..", "a"),
        ("", ""),
        (r"YWI\u003d", "ab"),
    ];
    for (base64, expected) in cases {
        let body = format!(r#"{{"inputs":{{"b64":"{base64}"}}}}"#);
        check_strings(&decode(string, body).unwrap(), "x", &[], &[expected]);
    }
    for base64 in ["-_-_", "a", "YQ=", "YQ===", "YQ==YQ==", "===="] {
        let body = format!(r#"{{"inputs":{{"b64":"{base64}"}}}}"#);
        check_error(string, &body, "Unable to base64 decode");
    }
}

#[test]
fn objects_of_several_inputs_make_batches() {
    // E34.
    let inputs: Inputs<'_> = &[
        ("dbl_tensor", DataType::Double),
        ("float_tensor", DataType::Float),
        ("int_tensor", DataType::Int32),
        ("str_tensor", DataType::String),
    ];
    let body = r#"{"instances":[
        {"int_tensor":[[1,2],[3,4],[5,6]],"str_tensor":["foo","bar"],
         "float_tensor":[1.0,NaN],"dbl_tensor":[NaN]},
        {"int_tensor":[[7,8],[9,0],[1,2]],"str_tensor":["baz","bat"],
         "float_tensor":[2.0,Infinity],"dbl_tensor":[2.0]}]}"#;
    let body = decode(inputs, body).unwrap();
    let int = vec![1i32, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2];
    check_tensor(&body, "int_tensor", &[2, 3, 2], int);
    check_strings(&body, "str_tensor", &[2, 2], &["foo", "bar", "baz", "bat"]);
    let float = vec![1.0f32, f32::NAN, 2.0, f32::INFINITY];
    check_tensor(&body, "float_tensor", &[2, 2], float);
    check_tensor(&body, "dbl_tensor", &[2, 1], vec![f64::NAN, 2.0]);
}

#[test]
fn columnar_values_keep_their_nesting() {
    use DataType::*;

    // E35 to E40.
    for body in [
        r#"{"inputs":{"x":[[[1,2],[3,4],[5,6]]]}}"#,
        r#"{"inputs":[[[1,2],[3,4],[5,6]]]}"#,
    ] {
        check(Int32, body, &[1, 3, 2], vec![1, 2, 3, 4, 5, 6]);
        assert_eq!(decode(&x(Int32), body).unwrap().format, Format::Columnar);
    }
    let inputs: Inputs<'_> = &[
        ("bin_tensor", String),
        ("int_tensor", Int32),
        ("str_tensor", String),
    ];
    let body = r#"{"inputs":{"int_tensor":[[[1,2],[3,4],[5,6]]],"str_tensor":["foo","bar"],"bin_tensor":{"b64":"aGVsbG8="}}}"#;
    let body = decode(inputs, body).unwrap();
    check_tensor(&body, "int_tensor", &[1, 3, 2], vec![1i32, 2, 3, 4, 5, 6]);
    check_strings(&body, "str_tensor", &[2], &["foo", "bar"]);
    check_strings(&body, "bin_tensor", &[], &["hello"]);
    for body in [r#"{"inputs": 5}"#, r#"{"inputs":{"x":5}}"#] {
        check(Float, body, &[], vec![5f32]);
    }
    check(
        Float,
        r#"{"inputs":{"x":[1,2],"zzz":"ignored"}}"#,
        &[2],
        vec![1f32, 2.0],
    );
    let none: Vec<f32> = Vec::new();
    check(Float, r#"{"instances": [[]]}"#, &[1, 0], none.clone());
    check(Float, r#"{"instances": [[],[]]}"#, &[2, 0], none.clone());
    check(Float, r#"{"inputs": []}"#, &[0], none.clone());
    check(Float, r#"{"inputs": [[],[]]}"#, &[2, 0], none);
    // A type that JSON cannot represent can still be empty.
    let half = decode(&x(Half), r#"{"inputs": [[]]}"#).unwrap();
    assert_eq!(half.inputs["x"].shape(), [1, 0]);
}

#[test]
fn repeated_keys_follow_the_original() {
    // E78: the tensor keeps the elements that fit.
    check(
        DataType::Float,
        r#"{"instances":[{"x":1,"x":2}]}"#,
        &[1],
        vec![1f32],
    );
    // Section 3: of members that are looked up by name, the first counts.
    check(
        DataType::Float,
        r#"{"instances":[1],"instances":[2,3]}"#,
        &[1],
        vec![1f32],
    );
    check(
        DataType::Float,
        r#"{"inputs":{"x":[1],"x":[2,3]}}"#,
        &[1],
        vec![1f32],
    );
}

#[test]
fn keys_may_be_escaped() {
    check(
        DataType::Float,
        r#"{"inst\u0061nces":[{"\u0078":1},{"x":2}]}"#,
        &[2],
        vec![1f32, 2.0],
    );
    // Section 3: keys that are iterated over end at a zero byte.
    check(
        DataType::Float,
        r#"{"instances":[{"x\u0000y":1}]}"#,
        &[1],
        vec![1f32],
    );
}

#[test]
fn resolving_comes_between_syntax_and_tensors() {
    let not_found = || signature_not_found("nope");
    let resolve = |body: &str| decode_predict(body.as_bytes(), |_| Err(not_found())).unwrap_err();
    // Section 2: order of evaluation.
    let text = resolve(r#"{"signature_name":"nope","instances":[1"#).to_string();
    assert!(text.starts_with("JSON Parse error"), "{text}");
    let text = resolve(r#"{"signature_name":1,"instances":[1]}"#).to_string();
    assert!(
        text.ends_with("'signature_name' key must be a string value."),
        "{text}"
    );
    let text = resolve(r#"{"signature_name":"nope"}"#).to_string();
    assert_eq!(
        text,
        "Serving signature name: \"nope\" not found in signature def"
    );
    // Section 4.1.
    let none = decode_predict(br#"{"instances":[{}]}"#, |_| Ok(Vec::new())).unwrap_err();
    assert_eq!(
        none.to_string(),
        "Failed to get input map for signature: DEFAULT"
    );
    let named = no_inputs("noin").to_string();
    assert_eq!(named, "Failed to get input map for signature: noin");
}

#[test]
fn output_filter_is_a_list_of_strings() {
    // An addition of this server.
    let body = decode(X_FLOAT, r#"{"output_filter":["a","b"],"inputs":1}"#).unwrap();
    assert_eq!(body.output_filter, ["a", "b"]);
    for filter in ["5", r#""a""#, "[1]", "null"] {
        let error = rejected(
            X_FLOAT,
            &format!(r#"{{"output_filter":{filter},"inputs":1}}"#),
        );
        let text = error.to_string();
        assert!(
            text.ends_with("'output_filter' key must be a list of strings."),
            "{text}"
        );
    }
}

#[test]
fn numbers_are_rounded_correctly() {
    // Numbers of several lengths around ties, compared with the standard library.
    let texts = [
        "0.1",
        "123456789012345678",
        "0.30000001192092896",
        "9007199254740993",
        "16777217",
        "1.000000059604644775390625",
        "1.00000005960464477539062500001",
        "3.4028235677973366e38",
        "1.17549435e-38",
        "7.0385307e-26",
        "1e-45",
        "4.9e-324",
        "0.000000000000000000000001234",
        "123456789.123456789123456789",
        "1e22",
        "1e23",
        "8.41e21",
        "-2.2250738585072011e-308",
        "0.13436424411240122",
        "18446744073709551616",
        "-9223372036854775809",
    ];
    for text in texts {
        let value: f64 = text.parse().unwrap();
        let body = format!(r#"{{"instances":[{text}, {text} ]}}"#);
        check(DataType::Double, &body, &[2], vec![value, value]);
        check(
            DataType::Float,
            &body,
            &[2],
            vec![value as f32, value as f32],
        );
    }
}

#[test]
fn a_tensor_has_up_to_254_dimensions() {
    let nested = |levels: usize, inside: &str| {
        format!("{}{inside}{}", "[".repeat(levels), "]".repeat(levels))
    };
    let ones = vec![1; 254];
    let inputs = format!(r#"{{"inputs":{}}}"#, nested(254, "1"));
    check(DataType::Float, &inputs, &ones, vec![1_f32]);
    let instances = format!(r#"{{"instances":{}}}"#, nested(254, "1"));
    check(DataType::Float, &instances, &ones, vec![1_f32]);
    for body in [
        format!(r#"{{"inputs":{}}}"#, nested(255, "1")),
        format!(r#"{{"instances":{}}}"#, nested(255, "1")),
        format!(r#"{{"instances":[{{"x":{}}}]}}"#, nested(254, "1")),
    ] {
        check_error(X_FLOAT, &body, "tensor parsing error: x");
    }
    // Errors at deeper levels are still reported, with the sizes that were seen first.
    for (inside, expected) in [
        (
            "[1],[1,2]",
            "Encountered list at unexpected size: 2 at level: 600 expected size: 1",
        ),
        (
            "1,[1]",
            "Encountered list at unexpected level: 600 expected < 600",
        ),
        (
            "[1],1",
            "JSON Value: 1 found at incorrect level: 601 in the JSON DOM. Expected at level: 601",
        ),
    ] {
        let body = format!(r#"{{"inputs":{}}}"#, nested(600, inside));
        check_error(X_FLOAT, &body, expected);
    }
    let long = format!("[{}1],[1]", "1,".repeat(299));
    let body = format!(r#"{{"inputs":{}}}"#, nested(600, &long));
    check_error(
        X_FLOAT,
        &body,
        "Encountered list at unexpected size: 1 at level: 600 expected size: 300",
    );
}
