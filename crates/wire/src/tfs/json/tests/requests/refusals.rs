//! Refused requests and the texts of their errors. Not here: accepted requests (`requests`).

use super::*;

/// Long, because it is a table of the specification's examples.
#[test]
fn values_of_other_types_are_named() {
    use DataType::*;

    // E43 to E53.
    let cases = [
        (
            Float,
            r#""x","y""#,
            r#"INVALID_ARGUMENT: JSON Value: "x" Type: String is not of expected type: float"#,
        ),
        (
            Int32,
            "1.0",
            "INVALID_ARGUMENT: JSON Value: 1.0 Type: Number is not of expected type: int32",
        ),
        (
            Int32,
            "1e2",
            "INVALID_ARGUMENT: JSON Value: 100.0 Type: Number is not of expected type: int32",
        ),
        (
            Int32,
            "2147483648",
            "INVALID_ARGUMENT: JSON Value: 2147483648 Type: Number is not of expected type: int32",
        ),
        (
            Int64,
            "9223372036854775808",
            "INVALID_ARGUMENT: JSON Value: 9223372036854775808 Type: Number is not of expected type: int64",
        ),
        (
            Bool,
            "1",
            "INVALID_ARGUMENT: JSON Value: 1 Type: Number is not of expected type: bool",
        ),
        (
            Float,
            "true",
            "INVALID_ARGUMENT: JSON Value: true Type: True is not of expected type: float",
        ),
        (
            Half,
            "1.0",
            "UNIMPLEMENTED: Conversion of JSON Value: 1.0 to type: half",
        ),
        (
            String,
            r#"{"b64":"!!!"}"#,
            "INVALID_ARGUMENT: Unable to base64 decode",
        ),
        (
            UInt32,
            "-1",
            "INVALID_ARGUMENT: JSON Value: -1 Type: Number is not of expected type: uint32",
        ),
        (
            Float,
            "null",
            "INVALID_ARGUMENT: JSON Value: null Type: Null is not of expected type: float",
        ),
    ];
    for (dtype, value, expected) in cases {
        let body = format!(r#"{{"instances":[{value}]}}"#);
        check_element_error(&x(dtype), &body, "0", expected);
    }
    // E52: not wrapped, so the code shows.
    let error = rejected(&x(BFloat16), r#"{"inputs":[1.0]}"#);
    assert_eq!(error.code(), Code::Unimplemented);
    assert_eq!(
        error.to_string(),
        "Conversion of JSON Value: 1.0 to type: bfloat16"
    );
    // E54 to E57, E79.
    check_element_error(
        &x(String),
        r#"{"instances":[{"b64":5}]}"#,
        "0 key: b64",
        "INVALID_ARGUMENT: JSON object: does not have named input: b64",
    );
    check_error(
        &x(String),
        r#"{"inputs":[[{"b64":"YQ==","z":1}]]}"#,
        "JSON Value: {\n    \"b64\": \"YQ==\",\n    \"z\": 1\n} not formatted correctly for base64 data",
    );
    check_error(
        X_FLOAT,
        r#"{"inputs":{"b64":"YQ=="}}"#,
        "JSON Value: {\n    \"b64\": \"YQ==\"\n} Type: Object is not of expected type: float",
    );
    check_element_error(
        X_FLOAT,
        r#"{"instances":[{"y":1.5}]}"#,
        "0 key: y",
        "INVALID_ARGUMENT: JSON object: does not have named input: y",
    );
    check_error(
        X_FLOAT,
        r#"{"inputs":null}"#,
        "JSON Value: null Type: Null is not of expected type: float",
    );
}

#[test]
fn wrong_sets_of_inputs_are_named() {
    // E58 to E62, E72, E73.
    let cases: &[(Inputs<'_>, &str, &str)] = &[
        (
            X_FLOAT,
            r#"{"instances":[{}]}"#,
            "Failed to process element: 0 of 'instances' list. JSON object: {} keys must be equal to: x",
        ),
        (
            XY_FLOAT,
            r#"{"instances":[{"x":1.5}]}"#,
            "Failed to process element: 0 of 'instances' list. JSON object: {\n    \"x\": 1.5\n} keys must be equal to: x,y",
        ),
        (
            XY_FLOAT,
            r#"{"instances":[1.5]}"#,
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per tensorinfo_map",
        ),
        (
            XY_FLOAT,
            r#"{"instances":[{"x":1,"y":2},[1,2]]}"#,
            "Expecting object but got list at item 1 of input list",
        ),
        (
            X_FLOAT,
            r#"{"instances":[1,{"x":2}]}"#,
            "Expecting value/list but got object at item 1 of input list",
        ),
        (
            X_FLOAT,
            r#"{"inputs":{}}"#,
            "Missing named input: x in 'inputs' object.",
        ),
        (
            XY_FLOAT,
            r#"{"inputs":[1,2]}"#,
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as per tensorinfo_map",
        ),
    ];
    for (inputs, body, expected) in cases {
        check_error(inputs, body, expected);
    }
}

/// Long, because it is a table of the specification's examples.
#[test]
fn uneven_nesting_is_named() {
    // E63 to E69, E80.
    let cases = [
        ("[1,2],[3]", "1", "Expecting tensor size: 2 but got: 1"),
        ("[1,2],[[3,4]]", "1", "Expecting shape [2] but got: [1,2]"),
        ("1,[1]", "1", "Expecting shape [] but got: [1]"),
        (
            "[1,[2]]",
            "0",
            "Encountered list at unexpected level: 1 expected < 1",
        ),
        (
            "[[1],2]",
            "0",
            "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
        ),
        (
            "[[1,2],[3]]",
            "0",
            "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
        ),
        (
            r#"{"x":[1,2]},{"x":[1]}"#,
            "1 key: x",
            "Expecting tensor size: 2 but got: 1",
        ),
        // A list's size is checked before its elements.
        (
            r#"[[1,2],["a",3,4]]"#,
            "0",
            "Encountered list at unexpected size: 3 at level: 1 expected size: 2",
        ),
        (
            "[[[1],[2]],[[[3]]]]",
            "0",
            "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
        ),
        (
            "[[],[[]]]",
            "0",
            "Encountered list at unexpected size: 1 at level: 1 expected size: 0",
        ),
        (
            "[[1],[]]",
            "0",
            "Encountered list at unexpected size: 0 at level: 1 expected size: 1",
        ),
    ];
    for (elements, place, expected) in cases {
        let body = format!(r#"{{"instances":[{elements}]}}"#);
        check_element_error(
            X_FLOAT,
            &body,
            place,
            &format!("INVALID_ARGUMENT: {expected}"),
        );
    }
    check_error(
        X_FLOAT,
        r#"{"inputs":[[1,2],[3]]}"#,
        "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
    );
}

#[test]
fn top_level_errors_show_the_document() {
    // E70, E71, E74 to E77.
    let list: Vec<String> = (1..=80).map(|number| number.to_string()).collect();
    let shown: Vec<String> = (1..=62).map(|number| number.to_string()).collect();
    let long = format!(r#"{{"instances":[{}],"inputs":[1]}}"#, list.join(","));
    let long_error = format!(
        "JSON Value: {{\n    \"instances\": [{} Not formatted correctly expecting only one of \
         'inputs' or 'instances' keys to exist ",
        shown.join(", ")
    );
    let cases = [
        (
            r#"{"instances":[]}"#,
            "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array",
        ),
        (
            r#"{"instances":5}"#,
            "JSON Value: {\n    \"instances\": 5\n} Expecting 'instances' to be an list/array",
        ),
        (
            r#"{"instances":[1],"inputs":[1]}"#,
            "JSON Value: {\n    \"instances\": [1],\n    \"inputs\": [1]\n} Not formatted correctly \
             expecting only one of 'inputs' or 'instances' keys to exist ",
        ),
        ("{}", "Missing 'inputs' or 'instances' key"),
        (r#"{"foo":1}"#, "Missing 'inputs' or 'instances' key"),
        (
            r#"{"signature_name":100}"#,
            "JSON Value: {\n    \"signature_name\": 100\n} not formatted correctly. \
             'signature_name' key must be a string value.",
        ),
        (&long, &long_error),
    ];
    for (body, expected) in cases {
        check_error(X_FLOAT, body, expected);
    }
}
