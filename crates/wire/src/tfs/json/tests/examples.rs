//! Spec section 5: E81 to E96.

use prost::Message;

use crate::tfs::json::decode_examples;
use base::error::Code;
use proto::tensorflow::feature::Kind;
use proto::tensorflow::serving::internal::serialized_input::Kind as InputKind;
use proto::tensorflow::{BytesList, Example, Feature, Features, FloatList, Int64List};

fn bytes(values: &[&'static str]) -> Option<Kind> {
    let value = values.iter().map(|value| value.as_bytes().into()).collect();
    Some(Kind::BytesList(BytesList { value }))
}

fn floats(values: &[f32]) -> Option<Kind> {
    let value = values.to_vec();
    Some(Kind::FloatList(FloatList { value }))
}

fn int64s(values: &[i64]) -> Option<Kind> {
    let value = values.to_vec();
    Some(Kind::Int64List(Int64List { value }))
}

fn example<const N: usize>(features: [(&str, Option<Kind>); N]) -> Example {
    let feature = features
        .into_iter()
        .map(|(name, kind)| (name.to_owned(), Feature { kind }))
        .collect();
    Example {
        features: Some(Features { feature }),
    }
}

/// Signature, context and examples.
fn decoded(body: &str) -> (String, Option<Example>, Vec<Example>) {
    let body = decode_examples(body.as_bytes()).unwrap();
    let (context, examples) = match body.input.kind.unwrap() {
        InputKind::ExampleList(list) => (None, list.examples),
        InputKind::ExampleListWithContext(list) => (Some(list.context), list.examples),
    };
    let parse = |bytes| Example::decode(bytes).unwrap();
    (
        body.signature_name,
        context.map(parse),
        examples.into_iter().map(parse).collect(),
    )
}

#[test]
fn objects_become_examples() {
    // E81.
    let (signature, context, examples) = decoded(
        r#"{"examples":[{"names":["foo","bar"],"ratings":[8.0,9.0],"age":20},{"names":["baz"],"ratings":6.0}]}"#,
    );
    assert_eq!((signature.as_str(), context), ("", None));
    let expected = [
        example([
            ("names", bytes(&["foo", "bar"])),
            ("ratings", floats(&[8.0, 9.0])),
            ("age", int64s(&[20])),
        ]),
        example([("names", bytes(&["baz"])), ("ratings", floats(&[6.0]))]),
    ];
    assert_eq!(examples, expected);
}

#[test]
fn context_goes_with_the_examples() {
    // E82 without its NaN, which equals nothing.
    let (signature, context, examples) = decoded(
        r#"{"signature_name":"custom_signture","context":{"query":"pizza","location":["sfo"]},"examples":[{"names":["foo","bar"],"ratings":[8.0,9.0,Infinity],"age":20},{"names":["baz",{"b64":"aGVsbG8="}],"ratings":6.0,"intboolmix":[1,true,false]},{"names":"bar","ratings":-Infinity}]}"#,
    );
    assert_eq!(signature, "custom_signture");
    let expected = example([("query", bytes(&["pizza"])), ("location", bytes(&["sfo"]))]);
    assert_eq!(context, Some(expected));
    let expected = [
        example([
            ("names", bytes(&["foo", "bar"])),
            ("ratings", floats(&[8.0, 9.0, f32::INFINITY])),
            ("age", int64s(&[20])),
        ]),
        example([
            ("names", bytes(&["baz", "hello"])),
            ("ratings", floats(&[6.0])),
            ("intboolmix", int64s(&[1, 1, 0])),
        ]),
        example([
            ("names", bytes(&["bar"])),
            ("ratings", floats(&[f32::NEG_INFINITY])),
        ]),
    ];
    assert_eq!(examples, expected);
}

#[test]
fn features_may_be_empty_negative_or_repeated() {
    let (_, _, examples) = decoded(r#"{"examples":[{"none":[],"i":-1,"i":[-2,3]},{}]}"#);
    let expected = example([("none", None), ("i", int64s(&[-2, 3]))]);
    assert_eq!(examples, [expected, Example { features: None }]);
}

/// Long, because it is a table of the specification's examples.
#[test]
fn wrong_examples_are_named() {
    let cases = [
        // E83 to E96.
        (
            "{}",
            "JSON Value: {} When method is classify, key 'examples' is expected and was not found",
        ),
        (
            r#"{"examples":[]}"#,
            "JSON Value: {\n    \"examples\": []\n} 'examples' value is an empty array",
        ),
        (
            r#"{"examples":{"a":1}}"#,
            "JSON Value: {\n    \"examples\": {\n        \"a\": 1\n    }\n} Expecting 'examples' value to be an list/array",
        ),
        (
            r#"{"context":[{"a":1}]}"#,
            "Example must be JSON object but got JSON Array",
        ),
        (
            r#"{"examples":[[{"a":1}]]}"#,
            "Example must be JSON object but got JSON Array",
        ),
        (
            r#"{"examples":[5]}"#,
            "Example must be JSON object but got JSON Number",
        ),
        (
            r#"{"examples":[{"names":[10,null]}]}"#,
            "Feature: names has element with unexpected JSON type: Null",
        ),
        (
            r#"{"examples":[{"names":[10,10.0]}]}"#,
            "Unexpected element type in feature: names expecting type: int64",
        ),
        (
            r#"{"examples":[{"names":[10.0,10]}]}"#,
            "Unexpected element type in feature: names expecting type: float",
        ),
        (
            r#"{"examples":[{"names":["a",10]}]}"#,
            "Unexpected element type in feature: names expecting type: bytes",
        ),
        (
            r#"{"examples":[{"names":[10,{"test":10}]}]}"#,
            "Feature: names has element with unexpected JSON type: Object",
        ),
        (
            r#"{"examples":[{"names":[[10],20]}]}"#,
            "Feature: names has element with unexpected JSON type: Array",
        ),
        (
            r#"{"examples":[{"names":[20,18446744073709551603]}]}"#,
            "Feature: names has uint64_t element. Only int64_t is supported.",
        ),
        (
            r#"{"examples":[{"names":{"b64":"!!"}}]}"#,
            "Unable to base64 decode",
        ),
        (
            r#"{"signature_name":["hello"],"examples":[{"a":1}]}"#,
            "JSON Value: {\n    \"signature_name\": [\"hello\"],\n    \"examples\": [{\n            \"a\": 1\n        }]\n} not formatted correctly. 'signature_name' key must be a string value.",
        ),
        // Recorded: cls_bad_json, cls_empty_body, cls_array, cls_context_only.
        (
            r#"{"examples":"#,
            "JSON Parse error: Invalid value. at offset: 12",
        ),
        ("", "JSON Parse error: The document is empty"),
        ("[]", "JSON Value: [] Is not object"),
        (
            r#"{"context": {"x": 5.0}}"#,
            "JSON Value: {\n    \"context\": {\n        \"x\": 5.0\n    }\n} When method is classify, key 'examples' is expected and was not found",
        ),
    ];
    for (body, expected) in cases {
        let error = decode_examples(body.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.code(), Code::InvalidArgument);
    }
}
