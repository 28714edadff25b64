//! Tensors that a signature names twice: as inputs, or as input and output.

use super::net::{Net, answer, floats, floats_def};
use super::*;

const FLOAT: i32 = 1;

/// y = p - q.
fn difference() -> Net {
    Net::default()
        .input("p", FLOAT, &[-1])
        .input("q", FLOAT, &[-1])
        .node("Sub", &["p", "q"], "y")
        .output("y", FLOAT, &[-1])
}

fn inputs(values: &[(&str, f32)]) -> RequestInputs {
    let tensor = |value| RequestTensor::Valid(floats(&[1], &[value]));
    let inputs = values.iter();
    inputs
        .map(|&(alias, value)| (alias.to_owned(), tensor(value)))
        .collect()
}

#[track_caller]
fn check_refused(servable: &Servable, values: &[(&str, f32)], text: &str) {
    let error = run(servable, "", inputs(values)).unwrap_err();
    assert_eq!(error.to_string(), text);
}

// `RewriteGraphForExecution` in TensorFlow's subgraph.cc.
#[test]
fn output_on_an_input_of_a_saved_model_is_refused() {
    let definition = floats_def(
        &[("p", "p:0"), ("q", "q:0")],
        &[("y", "y:0"), ("same", "q:0")],
    );
    let original = difference().version();
    let version = original.original(&[("serving_default", definition.clone())]);
    let servable = version.load();
    let values = [("p", 5.0), ("q", 2.0)];
    check_refused(&servable, &values, "q:0 is both fed and fetched.");

    // A map that names a tensor of the graph does not change the SavedModel's tensor.
    let copied = difference().node("Identity", &["q"], "copy");
    let version = copied.output("copy", FLOAT, &[-1]).version();
    let version = version
        .original(&[("serving_default", definition)])
        .map(r#"signature { name: "serving_default" output { alias: "same" tensor: "copy" } }"#);
    check_refused(&version.load(), &values, "q:0 is both fed and fetched.");
}

// Without a SavedModel, TensorFlow's rule does not apply, so ONNX Runtime answers.
#[test]
fn output_on_an_input_of_an_onnx_file_is_answered() {
    let servable = difference().output("q", FLOAT, &[-1]).version().load();
    let values = [("p", 5.0), ("q", 2.0)].map(|(alias, it)| (alias, floats(&[1], &[it])));
    let outputs = answer(&servable, "", values);
    assert_eq!(outputs["q"], floats(&[1], &[2.0]));
    assert_eq!(outputs["y"], floats(&[1], &[3.0]));
}

#[test]
fn tensor_that_two_inputs_feed_is_refused() {
    let values = [("a", 1.0), ("b", 2.0), ("p", 3.0)];
    let definition = floats_def(&[("a", "q:0"), ("b", "q:0"), ("p", "p:0")], &[("y", "y:0")]);
    let version = difference()
        .version()
        .original(&[("serving_default", definition)]);
    let text = "Endpoint \"q:0\" fed more than once.";
    check_refused(&version.load(), &values, text);

    let version = difference().version().map(
        r#"signature { name: "serving_default" input { alias: "a" tensor: "q" }
             input { alias: "b" tensor: "q" } }"#,
    );
    // If a map gives one input two aliases, clients can use either.
    let servable = version.load();
    for alias in ["a", "b"] {
        let values = [(alias, 2.0), ("p", 5.0)].map(|(alias, it)| (alias, floats(&[1], &[it])));
        assert_eq!(answer(&servable, "", values)["y"], floats(&[1], &[3.0]));
    }
    let text = "'b' and 'a' are two aliases of one input: send one of them";
    check_refused(&servable, &values, text);
}
