//! Sequences that graphs return, on small graphs built here.

use super::net::{FLOAT, Net, Version, answer, floats, value};
use super::*;
use proto::onnx::{
    AttributeProto, FunctionProto, GraphProto, NodeProto, OperatorSetIdProto, attribute_proto,
};

fn pair() -> Net {
    Net::default()
        .input("a", FLOAT, &[-1])
        .input("b", FLOAT, &[-1, 3])
        .node("SequenceConstruct", &["a", "b"], "s")
        .sequence("s", FLOAT)
}

fn outputs(servable: &Servable) -> Vec<String> {
    let signature = servable.signature("").unwrap();
    signature.definition.outputs.keys().cloned().collect()
}

fn node(op_type: &str, inputs: &[&str], output: &str) -> NodeProto {
    Net::default()
        .node(op_type, inputs, output)
        .graph
        .node
        .remove(0)
}

#[test]
fn tensors_of_a_sequence_are_outputs_of_their_own_shapes() {
    let servable = pair().version().load();
    assert_eq!(outputs(&servable), ["s_0", "s_1"]);
    let definition = &servable.signature("").unwrap().definition;
    let sizes = |alias: &str| {
        let shape = definition.outputs[alias].tensor_shape.clone().unwrap();
        assert!(!shape.unknown_rank);
        shape.dim.iter().map(|it| it.size).collect::<Vec<_>>()
    };
    assert_eq!((sizes("s_0"), sizes("s_1")), (vec![-1], vec![-1, 3]));
    let (a, b) = (floats(&[1], &[1.0]), floats(&[1, 3], &[2.0, 3.0, 4.0]));
    let answered = answer(&servable, "", [("a", a.clone()), ("b", b.clone())]);
    assert_eq!(
        answered,
        BTreeMap::from([("s_0".to_owned(), a), ("s_1".to_owned(), b)])
    );
}

#[test]
fn chains_and_branches_are_followed() {
    let branch = |element: &str, name: &str| GraphProto {
        name: Some(name.to_owned()),
        node: vec![node("SequenceInsert", &["one", element], name)],
        output: Net::default().sequence(name, FLOAT).graph.output,
        ..GraphProto::default()
    };
    let mut chooses = node("If", &["which"], "chosen");
    for (name, graph) in [
        ("then_branch", branch("a", "t")),
        ("else_branch", branch("b", "e")),
    ] {
        chooses.attribute.push(AttributeProto {
            name: Some(name.to_owned()),
            r#type: Some(attribute_proto::AttributeType::Graph as i32),
            g: Some(graph),
            ..AttributeProto::default()
        });
    }
    let mut net = Net::default()
        .input("a", FLOAT, &[-1])
        .input("b", FLOAT, &[-1])
        .input("which", super::net::BOOL, &[])
        .node("SequenceEmpty", &[], "none")
        .node("SequenceInsert", &["none", "b"], "one");
    net.graph.node.push(chooses);
    let net = net
        .node("SequenceConstruct", &["a", "b", "a"], "three")
        .node("SequenceErase", &["three"], "two")
        .node("Identity", &["two"], "same")
        .sequence("chosen", FLOAT)
        .sequence("same", FLOAT);
    let servable = net.version().load();
    assert_eq!(
        outputs(&servable),
        ["chosen_0", "chosen_1", "same_0", "same_1"]
    );
    let (a, b) = (floats(&[1], &[1.0]), floats(&[1], &[2.0]));
    let which = Tensor::from_bytes(DataType::Bool, &[], Bytes::from_static(&[1])).unwrap();
    let inputs = [("a", a.clone()), ("b", b.clone()), ("which", which)];
    let answered = answer(&servable, "", inputs);
    let answered: Vec<Tensor> = answered.into_values().collect();
    assert_eq!(answered, [b.clone(), a.clone(), a, b]);
}

