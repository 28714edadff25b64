//! String comparisons that a converter turned into casts to int32: as written, they fail for every request.

use super::net::{BOOL, INT32, Net, answer};
use super::*;
use proto::onnx::{
    AttributeProto, FunctionProto, OperatorSetIdProto, TensorProto, attribute_proto,
};

const STRING: i32 = 8;
const TO_INT32: (&str, i64) = ("to", INT32 as i64);

fn strings(values: &[&'static str]) -> Tensor {
    let values = values.iter().map(|it| Bytes::from_static(it.as_bytes()));
    Tensor::from_strings(&[values.len()], values.collect()).unwrap()
}

fn bools(shape: &[usize], values: &'static [u8]) -> Tensor {
    Tensor::from_bytes(DataType::Bool, shape, Bytes::from_static(values)).unwrap()
}

fn integers(name: &str, values: &[i32]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: vec![values.len() as i64],
        data_type: Some(INT32),
        int32_data: values.to_vec(),
        ..TensorProto::default()
    }
}

fn text(name: &str, value: &'static str) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: vec![1],
        data_type: Some(STRING),
        string_data: vec![Bytes::from_static(value.as_bytes())],
        ..TensorProto::default()
    }
}

/// A net that casts its strings `x` to the numbers `n`.
fn cast() -> Net {
    let net = Net::default().input("x", STRING, &[-1]);
    net.node("Cast", &["x"], "n")
        .attribute(TO_INT32.0, TO_INT32.1)
}

fn with_graphs(mut net: Net, graphs: &[(&str, Net)]) -> Net {
    for (name, inner) in graphs {
        let mut graph = inner.graph.clone();
        graph.name = Some((*name).to_owned());
        let node = net.graph.node.last_mut().unwrap();
        node.attribute.push(AttributeProto {
            name: Some((*name).to_owned()),
            r#type: Some(attribute_proto::AttributeType::Graph as i32),
            g: Some(graph),
            ..AttributeProto::default()
        });
    }
    net
}

#[test]
fn constant_is_that_of_its_own_graph() {
    let branch = |values: &[i32]| {
        let mut branch = Net::default()
            .node("Equal", &["n", "k"], "r")
            .output("r", BOOL, &[-1]);
        branch.graph.initializer.push(integers("k", values));
        branch
    };
    let mut net = cast()
        .input("yes", BOOL, &[])
        .node("Equal", &["n", "k"], "z")
        .node("If", &["yes"], "y");
    net.graph.initializer.push(integers("k", &[3, 4]));
    net = with_graphs(
        net,
        &[
            ("then_branch", branch(&[1, 2])),
            ("else_branch", branch(&[7, 7])),
        ],
    );
    let servable = net
        .output("y", BOOL, &[-1])
        .output("z", BOOL, &[-1])
        .version()
        .load();
    let given = [("x", strings(&["1", "b"])), ("yes", bools(&[], &[1]))];
    let outputs = answer(&servable, "", given);
    assert_eq!(outputs["y"], bools(&[2], &[1, 0]));
    assert_eq!(outputs["z"], bools(&[2], &[0, 0]));
}

#[test]
fn strings_are_moved_as_their_numbers() {
    let mut net =
        cast()
            .node("Reshape", &["n", "column"], "moved")
            .node("Equal", &["moved", "k"], "y");
    net = net.integers("column", &[2], &[-1, 1]);
    net.graph.initializer.push(integers("k", &[1, 2]));
    let servable = net.output("y", BOOL, &[-1, -1]).version().load();
    let outputs = answer(&servable, "", [("x", strings(&["2", "b"]))]);
    assert_eq!(outputs["y"], bools(&[2, 2], &[0, 1, 0, 0]));
}

#[test]
fn loop_carries_strings() {
    const INT64: i32 = 7;
    let body = Net::default()
        .input("round", INT64, &[])
        .input("go", BOOL, &[])
        .input("carried", INT32, &[-1])
        .node("Equal", &["carried", "p"], "r")
        .node("Identity", &["carried"], "passed")
        .node("Identity", &["go"], "goes")
        .output("goes", BOOL, &[])
        .output("passed", INT32, &[-1])
        .output("r", BOOL, &[-1]);
    let mut net = cast()
        .node("Cast", &["text"], "p")
        .attribute(TO_INT32.0, TO_INT32.1);
    net = net
        .integers("rounds", &[], &[2])
        .node("Loop", &["rounds", "", "n"], "last");
    net.graph
        .node
        .last_mut()
        .unwrap()
        .output
        .push("y".to_owned());
    net.graph.initializer.push(text("text", "a"));
    net = with_graphs(net, &[("body", body)]).output("y", BOOL, &[-1, -1]);
    let outputs = answer(&net.version().load(), "", [("x", strings(&["a", "b"]))]);
    assert_eq!(outputs["y"], bools(&[2, 2], &[1, 0, 1, 0]));
}

#[test]
fn function_compares_what_each_caller_gives() {
    let body = Net::default()
        .node("Cast", &["u"], "k")
        .attribute(TO_INT32.0, TO_INT32.1)
        .node("Cast", &["v"], "m")
        .attribute(TO_INT32.0, TO_INT32.1)
        .node("Equal", &["k", "m"], "w");
    let function = FunctionProto {
        name: Some("Same".to_owned()),
        domain: Some("own".to_owned()),
        input: vec!["u".to_owned(), "v".to_owned()],
        output: vec!["w".to_owned()],
        node: body.graph.node,
        opset_import: vec![OperatorSetIdProto {
            domain: Some(String::new()),
            version: Some(17),
        }],
        ..FunctionProto::default()
    };
    let mut net = Net::default()
        .input("x", STRING, &[-1])
        .input("f", 1, &[-1]);
    net = net
        .node("Same", &["x", "text"], "y")
        .node("Same", &["f", "f"], "z");
    for node in &mut net.graph.node {
        node.domain = Some("own".to_owned());
    }
    net.graph.initializer.push(text("text", "a"));
    net.functions = vec![function];
    let servable = net
        .output("y", BOOL, &[-1])
        .output("z", BOOL, &[-1])
        .version()
        .load();
    let floats = Tensor::from_vec(&[1], vec![1.5_f32]).unwrap();
    let outputs = answer(&servable, "", [("x", strings(&["a", ""])), ("f", floats)]);
    assert_eq!(outputs["y"], bools(&[2], &[1, 0]));
    assert_eq!(outputs["z"], bools(&[1], &[1]));
}
