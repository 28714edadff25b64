//! Bodies of the REST API: `:predict`, `:classify` and `:regress`.
//!
//! The first byte chooses the inputs of the signature, the rest is the body.

use prost::Message;

use base::error::Result;
use base::tensor::{DataType, NamedTensors, Tensor};
use codec::example::{DeclaredFeatures, ExampleSpec};
use proto::tensorflow::Example;
use proto::tensorflow::serving::internal::serialized_input::Kind;
use wire::tfs::json::{
    Format, InputSpec, PredictBody, decode_by_both_readers, decode_examples, encode_predict,
    signature_not_found,
};

/// Signatures for decoding bodies. The aliases are those of the recorded requests.
const SIGNATURES: &[&[(&str, DataType)]] = &[
    &[("x", DataType::Float)],
    &[("x", DataType::String)],
    &[("x", DataType::Int64), ("y", DataType::Float)],
    &[("x", DataType::Double)],
    &[("x", DataType::Bool)],
    &[("x", DataType::UInt8), ("x_bytes", DataType::String)],
    &[("x", DataType::Half)],
    &[("x", DataType::Int32)],
    &[("a", DataType::Float), ("b", DataType::Float)],
    &[("x", DataType::UInt64)],
    &[("x", DataType::Int8)],
    &[("x", DataType::Complex64)],
    &[],
];

/// Reads a body in all ways.
pub fn check(data: &[u8]) {
    let Some((&selector, body)) = data.split_first() else {
        return;
    };
    let signature = SIGNATURES[usize::from(selector) % SIGNATURES.len()];
    check_predict(signature, body);
    check_examples(body);
}

fn resolve(signature: &[(&str, DataType)], name: &str) -> Result<Vec<InputSpec>> {
    if !matches!(name, "" | "serving_default") {
        return Err(signature_not_found(name));
    }
    let specs = signature.iter().map(|&(alias, dtype)| InputSpec {
        alias: alias.to_owned(),
        is_optional: false,
        dtype,
        kept: Vec::new(),
    });
    Ok(specs.collect())
}

/// Both readers agree; JSON that another parser accepts is not a syntax error here; tensors survive a
/// round trip through their own JSON.
fn check_predict(signature: &[(&str, DataType)], body: &[u8]) {
    let (fast, exact) = decode_by_both_readers(body, |name| resolve(signature, name));
    let exact = match exact {
        Ok(decoded) => decoded,
        Err(error) => {
            assert!(fast.is_none(), "only one reader refuses it: {error}");
            check_syntax_error(body, &error.to_string());
            return;
        }
    };
    if let Some(fast) = fast {
        assert_eq!(fast, exact, "the readers disagree");
    }
    for (alias, tensor) in &exact.inputs {
        let dtype = signature.iter().find(|it| it.0 == alias).map(|it| it.1);
        assert_eq!(Some(tensor.dtype()), dtype, "an input of another dtype");
        // One byte of a body makes at most an empty string or half a number.
        assert!(tensor.len() <= body.len(), "more elements than bytes");
    }
    check_round_trip(signature, &exact);
}

/// `serde_json` accepts less than RapidJSON, except for numbers that RapidJSON finds too big.
fn check_syntax_error(body: &[u8], error: &str) {
    if error.starts_with("JSON Parse error") && !error.contains("Number too big") {
        let other = serde_json::from_slice::<serde_json::Value>(body);
        assert!(other.is_err(), "{error}, and another parser takes it");
    }
}

/// The answer of a model that returns its inputs is a request with the same inputs.
fn check_round_trip(signature: &[(&str, DataType)], decoded: &PredictBody) {
    // JSON does not show the shape inside an empty list, and TensorFlow Serving refuses some inputs of
    // signatures with several.
    let is_shown = |tensor: &Tensor| !tensor.is_empty() && !tensor.shape().is_empty();
    if decoded.inputs.len() != signature.len() || !decoded.inputs.values().all(is_shown) {
        return;
    }
    let outputs = decoded.inputs.iter();
    let outputs: Vec<(String, Tensor)> = outputs
        .map(|(alias, tensor)| (alias.clone(), tensor.clone()))
        .collect();
    let Ok(json) = encode_predict(&outputs, Format::Columnar) else {
        return;
    };
    let values = json.strip_prefix(b"{\n    \"outputs\"".as_slice());
    let json = [
        b"{\"inputs\"".as_slice(),
        values.expect("the layout of answers"),
    ]
    .concat();
    let (_, again) = decode_by_both_readers(&json, |name| resolve(signature, name));
    let json = String::from_utf8_lossy(&json);
    let again: NamedTensors = match again {
        Ok(again) => again.inputs,
        Err(error) => panic!("our own JSON is refused: {error}: {json}"),
    };
    assert_eq!(again, decoded.inputs, "another tensor came back: {json}");
}

/// Every accepted body becomes messages that protobuf and the parser of examples can read.
fn check_examples(body: &[u8]) {
    let decoded = match decode_examples(body) {
        Ok(decoded) => decoded,
        Err(error) => return check_syntax_error(body, &error.to_string()),
    };
    let (examples, context) = match decoded.input.kind {
        Some(Kind::ExampleList(list)) => (list.examples, None),
        Some(Kind::ExampleListWithContext(list)) => (list.examples, Some(list.context)),
        None => panic!("no examples, and no error"),
    };
    assert!(!examples.is_empty(), "no example, and no error");
    let spec = ExampleSpec::try_new(DeclaredFeatures::default());
    let spec = spec.expect("nothing is wrong with no features");
    for example in examples.into_iter().chain(context) {
        // TensorFlow Serving accepts a key that is not UTF-8, because it passes bytes on.
        if let Err(error) = Example::decode(example.clone()) {
            assert!(error.to_string().contains("UTF-8"), "{error}");
        }
        let parsed = spec.parse(&[example]);
        assert!(parsed.is_ok(), "{:?}", parsed.err());
    }
}
