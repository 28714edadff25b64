//! Spec section 3: E1 to E20, and RapidJSON 1.1.0's rules that it describes in words.

use crate::tfs::json::tests::{X_FLOAT, decode};

#[track_caller]
fn check(body: impl AsRef<[u8]>, expected: &str) {
    let error = decode(X_FLOAT, body).unwrap_err();
    assert_eq!(error.to_string(), expected);
}

/// Long, because it is a table of the specification's examples.
#[test]
fn broken_bodies_have_the_parsers_texts_and_offsets() {
    let cases: &[(&str, &str)] = &[
        // E2 to E18.
        (" ", "The document is empty. at offset: 1"),
        ("instances = [1, 2]", "Invalid value. at offset: 0"),
        (
            r#"{"v":[1e309]}"#,
            "Number too big to be stored in double. at offset: 6",
        ),
        (
            r#"{"v":[1.]}"#,
            "Miss fraction part in number. at offset: 8",
        ),
        (r#"{"v":[1e]}"#, "Miss exponent in number. at offset: 8"),
        (
            r#"{"v":[01]}"#,
            "Missing a comma or ']' after an array element. at offset: 7",
        ),
        (r#"{"v":[1,]}"#, "Invalid value. at offset: 8"),
        (
            r#"{"v":[1]"#,
            "Missing a comma or '}' after an object member. at offset: 8",
        ),
        ("{'a':1}", "Missing a name for object member. at offset: 1"),
        (
            r#"{"a":1,}"#,
            "Missing a name for object member. at offset: 7",
        ),
        (
            r#"{"a" 1}"#,
            "Missing a colon after a name of object member. at offset: 5",
        ),
        (
            r#"{"a":"x"#,
            "Missing a closing quotation mark in string. at offset: 7",
        ),
        (
            "{\"a\":\"x\ny\"}",
            "Invalid escape character in string. at offset: 7",
        ),
        (
            r#"{"a":"\x"}"#,
            "Invalid escape character in string. at offset: 6",
        ),
        (
            r#"{"a":"\u12"}"#,
            "Incorrect hex digit after \\u escape in string. at offset: 6",
        ),
        (
            r#"{"a":"\ud800"}"#,
            "The surrogate pair in string is invalid. at offset: 6",
        ),
        (r#"{"v":[Nan]}"#, "Invalid value. at offset: 8"),
        (r#"{"v":[nan]}"#, "Invalid value. at offset: 7"),
        // Section 3 in words: rejected forms.
        (r#"{"v":[inf]}"#, "Invalid value. at offset: 6"),
        (r#"{"v":[+Infinity]}"#, "Invalid value. at offset: 6"),
        (r#"{"v":[+1]}"#, "Invalid value. at offset: 6"),
        (r#"{"v":[-]}"#, "Invalid value. at offset: 7"),
        (
            r#"{"v":[1e400]}"#,
            "Number too big to be stored in double. at offset: 6",
        ),
    ];
    for (body, expected) in cases {
        check(body, &format!("JSON Parse error: {expected}"));
    }
}

#[test]
fn empty_body_has_no_offset() {
    // E1.
    check("", "JSON Parse error: The document is empty");
}

#[test]
fn other_values_on_top_are_no_object() {
    // E19, E20.
    check("[1,2]", "JSON Value: [1, 2] Is not object");
    check("\"str\"", "JSON Value: \"str\" Is not object");
    check("5", "JSON Value: 5 Is not object");
    check("null", "JSON Value: null Is not object");
}

#[test]
fn state_decides_what_is_missing_at_the_end() {
    // RapidJSON 1.1.0, `HandleError` in `reader.h`.
    let cases = [
        ("]", "The document is empty. at offset: 0"),
        ("{", "Missing a name for object member. at offset: 1"),
        (
            "{\"a\"",
            "Missing a colon after a name of object member. at offset: 4",
        ),
        ("{\"a\":", "Invalid value. at offset: 5"),
        ("{\"a\":[", "Invalid value. at offset: 6"),
        ("{\"a\":[}", "Invalid value. at offset: 6"),
        (
            "{\"a\":[1",
            "Missing a comma or ']' after an array element. at offset: 7",
        ),
        (
            "{\"a\":[1}",
            "Missing a comma or ']' after an array element. at offset: 7",
        ),
        (
            "{\"a\":1]",
            "Missing a comma or '}' after an object member. at offset: 6",
        ),
        ("{\"a\":Infinit}", "Invalid value. at offset: 12"),
        ("{\"a\":tru}", "Invalid value. at offset: 8"),
        // A zero byte ends the text.
        (
            "{\"a\":1\0}",
            "Missing a comma or '}' after an object member. at offset: 6",
        ),
        (
            "{\"a\":\"\0\"}",
            "Missing a closing quotation mark in string. at offset: 6",
        ),
    ];
    for (body, expected) in cases {
        check(body, &format!("JSON Parse error: {expected}"));
    }
}

#[test]
fn largest_numbers_are_told_from_too_big_ones() {
    // RapidJSON 1.1.0, `ParseNumber` in `reader.h`: the exponent can be up to 308, plus one for each digit
    // of the fraction; an integer can have up to 309 digits.
    let digits = |count: usize| "1".repeat(count);
    let fine = [
        "1e308".to_owned(),
        "0.0001e312".to_owned(),
        digits(308),
        format!("0.{}1e350", "0".repeat(349)),
        "1e-400".to_owned(),
        "9e308".to_owned(),
    ];
    for number in fine {
        let body = format!(r#"{{"instances":[{number}]}}"#);
        assert!(decode(X_FLOAT, body).is_ok(), "{number}");
    }
    for number in ["0e309".to_owned(), "0.0001e313".to_owned(), digits(310)] {
        let body = format!(r#"{{"instances":[{number}]}}"#);
        check(
            body,
            "JSON Parse error: Number too big to be stored in double. at offset: 14",
        );
    }
}

#[test]
fn byte_order_mark_and_trailing_text_do_not_matter() {
    for body in [
        &b"\xEF\xBB\xBF{\"instances\":[1]}"[..],
        b"{\"instances\":[1]} trailing",
        b"{\"instances\":[1],\"k\":\"\xFF\"}\0\xFF",
        b" \r\n\t{ \"instances\" : [ 1 ] } ",
    ] {
        assert_eq!(decode(X_FLOAT, body).unwrap().inputs["x"].shape(), [1]);
    }
}

#[test]
fn half_a_million_levels_do_no_harm() {
    // E22, E23, and the same for bodies that need a tensor or an error's text.
    let open = "[".repeat(500_000);
    let nested = format!("{open}{}", "]".repeat(500_000));
    let ignored = format!(r#"{{"instances":[1],"nested":{nested}}}"#);
    assert_eq!(decode(X_FLOAT, ignored).unwrap().inputs["x"].shape(), [1]);
    check(
        format!(r#"{{"instances":{nested}}}"#),
        "tensor parsing error: x",
    );
    check(
        format!(r#"{{"instances":{open}"#),
        "JSON Parse error: Invalid value. at offset: 500013",
    );
    let error = decode(X_FLOAT, format!(r#"{{"signature_name":{nested}}}"#)).unwrap_err();
    let error = error.to_string();
    assert!(error.len() < 500, "{error}");
    assert!(
        error.ends_with("'signature_name' key must be a string value."),
        "{error}"
    );
    let objects = format!("{}1{}", "{\"a\":".repeat(500_000), "}".repeat(500_000));
    let error = decode(X_FLOAT, format!(r#"{{"inputs":{{"x":{objects}}}}}"#)).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("Type: Object is not of expected type: float")
    );
}
