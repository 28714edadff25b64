//! Maps that name a tensor whose earlier alias no rule finds, and their defaults and axes.

use super::net::{FLOAT, INT64, Net, Version, answer, floats, floats_def};
use super::*;
use codec::tensor_proto::message::to_message;

/// y_pred = -x and logits = |x|, which have the same dtype and shape.
fn alike() -> Net {
    Net::default()
        .input("x", FLOAT, &[-1])
        .node("Neg", &["x"], "y_pred")
        .node("Abs", &["x"], "logits")
        .output("y_pred", FLOAT, &[-1])
        .output("logits", FLOAT, &[-1])
}

/// The same graph with a SavedModel that has these outputs. Their names do not match the graph's.
fn version(outputs: &[&str], map: &str) -> Version {
    let outputs: Vec<(&str, String)> = outputs
        .iter()
        .map(|it| (*it, format!("call_{it}:0")))
        .collect();
    let outputs: Vec<(&str, &str)> = outputs.iter().map(|(a, t)| (*a, t.as_str())).collect();
    let definition = floats_def(&[("x", "x:0")], &outputs);
    let version = alike()
        .version()
        .original(&[("serving_default", definition)]);
    version.map(&signature(map))
}

fn signature(map: &str) -> String {
    format!("signature {{ name: 'serving_default' {map} }}")
}

/// The value of each output for x = 3.
fn served(version: &Version) -> Vec<(String, f32)> {
    let outputs = answer(&version.load(), "", [("x", floats(&[1], &[3.0]))]);
    let value = |it: Tensor| it.as_slice::<f32>().unwrap()[0];
    outputs
        .into_iter()
        .map(|(alias, it)| (alias, value(it)))
        .collect()
}

#[track_caller]
fn check_served(outputs: &[&str], map: &str, expected: &[(&str, f32)]) {
    let expected: Vec<(String, f32)> = expected.iter().map(|it| (it.0.to_owned(), it.1)).collect();
    assert_eq!(served(&version(outputs, map)), expected, "{map}");
}

/// It is open which tensor the alias had before, so it must not answer with the one that the map left.
#[test]
fn alias_so_far_never_answers_with_what_the_map_left() {
    let refusal = version(&["output_0"], "").refusal();
    assert!(refusal.contains("several tensors match"), "{refusal}");
    let [y_pred, logits] = [-3.0, 3.0];
    check_served(
        &["output_0"],
        "output { alias: 'probs' tensor: 'y_pred' }",
        &[("probs", y_pred)],
    );
    check_served(
        &["output_0"],
        "output { alias: 'probs' tensor: 'y_pred' keep: true }",
        &[("output_0", y_pred), ("probs", y_pred)],
    );
    check_served(
        &["output_0"],
        "output { alias: 'probs' tensor: 'y_pred' } output { alias: 'raw' tensor: 'logits' }",
        &[("probs", y_pred), ("raw", logits)],
    );
    check_served(
        &["a", "b"],
        "output { alias: 'b' drop: true } output { alias: 'p' tensor: 'y_pred' keep: true }",
        &[("a", y_pred), ("p", y_pred)],
    );
}

#[test]
fn input_so_far_is_replaced_or_kept_where_the_map_puts_the_new_one() {
    // s = p - q.
    let net = || {
        Net::default()
            .input("p", FLOAT, &[-1])
            .input("q", FLOAT, &[-1])
            .node("Sub", &["p", "q"], "s")
            .output("s", FLOAT, &[-1])
    };
    let load = |map: &str| {
        let definition = floats_def(&[("u", "in_u:0"), ("v", "in_v:0")], &[("s", "s:0")]);
        let version = net().version().original(&[("serving_default", definition)]);
        version.map(&signature(map))
    };
    for map in [
        "input { alias: 'w' tensor: 'p' keep: true } input { alias: 'u' tensor: 'q' }",
        "input { alias: 'u' tensor: 'q' } input { alias: 'w' tensor: 'p' keep: true }",
    ] {
        for alias in ["v", "w"] {
            let inputs = [(alias, floats(&[1], &[5.0])), ("u", floats(&[1], &[2.0]))];
            let outputs = answer(&load(map).load(), "", inputs);
            assert_eq!(outputs["s"], floats(&[1], &[3.0]), "{map} {alias}");
        }
    }
    // It is open which of the two the map replaces.
    let refusal = load("input { alias: 'w' tensor: 'p' dtype: DT_DOUBLE keep: true }").refusal();
    for text in [
        "input \"u\" (float, originally \"in_u:0\"): \"q\" matches, or is the tensor of \"v\"; or it was \
         the alias of \"p\", which the map calls \"w\"",
        "input { alias: \"u\" tensor: \"???\" }  # one of: \"q\"; or, to leave it out, drop: true for tensor",
        "input { alias: \"w\" tensor: \"p\" keep: true dtype: DT_DOUBLE }",
    ] {
        assert!(refusal.contains(text), "{refusal}");
    }
}

