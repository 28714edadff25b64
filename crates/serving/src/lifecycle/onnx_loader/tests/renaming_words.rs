//! The texts of `show`, `check` and the log about renamed aliases, and maps with the tensors that `show` prints.

use super::net::{FLOAT, Net, Version, answer, floats, floats_def};
use super::*;
use mapper::version_dir::{Shown, show};

/// s = a + b and d = a - b.
fn two() -> Net {
    Net::default()
        .input("a", FLOAT, &[-1])
        .input("b", FLOAT, &[-1])
        .node("Add", &["a", "b"], "s")
        .node("Sub", &["a", "b"], "d")
        .output("s", FLOAT, &[-1])
        .output("d", FLOAT, &[-1])
}

fn signature(map: &str) -> String {
    format!("signature {{ name: 'serving_default' {map} }}")
}

/// The changes to aliases as `check` prints them, sorted.
fn changes(version: &Version) -> Vec<String> {
    let report = check(backend(), &version.path, &["serve".to_owned()]);
    assert!(report.passed, "{}", report.text);
    let lines = report.text.lines().filter_map(|line| {
        let rest = line.strip_prefix("ok   signature_def['serving_default']: ")?;
        rest.strip_suffix(" (signature map)").map(str::to_owned)
    });
    let mut lines: Vec<String> = lines.collect();
    lines.sort_unstable();
    lines
}

fn shown(version: &Version) -> String {
    show(&version.path, &["serve".to_owned()], &Shown::All).unwrap()
}

/// The rule that `show` prints for each alias.
fn rules(version: &Version) -> Vec<(String, String)> {
    let text = shown(version);
    let mut rules = Vec::new();
    let mut alias = "";
    for line in text.lines() {
        if let Some((_, rest)) = line.split_once("puts['") {
            alias = rest.split('\'').next().unwrap();
        }
        if let Some(rule) = line.trim().strip_prefix("graph: ") {
            rules.push((alias.to_owned(), rule.to_owned()));
        }
    }
    rules
}

fn rule_of(version: &Version, alias: &str) -> String {
    let mut rules = rules(version).into_iter();
    rules.find(|it| it.0 == alias).unwrap().1
}

#[test]
fn two_aliases_that_keep_another_are_each_next_to_it() {
    let version = two().version().map(&signature(
        "input { alias: 'm' tensor: 'a' keep: true } input { alias: 'n' tensor: 'a' keep: true }
         output { alias: 'p' tensor: 's' keep: true } output { alias: 'q' tensor: 's' keep: true }",
    ));
    assert_eq!(
        changes(&version),
        [
            "inputs['a'] is served as inputs['m'], too",
            "inputs['a'] is served as inputs['n'], too",
            "outputs['s'] is served as outputs['p'], too",
            "outputs['s'] is served as outputs['q'], too",
        ]
    );
    for (alias, rule) in [
        ("m", "a (signature map, in addition to 'a')"),
        ("n", "a (signature map, in addition to 'a')"),
        ("p", "s (signature map, in addition to 's')"),
        ("q", "s (signature map, in addition to 's')"),
        ("s", "s (same name)"),
    ] {
        assert_eq!(rule_of(&version, alias), rule, "{alias}");
    }
    let servable = version.load();
    for alias in ["a", "m", "n"] {
        let inputs = [(alias, floats(&[1], &[5.0])), ("b", floats(&[1], &[2.0]))];
        let outputs = answer(&servable, "", inputs);
        for output in ["p", "q", "s"] {
            assert_eq!(outputs[output], floats(&[1], &[7.0]), "{alias} {output}");
        }
    }
}

#[test]
fn two_aliases_that_replace_another_each_stand_in_its_place() {
    let version = two().version().map(&signature(
        "output { alias: 'p' tensor: 's' } output { alias: 'q' tensor: 's' } output { alias: 'd' }",
    ));
    let expected = [
        "outputs['s'] is served as outputs['p']",
        "outputs['s'] is served as outputs['q']",
    ];
    assert_eq!(changes(&version), expected);

    // One of two aliases of a tensor is renamed, and the other one is as it was.
    let definition = floats_def(
        &[("a", "in_a:0"), ("b", "in_b:0")],
        &[("s", "call:0"), ("t", "call:0"), ("d", "call:1")],
    );
    let version = two()
        .version()
        .original(&[("serving_default", definition)])
        .map(&signature(
            "output { alias: 'z' tensor: 's' } output { alias: 't' tensor: 's' }",
        ));
    assert_eq!(
        changes(&version),
        ["outputs['s'] is served as outputs['z']"]
    );
    assert_eq!(rule_of(&version, "t"), "s (signature map)");
}

