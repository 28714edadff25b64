//! Maps whose aliases swap places or rotate, or that rename aliases of a map below.

use super::net::{FLOAT, Net, Version, answer, floats, floats_def};
use super::*;

/// c = -a, d = b.
pub(super) fn pair() -> Net {
    Net::default()
        .input("a", FLOAT, &[-1])
        .input("b", FLOAT, &[-1])
        .node("Neg", &["a"], "c")
        .node("Identity", &["b"], "d")
        .output("c", FLOAT, &[-1])
        .output("d", FLOAT, &[-1])
}

pub(super) fn signature(text: &str) -> String {
    format!("signature {{ name: 'serving_default' {text} }}")
}

/// A map over the map in the metadata.
fn layered(metadata: &str, map: &str) -> Version {
    let net = pair().metadata(&signature(metadata));
    net.version().map(&signature(map))
}

pub(super) fn integers(values: &[i64]) -> Tensor {
    Tensor::from_vec(&[values.len()], values.to_vec()).unwrap()
}

pub(super) fn outputs_of(version: &Version, inputs: &[(&str, Tensor)]) -> BTreeMap<String, Tensor> {
    let inputs = inputs
        .iter()
        .map(|(alias, it)| ((*alias).to_owned(), RequestTensor::Valid(it.clone())));
    let outputs = run(&version.load(), "", inputs.collect());
    outputs
        .unwrap_or_else(|error| panic!("{error}"))
        .into_iter()
        .collect()
}

/// The values of a = 1 and b = 2, with the present alias of each.
pub(super) fn values(outputs: &BTreeMap<String, Tensor>) -> Vec<(&str, f32)> {
    let outputs = outputs.iter();
    outputs
        .map(|(alias, it)| {
            let value = [-1.0, 2.0]
                .into_iter()
                .find(|value| *it == floats(&[1], &[*value]));
            (alias.as_str(), value.unwrap_or_else(|| panic!("{it:?}")))
        })
        .collect()
}

#[test]
fn outputs_take_aliases_that_a_map_below_replaced() {
    let metadata = "output { alias: 'u' tensor: 'c' } output { alias: 'v' tensor: 'd' }";
    for (map, expected) in [
        (
            "output { alias: 'c' tensor: 'u' }",
            vec![("c", -1.0), ("v", 2.0)],
        ),
        (
            "output { alias: 'c' tensor: 'c' }",
            vec![("c", -1.0), ("v", 2.0)],
        ),
        (
            "output { alias: 'c' tensor: 'd' }",
            vec![("c", 2.0), ("u", -1.0)],
        ),
        (
            "output { alias: 'c' tensor: 'u' keep: true }",
            vec![("c", -1.0), ("u", -1.0), ("v", 2.0)],
        ),
        (
            "output { alias: 'd' tensor: 'u' } output { alias: 'c' tensor: 'v' }",
            vec![("c", 2.0), ("d", -1.0)],
        ),
    ] {
        let version = layered(metadata, map);
        let inputs = [("a", floats(&[1], &[1.0])), ("b", floats(&[1], &[2.0]))];
        assert_eq!(values(&outputs_of(&version, &inputs)), expected, "{map}");
    }
}

#[test]
fn inputs_take_aliases_that_a_map_below_replaced() {
    for (map, [a, b]) in [
        ("input { alias: 'a' tensor: 'x' }", ["a", "b"]),
        ("input { alias: 'a' tensor: 'a' }", ["a", "b"]),
        ("input { alias: 'a' tensor: 'b' }", ["x", "a"]),
        ("input { alias: 'a' tensor: 'x' keep: true }", ["x", "b"]),
        ("input { alias: 'a' tensor: 'x' keep: true }", ["a", "b"]),
    ] {
        let version = layered("input { alias: 'x' tensor: 'a' }", map);
        let inputs = [(a, floats(&[1], &[1.0])), (b, floats(&[1], &[2.0]))];
        let outputs = outputs_of(&version, &inputs);
        assert_eq!(values(&outputs), [("c", -1.0), ("d", 2.0)], "{map}");
    }
}

