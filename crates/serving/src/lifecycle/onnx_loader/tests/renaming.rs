//! Aliases that a signature map adds, keeps and removes, on small graphs built here.

use super::net::{FLOAT, INT64, Net, Version, answer, floats, floats_def};
use super::*;
use mapper::version_dir::{Shown, show};

/// y_pred = p - q, neg = q - p, with a SavedModel whose tensors have other names.
fn version(map: &str) -> Version {
    let definition = floats_def(
        &[("p", "in_p:0"), ("q", "in_q:0")],
        &[("y_pred", "call:0"), ("neg", "call:1")],
    );
    two_outputs()
        .version()
        .original(&[("serving_default", definition)])
        .map(&format!("signature {{ name: 'serving_default' {map} }}"))
}

fn two_outputs() -> Net {
    Net::default()
        .input("p", FLOAT, &[-1])
        .input("q", FLOAT, &[-1])
        .node("Sub", &["p", "q"], "y_pred")
        .node("Neg", &["y_pred"], "neg")
        .output("y_pred", FLOAT, &[-1])
        .output("neg", FLOAT, &[-1])
}

fn outputs_of(servable: &Servable) -> BTreeMap<String, Tensor> {
    let inputs = [("p", floats(&[1], &[5.0])), ("q", floats(&[1], &[2.0]))];
    answer(servable, "", inputs)
}

fn aliases(servable: &Servable, outputs: bool) -> Vec<String> {
    let definition = &servable.definitions()["serving_default"];
    let infos = if outputs {
        &definition.outputs
    } else {
        &definition.inputs
    };
    infos.keys().cloned().collect()
}

fn shown(version: &Version) -> String {
    show(&version.path, &["serve".to_owned()], &Shown::All).unwrap()
}

#[test]
fn new_alias_replaces_the_one_of_saved_model() {
    let version = version("output { alias: 'probs' tensor: 'y_pred' }");
    let servable = version.load();
    let outputs = outputs_of(&servable);
    assert_eq!(outputs["probs"], floats(&[1], &[3.0]));
    assert_eq!(outputs["neg"], floats(&[1], &[-3.0]));
    assert_eq!(outputs.len(), 2);
    assert_eq!(aliases(&servable, true), ["neg", "probs"]);

    let text = shown(&version);
    assert!(
        text.contains("graph: y_pred (signature map, in place of 'y_pred')"),
        "{text}"
    );
    // The old alias takes its description from the SavedModel's tensor, and so does the new one.
    assert!(text.contains("name: call:0"), "{text}");
    let report = check(backend(), &version.path, &["serve".to_owned()]);
    assert!(report.passed, "{}", report.text);
    let line = "ok   signature_def['serving_default']: outputs['y_pred'] is served as \
                outputs['probs'] (signature map)";
    assert!(report.text.contains(line), "{}", report.text);
}

#[test]
fn inputs_are_renamed_by_tensor_or_by_alias() {
    for map in [
        "input { alias: 'minuend' tensor: 'p' } output { alias: 'd' tensor: 'y_pred' }",
        "input { alias: 'minuend' tensor: 'a' } output { alias: 'd' tensor: 'output_0' }",
    ] {
        let definition = floats_def(
            &[("a", "p:0"), ("b", "q:0")],
            &[("output_0", "y_pred:0"), ("output_1", "neg:0")],
        );
        let version = two_outputs()
            .version()
            .original(&[("serving_default", definition)])
            .map(&format!("signature {{ {map} }}"));
        let servable = version.load();
        assert_eq!(aliases(&servable, false), ["b", "minuend"], "{map}");
        assert_eq!(aliases(&servable, true), ["d", "output_1"], "{map}");
        let inputs = [
            ("minuend", floats(&[1], &[5.0])),
            ("b", floats(&[1], &[2.0])),
        ];
        let outputs = answer(&servable, "", inputs);
        assert_eq!(outputs["d"], floats(&[1], &[3.0]), "{map}");
        assert_eq!(outputs["output_1"], floats(&[1], &[-3.0]), "{map}");
    }
}

/// The outputs are numbered, and the numbers follow the order of the aliases before the map.
#[test]
fn renaming_one_of_the_numbered_outputs_leaves_the_others() {
    let net = Net::default()
        .input("x", FLOAT, &[-1])
        .node("Neg", &["x"], "Identity:0")
        .node("Abs", &["x"], "Identity_1:0")
        .node("Sqrt", &["x"], "Identity_2:0")
        .output("Identity:0", FLOAT, &[-1])
        .output("Identity_1:0", FLOAT, &[-1])
        .output("Identity_2:0", FLOAT, &[-1]);
    let definition = floats_def(&[("x", "x:0")], &[("a", "c:0"), ("b", "c:1"), ("c", "c:2")]);
    let version = net
        .version()
        .original(&[("serving_default", definition)])
        .map("signature { output { alias: 'z' tensor: 'Identity:0' } }");
    let outputs = answer(&version.load(), "", [("x", floats(&[1], &[4.0]))]);
    assert_eq!(outputs["c"], floats(&[1], &[2.0]));
    assert_eq!(outputs["b"], floats(&[1], &[4.0]));
    assert_eq!(outputs["z"], floats(&[1], &[-4.0]));
    assert_eq!(outputs.len(), 3);
}