/// An alias that a map removes can come back by a map above it.
#[test]
fn removed_alias_whose_tensor_is_served_again_is_served() {
    let constant = "value { dtype: DT_FLOAT tensor_shape { dim { size: 1 } } float_val: 3 }";
    for (below, above, expected) in [
        (
            format!("constant {{ tensor: 'b' {constant} }} output {{ alias: 's' }}"),
            "input { alias: 'q' tensor: 'b' }",
            "inputs['b'] is served as inputs['q']",
        ),
        (
            "output { alias: 'd' drop: true }".to_owned(),
            "output { alias: 'e' tensor: 'd' }",
            "outputs['d'] is served as outputs['e']",
        ),
    ] {
        let version = two()
            .metadata(&signature(&below))
            .version()
            .map(&signature(above));
        let text = shown(&version);
        assert!(!text.contains("is not served"), "{text}");
        assert!(changes(&version).contains(&expected.to_owned()), "{above}");
    }
    // Nothing gives it an alias.
    let version = two()
        .version()
        .map(&signature("output { alias: 'd' drop: true }"));
    assert_eq!(changes(&version), ["outputs['d'] is not served"]);
}

/// y = -x, and a SavedModel whose outputs `o` and `o2` are its inputs.
fn through(map: &str) -> Version {
    let definition = floats_def(
        &[("x", "in_x:0"), ("w", "in_w:0")],
        &[("y", "call:0"), ("o", "in_x:0"), ("o2", "in_w:0")],
    );
    Net::default()
        .input("x", FLOAT, &[-1])
        .input("w", FLOAT, &[-1])
        .node("Sub", &["w", "x"], "y")
        .output("y", FLOAT, &[-1])
        .version()
        .original(&[("serving_default", definition)])
        .map(&signature(map))
}

#[test]
fn outputs_that_are_inputs_have_the_names_that_show_prints() {
    let fed = "an input's tensor: requests for it fail, as in TensorFlow";
    for (map, expected) in [
        ("", [("o", "x"), ("o2", "w")]),
        (
            "output { alias: 'o' tensor: 'x' } output { alias: 'o2' tensor: 'w' }",
            [("o", "x"), ("o2", "w")],
        ),
        (
            "input { alias: 'image' tensor: 'x' } output { alias: 'o' tensor: 'x' }",
            [("o", "x"), ("o2", "w")],
        ),
        (
            "output { alias: 'echo' tensor: 'x' }",
            [("echo", "x"), ("o2", "w")],
        ),
        (
            "output { alias: 'o' tensor: 'w' } output { alias: 'o2' tensor: 'x' }",
            [("o", "w"), ("o2", "x")],
        ),
    ] {
        let version = through(map);
        let rules = rules(&version);
        for (alias, tensor) in expected {
            let mut found = rules.iter().filter(|it| it.0 == alias);
            let rule = &found.next().expect(alias).1;
            assert!(
                rule.starts_with(&format!("{tensor} ({fed}")),
                "{map}: {rule}"
            );
        }
        let outputs = &version.load().definitions()["serving_default"].outputs;
        assert_eq!(outputs.len(), 3, "{map}");
    }
    let refusal = Net::default()
        .input("x", FLOAT, &[-1])
        .node("Neg", &["x"], "y")
        .output("y", FLOAT, &[-1])
        .version()
        .map(&signature("output { alias: 'echo' tensor: 'x' }"))
        .refusal();
    assert!(refusal.contains("the graph has no output 'x'"), "{refusal}");
}

#[test]
fn dropped_alias_is_not_served_as_another_that_the_tensor_had_before() {
    let definition = floats_def(
        &[("a", "in_a:0"), ("b", "in_b:0")],
        &[("s", "call:0"), ("t", "call:0"), ("d", "call:1")],
    );
    let version = two()
        .version()
        .original(&[("serving_default", definition)])
        .map(&signature("output { alias: 't' drop: true }"));
    assert_eq!(changes(&version), ["outputs['t'] is not served"]);
}