#[test]
fn functions_are_followed() {
    let opset = OperatorSetIdProto {
        domain: None,
        version: Some(17),
    };
    let function = FunctionProto {
        name: Some("Twice".to_owned()),
        domain: Some("own".to_owned()),
        input: vec!["x".to_owned()],
        output: vec!["s".to_owned()],
        node: vec![node("SequenceConstruct", &["x", "x"], "s")],
        opset_import: vec![opset],
        ..FunctionProto::default()
    };
    let mut net = Net::default()
        .input("x", FLOAT, &[-1])
        .node("Twice", &["x"], "y")
        .sequence("y", FLOAT);
    net.graph.node[0].domain = Some("own".to_owned());
    net.functions.push(function);
    assert_eq!(outputs(&net.version().load()), ["y_0", "y_1"]);
}

/// From IR version 10 on, functions can share domain and name.
#[test]
fn overload_that_is_called_counts() {
    let overload = |overload: &str, tensors: usize| FunctionProto {
        name: Some("Times".to_owned()),
        domain: Some("own".to_owned()),
        overload: Some(overload.to_owned()),
        input: vec!["x".to_owned()],
        output: vec!["s".to_owned()],
        node: vec![node("SequenceConstruct", &vec!["x"; tensors], "s")],
        opset_import: vec![OperatorSetIdProto {
            domain: None,
            version: Some(17),
        }],
        ..FunctionProto::default()
    };
    for (called, expected) in [("one", vec!["y_0"]), ("two", vec!["y_0", "y_1"])] {
        for order in [["one", "two"], ["two", "one"]] {
            let mut net = Net::default()
                .input("x", FLOAT, &[-1])
                .node("Times", &["x"], "y")
                .sequence("y", FLOAT);
            net.graph.node[0].domain = Some("own".to_owned());
            net.graph.node[0].overload = Some(called.to_owned());
            let functions = order.map(|it| overload(it, if it == "one" { 1 } else { 2 }));
            net.functions.extend(functions);
            let version = net.version();
            version.change(|model| model.ir_version = Some(10));
            let servable = version.load();
            assert_eq!(outputs(&servable), expected, "{called} of {order:?}");
            let x = floats(&[1], &[1.0]);
            let answered = answer(&servable, "", [("x", x.clone())]);
            assert!(answered.values().all(|it| *it == x));
        }
    }
}

#[test]
fn long_chains_of_branches_and_calls_come_to_an_end() {
    let function = FunctionProto {
        name: Some("Same".to_owned()),
        domain: Some("own".to_owned()),
        input: vec!["x".to_owned()],
        output: vec!["s".to_owned()],
        node: vec![node("Identity", &["x"], "s")],
        opset_import: vec![OperatorSetIdProto {
            domain: None,
            version: Some(17),
        }],
        ..FunctionProto::default()
    };
    let mut net = Net::default()
        .input("x", FLOAT, &[-1])
        .node("SequenceConstruct", &["x"], "s0")
        .node("Identity", &["x"], "y")
        .output("y", FLOAT, &[-1]);
    for index in 0..5_000 {
        let (from, to) = (format!("s{index}"), format!("s{}", index + 1));
        net = net.node("Same", &[&from], &to);
        net.graph.node.last_mut().unwrap().domain = Some("own".to_owned());
    }
    net.functions.push(function);
    // Longer chains are not followed, and their sequence is left out.
    assert_eq!(
        outputs(&net.sequence("s5000", FLOAT).version().load()),
        ["y"]
    );
}

/// s = x, split along axis 1.
fn split(columns: i64) -> Net {
    Net::default()
        .input("x", FLOAT, &[-1, columns])
        .node("SplitToSequence", &["x"], "s")
        .attribute("axis", 1)
        .node("Identity", &["x"], "y")
        .output("y", FLOAT, &[-1, columns])
        .sequence("s", FLOAT)
}

#[test]
fn declared_size_counts_and_another_is_refused() {
    let servable = split(2).version().load();
    assert_eq!(outputs(&servable), ["s_0", "s_1", "y"]);
    let x = floats(&[1, 2], &[1.0, 2.0]);
    let answered = answer(&servable, "", [("x", x)]);
    assert_eq!(answered["s_1"], floats(&[1, 1], &[2.0]));
    for columns in [1, 3] {
        let x = RequestTensor::Valid(floats(&[1, columns], &vec![0.0; columns]));
        let error = run(&servable, "", RequestInputs::from([("x".to_owned(), x)])).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    }
}