/// No name connects the aliases with the tensors; the map names a new alias for all of them.
#[test]
fn aliases_that_nothing_else_matches_are_replaced() {
    let definition = floats_def(
        &[("p", "p:0"), ("q", "q:0")],
        &[("output_0", "call:0"), ("output_1", "call:1")],
    );
    let version = two_outputs()
        .version()
        .original(&[("serving_default", definition)]);
    let map =
        "signature { output { alias: 'd' tensor: 'y_pred' } output { alias: 'n' tensor: 'neg' } }";
    let version = version.map(map);
    let outputs = outputs_of(&version.load());
    assert_eq!(outputs["d"], floats(&[1], &[3.0]));
    assert_eq!(outputs["n"], floats(&[1], &[-3.0]));
    assert_eq!(outputs.len(), 2);

    // If the map names only one of them, it stays open which of the two old ones it replaces.
    let version = version.map("signature { output { alias: 'd' tensor: 'y_pred' } }");
    let refusal = version.refusal();
    assert!(
        refusal.contains("output { alias: \"output_0\" tensor: \"???\" }  # one of: \"neg\""),
        "{refusal}"
    );
}

#[test]
fn keep_serves_both_aliases() {
    let version = version(
        "input { alias: 'minuend' tensor: 'p' keep: true }
         output { alias: 'probs' tensor: 'y_pred' keep: true }",
    );
    let servable = version.load();
    assert_eq!(aliases(&servable, true), ["neg", "probs", "y_pred"]);
    assert_eq!(aliases(&servable, false), ["minuend", "p", "q"]);
    for alias in ["p", "minuend"] {
        let inputs = [(alias, floats(&[1], &[5.0])), ("q", floats(&[1], &[2.0]))];
        let outputs = answer(&servable, "", inputs);
        assert_eq!(outputs["probs"], floats(&[1], &[3.0]), "{alias}");
        assert_eq!(outputs["y_pred"], floats(&[1], &[3.0]), "{alias}");
    }
    let one = || RequestTensor::Valid(floats(&[1], &[1.0]));
    let inputs = ["p", "minuend", "q"].map(|alias| (alias.to_owned(), one()));
    let error = run(&servable, "", inputs.into()).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(
        error.to_string(),
        "'p' and 'minuend' are two aliases of one input: send one of them"
    );
    let text = shown(&version);
    assert!(
        text.contains("graph: p (signature map, in addition to 'p')"),
        "{text}"
    );
}

#[test]
fn drop_removes_an_alias() {
    let version = version("output { alias: 'neg' drop: true }");
    let outputs = outputs_of(&version.load());
    assert_eq!(outputs.keys().collect::<Vec<_>>(), ["y_pred"]);
    let text = shown(&version);
    let line = "  outputs['neg'] is not served (signature map)\n";
    assert!(text.contains(line), "{text}");

    let version = version.map(
        "signature { output { alias: 'neg' drop: true } output { alias: 'y_pred' drop: true } }",
    );
    let refusal = version.refusal();
    assert!(
        refusal.contains("the signature map leaves no output"),
        "{refusal}"
    );
}

#[test]
fn dropped_input_is_needed_or_fed_otherwise() {
    let dropped = version("input { alias: 'q' drop: true }");
    let refusal = dropped.refusal();
    assert!(
        refusal.contains("graph input \"q\" (float[?]) is needed and no alias feeds it"),
        "{refusal}"
    );
    let constant =
        version("constant { tensor: 'q' value { tensor_shape { dim { size: 1 } } float_val: 2 } }");
    let servable = constant.load();
    assert_eq!(aliases(&servable, false), ["p"]);
    let outputs = answer(&servable, "", [("p", floats(&[1], &[5.0]))]);
    assert_eq!(outputs["y_pred"], floats(&[1], &[3.0]));
}