#[test]
fn alias_that_a_map_below_removed_is_refused() {
    let refusal = layered(
        "input { alias: 'x' tensor: 'a' }",
        "input { alias: 'a' drop: true }",
    )
    .refusal();
    let text = "there is no input alias 'a' any more: the map below removes it; there are 'b', 'x'";
    assert!(refusal.contains(text), "{refusal}");
}

/// The output 'a' is the input 'a'.
fn handed_through() -> Net {
    Net::default()
        .input("a", FLOAT, &[-1])
        .input("b", FLOAT, &[-1])
        .node("Neg", &["b"], "c")
        .output("a", FLOAT, &[-1])
        .output("c", FLOAT, &[-1])
}

#[test]
fn output_that_is_an_input_follows_all_of_its_aliases() {
    for (metadata, map, [a, b]) in [
        (
            "input { alias: 'x' tensor: 'a' }",
            "input { alias: 'y' tensor: 'x' }",
            ["y", "b"],
        ),
        (
            "input { alias: 'x' tensor: 'a' }",
            "input { alias: 'y' tensor: 'a' }",
            ["y", "b"],
        ),
        (
            "",
            "input { alias: 'a' tensor: 'b' } input { alias: 'b' tensor: 'a' }",
            ["b", "a"],
        ),
        (
            "",
            "input { alias: 'b' tensor: 'a' } input { alias: 'e' tensor: 'b' }",
            ["b", "e"],
        ),
        (
            "input { alias: 'x' tensor: 'a' keep: true }",
            "input { alias: 'y' tensor: 'x' keep: true }",
            ["a", "b"],
        ),
    ] {
        let net = handed_through().metadata(&signature(metadata));
        let version = net.version().map(&signature(map));
        let inputs = [(a, floats(&[1], &[5.0])), (b, floats(&[1], &[2.0]))];
        let outputs = outputs_of(&version, &inputs);
        assert_eq!(outputs["a"], floats(&[1], &[5.0]), "{metadata} {map}");
        assert_eq!(outputs["c"], floats(&[1], &[-2.0]), "{metadata} {map}");
    }
}

#[test]
fn output_that_is_an_input_is_described_as_that() {
    let map = "input { alias: 'x' tensor: 'a' dtype: DT_DOUBLE }";
    let servable = handed_through().version().map(&signature(map)).load();
    let dtype = servable.definitions()["serving_default"].outputs["a"].dtype;
    assert_eq!(dtype, DataType::Double.number());
    let x = Tensor::from_vec(&[1], vec![5.0f64]).unwrap();
    let outputs = answer(
        &servable,
        "",
        [("x", x.clone()), ("b", floats(&[1], &[2.0]))],
    );
    assert_eq!(outputs["a"], x);
}