#[test]
fn kept_alias_goes_where_the_others_leave_it() {
    for map in [
        "output { alias: 'probs' tensor: 'y_pred' keep: true } output { alias: 'b' tensor: 'logits' }",
        "output { alias: 'b' tensor: 'logits' } output { alias: 'probs' tensor: 'y_pred' keep: true }",
    ] {
        check_served(
            &["a", "b"],
            map,
            &[("a", -3.0), ("b", 3.0), ("probs", -3.0)],
        );
    }
    let map = "output { alias: 'p' tensor: 'y_pred' keep: true } output { alias: 'q' tensor: 'logits' keep: true }";
    let refusal = version(&["a", "b"], map).refusal();
    let text = "output \"a\" (float, originally \"call_a:0\"): it was the alias of \"y_pred\", which the map \
                calls \"p\", or of \"logits\", which the map calls \"q\"";
    assert!(refusal.contains(text), "{refusal}");
}

/// The error used to report the inputs as taken, because it was not known that any output needs them.
#[test]
fn open_outputs_leave_the_inputs_what_they_are() {
    let definition = floats_def(&[("u", "in_u:0")], &[("a", "call_a:0")]);
    let version = alike()
        .version()
        .original(&[("serving_default", definition)]);
    let refusal = version.refusal();
    assert!(!refusal.contains("input \"u\""), "{refusal}");
    assert!(
        refusal.contains("input { alias: \"u\" tensor: \"x\" }"),
        "{refusal}"
    );
}

/// s = a + b; the SavedModel's default for b is [[1, 2], [3, 4]] or ones.
fn with_default(default: &Tensor, map: &str) -> Version {
    let sizes: Vec<i64> = default.shape().iter().map(|&it| it as i64).collect();
    let mut definition = floats_def(&[("a", "a:0"), ("b", "b:0")], &[("s", "s:0")]);
    definition
        .defaults
        .insert("b".to_owned(), to_message(default));
    Net::default()
        .input("a", FLOAT, &sizes)
        .input("b", FLOAT, &sizes)
        .node("Add", &["a", "b"], "s")
        .output("s", FLOAT, &sizes)
        .version()
        .original(&[("serving_default", definition)])
        .map(&signature(map))
}