/// Each alias has the description of its present tensor.
#[test]
fn aliases_of_the_graphs_own_names_change_places() {
    let net = Net::default()
        .input("a", FLOAT, &[-1])
        .input("b", INT64, &[-1, 1])
        .node("Neg", &["a"], "c")
        .node("Neg", &["b"], "d")
        .output("c", FLOAT, &[-1])
        .output("d", INT64, &[-1, 1]);
    let version = net.version().map(
        "signature { input { alias: 'a' tensor: 'b' } input { alias: 'b' tensor: 'a' }
         output { alias: 'c' tensor: 'd' } output { alias: 'd' tensor: 'c' } }",
    );
    let inputs = [
        ("a", Tensor::from_vec(&[1, 1], vec![1_i64]).unwrap()),
        ("b", floats(&[1], &[2.0])),
    ];
    let outputs = answer(&version.load(), "", inputs);
    assert_eq!(
        outputs["c"],
        Tensor::from_vec(&[1, 1], vec![-1_i64]).unwrap()
    );
    assert_eq!(outputs["d"], floats(&[1], &[-2.0]));
}

#[test]
fn derived_aliases_are_kept_and_dropped() {
    let net = || two_outputs().version();
    let version = net().map("signature { output { alias: 'probs' tensor: 'y_pred' keep: true } }");
    assert_eq!(aliases(&version.load(), true), ["probs", "y_pred"]);
    let version = net().map("signature { output { alias: 'neg' drop: true } }");
    assert_eq!(aliases(&version.load(), true), ["y_pred"]);
    let version = net().map("signature { input { alias: 'minuend' tensor: 'p' keep: true } }");
    let servable = version.load();
    assert_eq!(aliases(&servable, false), ["minuend", "p", "q"]);
    assert_eq!(outputs_of(&servable)["y_pred"], floats(&[1], &[3.0]));
}

#[test]
fn map_beside_a_map_of_metadata_replaces_its_aliases() {
    let inner = "signature { name: 'sub' input { alias: 'minuend' tensor: 'p' } input { alias: 'subtrahend' tensor: 'q' }
        output { alias: 'difference' tensor: 'y_pred' dtype: DT_DOUBLE } output { alias: 'other' tensor: 'neg' } }";
    let net = || two_outputs().metadata(inner).version();
    let version = net().map(
        "signature { name: 'sub' input { alias: 'a' tensor: 'p' } output { alias: 'd' tensor: 'y_pred' } }",
    );
    let servable = version.load();
    let definition = &servable.definitions()["sub"];
    assert!(definition.inputs.keys().eq(["a", "subtrahend"]));
    assert!(definition.outputs.keys().eq(["d", "other"]));
    // The tensor keeps the fields that the map of the metadata sets.
    let inputs = [
        ("a", floats(&[1], &[5.0])),
        ("subtrahend", floats(&[1], &[2.0])),
    ];
    let outputs = answer(&servable, "sub", inputs);
    assert_eq!(outputs["d"], Tensor::from_vec(&[1], vec![3.0f64]).unwrap());

    let version = net().map(
        "signature { name: 'sub' output { alias: 'd' tensor: 'difference' keep: true } output { alias: 'other' drop: true } }",
    );
    let servable = version.load();
    let definition = &servable.definitions()["sub"];
    assert!(definition.outputs.keys().eq(["d", "difference"]));
}

#[test]
fn renamed_alias_keeps_the_originals_dtype() {
    let net = Net::default()
        .input("x", INT64, &[-1])
        .node("Neg", &["x"], "y")
        .output("y", INT64, &[-1]);
    let mut definition = floats_def(&[("x", "x:0")], &[("y", "y:0")]);
    let int32 = DataType::Int32.number();
    definition.inputs.get_mut("x").unwrap().dtype = int32;
    definition.outputs.get_mut("y").unwrap().dtype = int32;
    let version = net
        .version()
        .original(&[("serving_default", definition)])
        .map("signature { input { alias: 'ids' tensor: 'x' } output { alias: 'z' tensor: 'y' } }");
    let ids = Tensor::from_vec(&[2], vec![1i32, 2]).unwrap();
    let outputs = answer(&version.load(), "", [("ids", ids)]);
    assert_eq!(
        outputs["z"],
        Tensor::from_vec(&[2], vec![-1i32, -2]).unwrap()
    );
}

