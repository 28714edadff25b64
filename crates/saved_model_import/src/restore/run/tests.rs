use base::tensor::DataType;
use proto::tensorflow::{
    AttrValue, FunctionDef, FunctionDefLibrary, GraphDef, NameAttrList, OpDef, op_def::ArgDef,
};

use super::*;

fn node(name: &str, op: &str, inputs: &[&str]) -> NodeDef {
    NodeDef {
        name: name.to_owned(),
        op: op.to_owned(),
        input: inputs.iter().map(|it| (*it).to_owned()).collect(),
        ..NodeDef::default()
    }
}

fn with(mut node: NodeDef, name: &str, value: attr_value::Value) -> NodeDef {
    let value = AttrValue { value: Some(value) };
    node.attr.insert(name.to_owned(), value);
    node
}

fn strings(name: &str, texts: &[&str]) -> NodeDef {
    let texts: Vec<_> = texts
        .iter()
        .map(|it| bytes::Bytes::copy_from_slice(it.as_bytes()))
        .collect();
    let tensor = Elements::from_strings(&[texts.len()], texts).unwrap();
    let message = codec::tensor_proto::message::to_message(&tensor);
    with(
        node(name, "Const", &[]),
        "value",
        attr_value::Value::Tensor(message.into()),
    )
}

fn number(name: &str, value: f32) -> NodeDef {
    let tensor = Elements::from_vec(&[], vec![value]).unwrap();
    assert_eq!(tensor.dtype(), DataType::Float);
    let message = codec::tensor_proto::message::to_message(&tensor);
    with(
        node(name, "Const", &[]),
        "value",
        attr_value::Value::Tensor(message.into()),
    )
}

/// The source of each variable after these ops, in words; the path of the checkpoint is fed to `path`.
fn sources(graph: &GraphDef, ops: &[&str]) -> Vec<String> {
    let graph = Graph::new(graph);
    let constants = Constants::default();
    let mut run = Run::new(&graph, &constants);
    for op in ops {
        run.main(op, TensorRef::parse("path:0"));
    }
    let words = |(name, source): (Rc<str>, Source)| match source {
        Source::Entry { key, part } => format!("{name}: entry {key} [{part}]"),
        Source::Constant(elements) => format!("{name}: {:?}", elements.as_slice::<f32>().unwrap()),
        Source::Computed(op) => format!("{name}: by {op}"),
    };
    let mut sources: Vec<_> = run.finish().into_iter().map(words).collect();
    sources.sort();
    sources
}

fn main_graph(nodes: Vec<NodeDef>) -> GraphDef {
    GraphDef {
        node: nodes,
        ..GraphDef::default()
    }
}

/// A sharded saver of TensorFlow 1, then an init op that overwrites one of the variables.
#[test]
fn ops_of_a_graph_are_followed_in_their_order() {
    let graph = main_graph(vec![
        node("path", "Placeholder", &[]),
        strings("names", &["a", "b"]),
        strings("parts", &["", "4 2 0,2:-"]),
        node("read", "RestoreV2", &["path", "names", "parts"]),
        node("v", "VariableV2", &[]),
        node("w", "VarHandleOp", &[]),
        node("u", "VarHandleOp", &[]),
        node("set_v", "Assign", &["v", "read"]),
        node("second", "Identity", &["read:1"]),
        node("set_w", "AssignVariableOp", &["w", "second"]),
        node("shard", "NoOp", &["^set_v", "^set_w"]),
        node("all", "NoOp", &["^shard"]),
        number("one", 1.0),
        node("set_v_again", "Assign", &["v", "one"]),
        node("random", "RandomUniform", &[]),
        node("set_u", "AssignVariableOp", &["u", "random"]),
        node("init", "NoOp", &["^set_v_again", "^set_u"]),
    ]);
    let restored = ["v: entry a []", "w: entry b [4 2 0,2:-]"];
    assert_eq!(sources(&graph, &["all"]), restored);
    let initialised = ["u: by RandomUniform", "v: [1.0]", "w: entry b [4 2 0,2:-]"];
    assert_eq!(sources(&graph, &["all", "init"]), initialised);
}

/// Only the path of this checkpoint is followed, and writes of other operators are noticed.
#[test]
fn other_values_are_not_guessed() {
    let graph = main_graph(vec![
        node("path", "Placeholder", &[]),
        strings("other", &["elsewhere"]),
        strings("names", &["a"]),
        strings("parts", &[""]),
        node("read", "RestoreV2", &["other", "names", "parts"]),
        node("v", "VarHandleOp", &[]),
        node("set", "AssignVariableOp", &["v", "read"]),
        node("w", "VarHandleOp", &[]),
        number("one", 1.0),
        node("set_w", "AssignVariableOp", &["w", "one"]),
        node("add", "AssignAddVariableOp", &["w", "one", "^set_w"]),
        node("all", "NoOp", &["^set", "^add"]),
    ]);
    let expected = ["v: by AssignVariableOp", "w: by AssignAddVariableOp"];
    assert_eq!(sources(&graph, &["all"]), expected);
}

/// A function's nodes are run, also those that no result needs; it can call itself in a damaged file.
#[test]
fn functions_are_followed() {
    let argument = |name: &str| ArgDef {
        name: name.to_owned(),
        ..ArgDef::default()
    };
    let called = |name: &str| {
        attr_value::Value::Func(NameAttrList {
            name: name.to_owned(),
            ..NameAttrList::default()
        })
    };
    let restore = FunctionDef {
        signature: Some(OpDef {
            name: "restore".to_owned(),
            input_arg: vec![argument("prefix"), argument("handle")],
            output_arg: vec![argument("path")],
            ..OpDef::default()
        }),
        node_def: vec![
            strings("names", &["a"]),
            strings("parts", &[""]),
            node(
                "read",
                "RestoreV2",
                &["prefix", "names:output:0", "parts:output:0"],
            ),
            node("value", "Identity", &["read:tensors:0"]),
            node("set", "AssignVariableOp", &["handle", "value:output:0"]),
            with(
                node("again", "PartitionedCall", &["prefix", "handle"]),
                "f",
                called("restore"),
            ),
        ],
        ret: [("path".to_owned(), "prefix".to_owned())].into(),
        ..FunctionDef::default()
    };
    let call = with(
        node("call", "StatefulPartitionedCall", &["path", "v"]),
        "f",
        called("restore"),
    );
    let graph = GraphDef {
        node: vec![
            node("path", "Placeholder", &[]),
            node("v", "VarHandleOp", &[]),
            call,
        ],
        library: Some(FunctionDefLibrary {
            function: vec![restore],
            ..FunctionDefLibrary::default()
        }),
        ..GraphDef::default()
    };
    assert_eq!(sources(&graph, &["call"]), ["v: entry a []"]);
}