#[test]
fn sequence_of_unknown_length_is_left_out() {
    assert_eq!(outputs(&split(-1).version().load()), ["y"]);
    let mut alone = split(-1);
    alone.graph.output.retain(|it| it.name() == "s");
    let refusal = alone.version().refusal();
    for text in ["no output", "'s' is not served", "stack_axis: 1"] {
        assert!(refusal.contains(text), "{refusal}");
    }
}

fn stacked(net: Net, axis: i64) -> Version {
    net.version().map(&format!(
        "signature {{ output {{ alias: 'all' tensor: 's' stack_axis: {axis} }} }}"
    ))
}

#[test]
fn map_has_a_sequence_stacked() {
    let servable = stacked(split(-1), 1).load();
    let x = floats(&[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let answered = answer(&servable, "", [("x", x.clone())]);
    assert_eq!(
        answered["all"],
        floats(&[2, 3, 1], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    );
    let servable = stacked(split(-1), 0).load();
    let answered = answer(&servable, "", [("x", x)]);
    assert_eq!(
        answered["all"],
        floats(&[3, 2, 1], &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0])
    );
    assert!(!servable.signature("").unwrap().outputs[0].has_rows);
}

#[test]
fn map_that_names_a_sequence_is_told_its_tensors() {
    let map = "signature { output { alias: 'all' tensor: 's' } }";
    let refusal = split(2).version().map(map).refusal();
    assert!(refusal.contains("They are 's_0', 's_1'"), "{refusal}");
    let map = "signature { output { alias: 'y' stack_axis: 1 } }";
    let refusal = split(2).version().map(map).refusal();
    assert!(refusal.contains("'y' is none"), "{refusal}");
}

#[test]
fn names_that_are_taken_inside_are_made_free() {
    let net = Net::default()
        .input("a", FLOAT, &[-1])
        .node("Neg", &["a"], "s_1")
        .node("SequenceConstruct", &["a", "s_1"], "s")
        .node("Neg", &["s_1"], "y")
        .output("y", FLOAT, &[-1])
        .sequence("s", FLOAT);
    let answered = answer(&net.version().load(), "", [("a", floats(&[1], &[1.0]))]);
    let names: Vec<&String> = answered.keys().collect();
    assert_eq!(names, ["s_0", "s_1", "y"]);
    assert_eq!(answered["s_1"], floats(&[1], &[-1.0]));
}

#[test]
fn types_that_cannot_be_sent_are_refused_by_name() {
    const FLOAT8: i32 = 17;
    const INT4: i32 = 22;
    let plain = |input: i32, output: i32| {
        Net::default()
            .input("x", input, &[-1])
            .node("Identity", &["x"], "y")
            .output("y", output, &[-1])
    };
    let mut optional = plain(FLOAT, FLOAT);
    let element = value("x", FLOAT, &[-1]).r#type.map(Box::new);
    optional.graph.input[0].r#type.as_mut().unwrap().value =
        Some(proto::onnx::type_proto::Value::OptionalType(Box::new(
            proto::onnx::type_proto::Optional { elem_type: element },
        )));
    let float8s = Net::default()
        .input("x", FLOAT, &[-1])
        .node("SequenceConstruct", &["x"], "y")
        .sequence("y", FLOAT8);
    for (net, text) in [
        (
            plain(FLOAT8, FLOAT),
            "input 'x' is a tensor of float8e4m3fn",
        ),
        (plain(FLOAT, INT4), "output 'y' is a tensor of int4"),
        (optional, "input 'x' is optionally a tensor of float"),
        (
            float8s,
            "output 'y' is a sequence of tensors of float8e4m3fn",
        ),
    ] {
        let error = load(&net.version().path).err().unwrap();
        assert_eq!(error.code(), Code::Unimplemented, "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
    // An output that a map leaves out can have any type.
    let both = || {
        plain(FLOAT, FLOAT)
            .node("Cast", &["x"], "z")
            .output("z", FLOAT8, &[-1])
    };
    let both = || both().attribute("to", FLOAT8.into());
    let error = load(&both().version().path).err().unwrap();
    assert!(error.to_string().contains("leaves it out"), "{error}");
    let map = "signature { output { alias: 'y' } }";
    assert_eq!(outputs(&both().version().map(map).load()), ["y"]);
}

#[test]
fn map_renames_keeps_and_drops_tensors_of_a_sequence() {
    let inputs = || {
        let a = floats(&[1], &[1.0]);
        [("a", a), ("b", floats(&[1, 3], &[2.0, 3.0, 4.0]))]
    };
    let of = |map: &str| {
        let servable = pair()
            .version()
            .map(&format!("signature {{ {map} }}"))
            .load();
        (outputs(&servable), answer(&servable, "", inputs()))
    };
    let [(_, a), (_, b)] = inputs();
    let (aliases, answered) =
        of("output { alias: 'first' tensor: 's_0' keep: true } output { alias: 's_1' }");
    assert_eq!(aliases, ["first", "s_0", "s_1"]);
    assert_eq!((&answered["first"], &answered["s_0"]), (&a, &a));
    assert_eq!(answered["s_1"], b);
    let (aliases, answered) = of("output { alias: 's_0' drop: true }");
    assert_eq!(aliases, ["s_1"]);
    assert_eq!(answered["s_1"], b);

    let servable = pair()
        .version()
        .map("signature { output { alias: 'row' tensor: 's_1' } }")
        .load();
    let shape = servable.signature("").unwrap().definition.outputs["row"]
        .tensor_shape
        .clone()
        .unwrap();
    let sizes: Vec<i64> = shape.dim.iter().map(|it| it.size).collect();
    assert_eq!(sizes, [-1, 3]);
    let map = "signature { output { alias: 's' drop: true } }";
    let refusal = pair().version().map(map).refusal();
    let text = "there is no output alias 's' to drop; there are 's_0', 's_1'";
    assert!(refusal.contains(text), "{refusal}");
}

/// A map over a map in the file's metadata that stacks a sequence.
#[test]
fn stacked_output_is_renamed_and_stacked_otherwise() {
    let inner =
        "signature { name: 'serving_default' output { alias: 's' tensor: 's' stack_axis: 0 } }";
    let of = |map: &str| {
        let version = split(-1).metadata(inner).version();
        version.map(&format!("signature {{ {map} }}")).load()
    };
    let x = || ("x", floats(&[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]));
    let by_tensor = floats(&[3, 2, 1], &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    let by_row = floats(&[2, 3, 1], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    for map in [
        "output { alias: 'all' tensor: 's' }",
        "output { alias: 'all' tensor: 's' stack_axis: 0 }",
    ] {
        let servable = of(map);
        assert_eq!(outputs(&servable), ["all"], "{map}");
        assert_eq!(answer(&servable, "", [x()])["all"], by_tensor, "{map}");
        let signature = servable.signature("").unwrap();
        assert!(!signature.outputs[0].has_rows, "{map}");
    }
    let servable = of("output { alias: 's' stack_axis: 1 }");
    assert_eq!(outputs(&servable), ["s"]);
    assert_eq!(answer(&servable, "", [x()])["s"], by_row);
    assert!(servable.signature("").unwrap().outputs[0].has_rows);
    let servable = of("output { alias: 's' dtype: DT_DOUBLE }");
    let answered = &answer(&servable, "", [x()])["s"];
    assert_eq!(
        (answered.dtype(), answered.shape()),
        (DataType::Double, [3, 2, 1].as_slice())
    );
    let servable = of("output { alias: 's' tensor: 'y' }");
    assert_eq!(answer(&servable, "", [x()])["s"], x().1);
    // Both ways of stacking; one of them did not have an alias before.
    let servable = of("output { alias: 'rows' tensor: 's' stack_axis: 1 keep: true }");
    assert_eq!(outputs(&servable), ["rows", "s"]);
    let answered = answer(&servable, "", [x()]);
    assert_eq!((&answered["rows"], &answered["s"]), (&by_row, &by_tensor));
}

#[test]
fn output_that_cannot_be_served_is_dropped() {
    const INT4: i32 = 22;
    let net = Net::default()
        .input("x", FLOAT, &[-1])
        .node("Neg", &["x"], "y")
        .node("Cast", &["x"], "packed")
        .attribute("to", INT4.into())
        .output("y", FLOAT, &[-1])
        .output("packed", INT4, &[-1]);
    let version = net.version();
    let version = version.map("signature { output { alias: 'packed' drop: true } }");
    assert_eq!(outputs(&version.load()), ["y"]);
}