/// As in TensorFlow, requests for the SavedModel's output on an input's tensor fail, under any alias.
#[test]
fn output_on_an_input_of_a_saved_model_is_renamed_and_dropped() {
    let definition = floats_def(
        &[("p", "p:0"), ("q", "q:0")],
        &[("y_pred", "y_pred:0"), ("same", "q:0")],
    );
    let version = two_outputs()
        .version()
        .original(&[("serving_default", definition)]);
    let version = version.map(
        "signature { input { alias: 'query' tensor: 'q' } output { alias: 'copy' tensor: 'same' } }",
    );
    let servable = version.load();
    assert_eq!(aliases(&servable, true), ["copy", "y_pred"]);
    let one = || RequestTensor::Valid(floats(&[1], &[1.0]));
    let inputs = ["p", "query"].map(|alias| (alias.to_owned(), one()));
    let error = run(&servable, "", inputs.into()).unwrap_err();
    assert_eq!(error.to_string(), "q:0 is both fed and fetched.");

    let version = version.map("signature { output { alias: 'same' drop: true } }");
    let outputs = outputs_of(&version.load());
    assert_eq!(outputs["y_pred"], floats(&[1], &[3.0]));
    assert_eq!(outputs.len(), 1);

    let version = version.map("signature { input { alias: 'q' drop: true } }");
    let refusal = version.refusal();
    assert!(
        refusal.contains("output 'same' is its input 'q', which the signature map removes"),
        "{refusal}"
    );
}

#[test]
fn output_on_an_input_of_an_onnx_file_is_renamed() {
    for map in [
        "output { alias: 'copy' tensor: 'q' } output { alias: 'y_pred' }",
        "output { alias: 'copy' tensor: 'q' keep: true } output { alias: 'y_pred' }",
        "output { alias: 'neg' drop: true }",
    ] {
        let map = format!("signature {{ input {{ alias: 'query' tensor: 'q' }} {map} }}");
        let net = two_outputs().output("q", FLOAT, &[-1]);
        let servable = net.version().map(&map).load();
        let inputs = [("p", floats(&[1], &[5.0])), ("query", floats(&[1], &[2.0]))];
        let outputs = answer(&servable, "", inputs);
        let copies = outputs.iter().filter(|(alias, _)| *alias != "y_pred");
        for (alias, copy) in copies {
            assert_eq!(*copy, floats(&[1], &[2.0]), "{map}: {alias}");
        }
        assert_eq!(outputs["y_pred"], floats(&[1], &[3.0]), "{map}");
        let count = if map.contains("keep") { 3 } else { 2 };
        assert_eq!(outputs.len(), count, "{map}");
    }
}

#[test]
fn refusals_list_what_there_is() {
    for (map, text) in [
        (
            "output { alias: 'probs' tensor: 'nothing' }",
            "the graph has no output 'nothing'; it has 'y_pred', 'neg'",
        ),
        (
            "output { alias: 'nothing' drop: true }",
            "there is no output alias 'nothing' to drop; there are 'neg', 'y_pred'",
        ),
        (
            "input { alias: 'nothing' drop: true }",
            "there is no input alias 'nothing' to drop; there are 'p', 'q'",
        ),
        (
            "output { alias: 'neg' tensor: 'neg' drop: true }",
            "output 'neg': drop removes the alias, so nothing else can be set with it",
        ),
    ] {
        let refusal = version(map).refusal();
        assert!(refusal.contains(text), "{refusal}");
    }
}

/// For an alias whose tensor the file lacks, the error lists the file's tensors and their aliases.
#[test]
fn open_alias_lists_the_tensors_that_are_taken() {
    let definition = floats_def(
        &[("p", "p:0"), ("q", "q:0")],
        &[("neg", "neg:0"), ("z", "z:0"), ("y_pred", "y_pred:0")],
    );
    let version = two_outputs()
        .version()
        .original(&[("serving_default", definition)]);
    let refusal = version.refusal();
    for text in [
        "output \"z\" (float, originally \"z:0\"): of the graph's outputs each that has its dtype and \
         rank is taken: \"y_pred\" (float[?]) with the alias \"y_pred\", \"neg\" (float[?]) with the \
         alias \"neg\"",
        "output { alias: \"z\" tensor: \"???\" }  # one of: \"y_pred\", \"neg\"; or, to leave it out, \
         drop: true for tensor",
    ] {
        assert!(refusal.contains(text), "{refusal}");
    }
    let version = version.map("signature { output { alias: 'z' drop: true } }");
    assert_eq!(outputs_of(&version.load()).len(), 2);
}

#[test]
fn recorded_requests_may_use_the_aliases_before() {
    let version = version(
        "input { alias: 'minuend' tensor: 'p' } output { alias: 'probs' tensor: 'y_pred' }
         output { alias: 'neg' drop: true }",
    );
    let servable = version.load();
    let one = || RequestTensor::Valid(floats(&[1], &[1.0]));
    let mut inputs = ["p", "q"].map(|alias| (alias.to_owned(), one())).into();
    let mut filter = vec!["y_pred".to_owned(), "neg".to_owned()];
    servable
        .signature("")
        .unwrap()
        .update(&mut inputs, &mut filter);
    assert!(inputs.keys().eq(["minuend", "q"]));
    assert_eq!(filter, ["probs"]);
}