/// TensorFlow does not fetch any of these, under any alias.
#[test]
fn outputs_on_an_input_of_saved_model_change_places() {
    let definition = || {
        floats_def(
            &[("x", "a:0"), ("y", "b:0")],
            &[("x_copy", "a:0"), ("c", "c:0")],
        )
    };
    for (map, copy, other) in [
        ("output { alias: 'n_copy' tensor: 'a' }", "n_copy", "c"),
        ("output { alias: 'n_copy' tensor: 'x_copy' }", "n_copy", "c"),
        (
            "output { alias: 'x_copy' tensor: 'c' } output { alias: 'c' tensor: 'x_copy' }",
            "c",
            "x_copy",
        ),
    ] {
        let version = handed_through().version();
        let version = version
            .original(&[("serving_default", definition())])
            .map(&signature(map));
        let servable = version.load();
        let infos = &servable.definitions()["serving_default"].outputs;
        let aliases: Vec<&String> = infos.keys().collect();
        let mut expected = [copy, other];
        expected.sort_unstable();
        assert_eq!(aliases, expected, "{map}");
        let inputs = ["x", "y"].map(|alias| {
            let tensor = floats(&[1], &[2.0]);
            (alias.to_owned(), RequestTensor::Valid(tensor))
        });
        let ask = |alias: &str| {
            let signature = servable.signature("").unwrap();
            let call = signature.bind(BTreeMap::from(inputs.clone()), &[alias.to_owned()]);
            call.map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(
            ask(copy).unwrap_err(),
            "a:0 is both fed and fetched.",
            "{map}"
        );
        ask(other).unwrap_or_else(|error| panic!("{map}: {error}"));
    }
}

#[test]
fn two_entries_for_one_input_mean_either() {
    for map in [
        "input { alias: 'n' tensor: 'a' } input { alias: 'a' tensor: 'a' }",
        "input { alias: 'n' tensor: 'a' keep: true } input { alias: 'm' tensor: 'a' keep: true }",
        "input { alias: 'n' tensor: 'a' keep: true } input { alias: 'a' tensor: 'a' }",
    ] {
        let version = pair().version().map(&signature(map));
        for alias in ["n", "a"] {
            let inputs = [(alias, floats(&[1], &[1.0])), ("b", floats(&[1], &[2.0]))];
            let outputs = outputs_of(&version, &inputs);
            assert_eq!(values(&outputs), [("c", -1.0), ("d", 2.0)], "{map} {alias}");
        }
    }
    let map = "input { alias: 'n' tensor: 'a' dtype: DT_DOUBLE } input { alias: 'a' tensor: 'a' }";
    let refusal = pair().version().map(&signature(map)).refusal();
    let text = "inputs 'n' and 'a' are two aliases of one input of the graph, 'a', and the map says \
                other things of each";
    assert!(refusal.contains(text), "{refusal}");
}

/// All kept aliases lead to the same newest alias.
#[test]
fn kept_aliases_of_several_maps_are_all_of_the_newest() {
    let version = layered(
        "input { alias: 'x' tensor: 'a' keep: true }",
        "input { alias: 'z' tensor: 'x' keep: true }",
    );
    let servable = version.load();
    let mut kept = servable.signature("").unwrap().kept_aliases("z");
    kept.sort_unstable();
    assert_eq!(kept, ["a", "x"]);
    for alias in ["a", "x", "z"] {
        let inputs = [(alias, floats(&[1], &[1.0])), ("b", floats(&[1], &[2.0]))];
        let outputs = outputs_of(&version, &inputs);
        assert_eq!(values(&outputs), [("c", -1.0), ("d", 2.0)], "{alias}");
    }
}

#[test]
fn one_alias_twice_in_one_map_is_refused() {
    for side in ["input", "output"] {
        let tensors = if side == "input" {
            ["a", "b"]
        } else {
            ["c", "d"]
        };
        let [one, other] = tensors;
        for second in [
            format!("{side} {{ alias: 'z' tensor: '{other}' }}"),
            format!("{side} {{ alias: 'z' tensor: '{one}' }}"),
        ] {
            let map = format!("{side} {{ alias: 'z' tensor: '{one}' }} {second}");
            let refusal = pair().version().map(&signature(&map)).refusal();
            let text = format!("the map names the {side} alias 'z' twice");
            assert!(refusal.contains(&text), "{refusal}");
        }
    }
}

/// The updated form of a request recorded with a = 1, b = 2 and a filter.
fn updated(version: &Version, filter: &[&str]) -> (Vec<(String, f32)>, Vec<String>) {
    let input = |alias: &str, value: f32| {
        let tensor = RequestTensor::Valid(floats(&[1], &[value]));
        (alias.to_owned(), tensor)
    };
    let mut inputs = BTreeMap::from([input("a", 1.0), input("b", 2.0)]);
    let mut filter = filter.iter().map(|&it| it.to_owned()).collect();
    let servable = version.load();
    let signature = servable.signature("").unwrap();
    signature.update(&mut inputs, &mut filter);
    let value = |it: &RequestTensor| match it {
        RequestTensor::Valid(it) if *it == floats(&[1], &[1.0]) => 1.0,
        _ => 2.0,
    };
    let inputs = inputs.iter().map(|(alias, it)| (alias.clone(), value(it)));
    (inputs.collect(), filter)
}

#[test]
fn recorded_requests_are_rewritten_as_a_whole() {
    let definition = || floats_def(&[("a", "a:0"), ("b", "b:0")], &[("c", "c:0"), ("d", "d:0")]);
    for (map, filter, inputs, expected) in [
        (
            "input { alias: 'b' tensor: 'a' } input { alias: 'e' tensor: 'b' }
             output { alias: 'd' tensor: 'c' } output { alias: 'e' tensor: 'd' }",
            vec!["c", "d"],
            [("b", 1.0), ("e", 2.0)],
            vec!["d", "e"],
        ),
        (
            "output { alias: 'd' tensor: 'c' }",
            vec!["c", "d"],
            [("a", 1.0), ("b", 2.0)],
            vec!["d"],
        ),
        (
            "input { alias: 'a' drop: true } input { alias: 'y' tensor: 'a' }
             output { alias: 'c' drop: true } output { alias: 'z' tensor: 'c' }",
            vec!["c", "d"],
            [("b", 2.0), ("y", 1.0)],
            vec!["z", "d"],
        ),
        (
            "input { alias: 'y' tensor: 'a' keep: true } output { alias: 'z' tensor: 'c' keep: true }",
            vec!["c", "z", "d"],
            [("a", 1.0), ("b", 2.0)],
            vec!["c", "z", "d"],
        ),
    ] {
        let version = pair().version();
        let version = version
            .original(&[("serving_default", definition())])
            .map(&signature(map));
        let (sent, filter) = updated(&version, &filter);
        let inputs = inputs.map(|(alias, it)| (alias.to_owned(), it));
        assert_eq!(sent, inputs, "{map}");
        assert_eq!(filter, expected, "{map}");
    }
    // Through both maps.
    let version = layered(
        "input { alias: 'x' tensor: 'a' } output { alias: 'u' tensor: 'c' } output { alias: 'd' }",
        "input { alias: 'a' tensor: 'b' } output { alias: 'w' tensor: 'u' }",
    );
    let (sent, filter) = updated(&version, &["c", "u"]);
    let inputs = [("a", 2.0), ("x", 1.0)].map(|(alias, it)| (alias.to_owned(), it));
    assert_eq!(sent, inputs);
    assert_eq!(filter, ["w", "w"]);
}

/// Each of these caused a panic or a signature that no request could satisfy.
#[test]
fn changes_to_the_example_input_of_a_map_below_are_refused() {
    let example = |alias: &str| {
        format!(
            "example_input {{ alias: '{alias}' feature {{ key: 'x' dtype: DT_FLOAT
               shape {{ dim {{ size: 2 }} }} tensor: 'x' }} }}"
        )
    };
    let metadata = signature(&format!(
        "{} output {{ alias: 's' tensor: 's' }}",
        example("examples")
    ));
    let version = |map: &str| {
        let net = Net::default()
            .input("x", FLOAT, &[-1, 2])
            .node("Neg", &["x"], "s")
            .output("s", FLOAT, &[-1, 2])
            .metadata(&metadata);
        net.version().map(&signature(map))
    };
    let named = "'examples' is the example_input of the map below";
    for (map, text) in [
        ("input { alias: 'inputs' tensor: 'examples' }", named),
        (
            "input { alias: 'inputs' tensor: 'examples' keep: true }",
            named,
        ),
        ("input { alias: 'examples' drop: true }", named),
        ("input { alias: 'examples' tensor: 'x' }", named),
        (
            "input { alias: 'raw' tensor: 'x' }",
            "a feature of the example_input 'examples' feeds 'x'",
        ),
        (
            &example("inputs"),
            "the map below has an example_input 'examples', and a signature has one",
        ),
    ] {
        let refusal = version(map).refusal();
        assert!(refusal.contains(text), "{refusal}");
    }
    version(&example("examples")).load();
}