#[test]
fn default_of_saved_model_is_what_the_graph_gets() {
    let square = floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let wide = floats(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    for map in [
        "input { alias: 'n' tensor: 'b' transpose: [1, 0] }",
        "input { alias: 'b' transpose: [1, 0] }",
        "input { alias: 'n' tensor: 'b' dtype: DT_DOUBLE }",
        "input { alias: 'n' tensor: 'b' dtype: DT_INT64 transpose: [1, 0] }",
        "input { alias: 'n' tensor: 'b' keep: true }",
    ] {
        for default in [&square, &wide] {
            let zeros = Tensor::zeros(DataType::Float, default.shape()).unwrap();
            let servable = with_default(default, map).load();
            assert_eq!(
                answer(&servable, "", [("a", zeros)])["s"],
                *default,
                "{map}"
            );
        }
    }
    let halves = floats(&[1, 1], &[0.5]);
    let refusal =
        with_default(&halves, "input { alias: 'n' tensor: 'b' dtype: DT_INT64 }").refusal();
    let text =
        "the default of input 'n' is float, and clients send int64: it cannot be said exactly";
    assert!(refusal.contains(text), "{refusal}");
}

#[test]
fn default_and_constant_of_a_map_fit_the_input() {
    let load = |map: &str| {
        let net = Net::default()
            .input("x", FLOAT, &[-1, 3])
            .node("Neg", &["x"], "y")
            .output("y", FLOAT, &[-1, 3]);
        net.version().map(&signature(map))
    };
    let shape = |sizes: [u8; 2]| {
        let dims = sizes.map(|it| format!("dim {{ size: {it} }}"));
        format!("tensor_shape {{ {} }}", dims.join(" "))
    };
    let fitting = shape([1, 3]);
    let map = format!("input {{ alias: 'x' default {{ dtype: DT_INT32 {fitting} int_val: 2 }} }}");
    let outputs = answer(&load(&map).load(), "", []);
    assert_eq!(outputs["y"], floats(&[1, 3], &[-2.0; 3]));
    let other = shape([1, 4]);
    for (map, text) in [
        (
            format!(
                "input {{ alias: 'x' default {{ dtype: DT_STRING {fitting} string_val: 'a' }} }}"
            ),
            "the default of input 'x' is string, and clients send float",
        ),
        (
            format!("input {{ alias: 'x' default {{ dtype: DT_FLOAT {other} float_val: 1 }} }}"),
            "input 'x': the map's default of the shape [1, 4] gets to the graph as [1, 4], and the graph \
             takes [?,3]",
        ),
        (
            format!("constant {{ tensor: 'x' value {{ dtype: DT_FLOAT {other} float_val: 1 }} }}"),
            "the constant for 'x' has the shape [1, 4], and the graph takes [?,3]",
        ),
    ] {
        let refusal = load(&map).refusal();
        assert!(refusal.contains(text), "{refusal}");
    }
}

#[test]
fn kept_input_is_sent_as_before_or_refused() {
    let default = floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    for said in ["dtype: DT_DOUBLE", "transpose: [1, 0]"] {
        let map = format!("input {{ alias: 'n' tensor: 'b' keep: true {said} }}");
        let refusal = with_default(&default, &map).refusal();
        let text =
            "input 'n' keeps 'b', and clients would send another dtype, transpose or reshape";
        assert!(refusal.contains(text), "{refusal}");
    }
    // Naming the dtype that the input already has is not a change.
    let map = "input { alias: 'n' tensor: 'b' keep: true dtype: DT_FLOAT }";
    let servable = with_default(&default, map).load();
    let zeros = || Tensor::zeros(DataType::Float, &[2, 2]).unwrap();
    for alias in ["b", "n"] {
        let outputs = answer(&servable, "", [("a", zeros()), (alias, default.clone())]);
        assert_eq!(outputs["s"], default, "{alias}");
    }
}

#[test]
fn axes_that_a_tensor_lacks_are_refused() {
    let load = |map: &str| {
        let net = Net::default()
            .input("x", FLOAT, &[-1, 3])
            .node("Neg", &["x"], "y")
            .node("SequenceConstruct", &["x", "x"], "q")
            .output("y", FLOAT, &[-1, 3])
            .sequence("q", FLOAT);
        net.version().map(&signature(map))
    };
    for (map, text) in [
        (
            "input { alias: 'x' transpose: [1, 0, 2] }",
            "input 'x': the map's transpose [1, 0, 2] is for tensors of 3 dimensions, and the graph's tensor \
             has 2",
        ),
        (
            "output { alias: 'y' transpose: [1, 0, 2] }",
            "output 'y': the map's transpose [1, 0, 2] is for tensors of 3 dimensions",
        ),
        (
            "output { alias: 'y' transpose: [1, 1] }",
            "the map's transpose [1, 1] has to name each axis from 0 to 1 once",
        ),
        (
            "output { alias: 'q' stack_axis: 5 }",
            "output 'q': stack_axis 5 is none of the stacked tensors: each of the sequence has 2 dimensions",
        ),
    ] {
        let refusal = load(map).refusal();
        assert!(refusal.contains(text), "{refusal}");
    }
    load("output { alias: 'q' stack_axis: -3 }").load();
}

#[test]
fn axis_0_of_a_map_has_rows_where_it_stays() {
    let net = || {
        Net::default()
            .input("x", INT64, &[-1, 4])
            .node("Neg", &["x"], "y")
            .output("y", INT64, &[-1, 4])
    };
    for (said, expected) in [
        ("", true),
        ("transpose: [0, 1]", true),
        ("transpose: [1, 0]", false),
        ("reshape: [-1, 2, 2]", true),
        ("reshape: [0, 4, 1]", true),
        ("reshape: [-1, 2]", false),
        ("reshape: [-1]", false),
        ("reshape: [2, 2]", false),
    ] {
        let map = signature(&format!("output {{ alias: 'y' {said} }}"));
        let servable = net().version().map(&map).load();
        let signature = servable.signature("").unwrap();
        assert_eq!(signature.outputs[0].has_rows, expected, "{said}");
    }
    for (said, expected) in [("transpose: [1, 0]", false), ("reshape: [-1, 4]", true)] {
        let map = signature(&format!("input {{ alias: 'x' {said} }}"));
        let servable = net().version().map(&map).load();
        let signature = servable.signature("").unwrap();
        assert_eq!(signature.inputs[0].has_rows, expected, "{said}");
    }
}
