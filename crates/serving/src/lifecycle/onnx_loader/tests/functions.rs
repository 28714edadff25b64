//! Divisions of integers in functions of the file: functions that are called with several types, that take
//! graphs, and that have the names of operators.
//!
//! The quotients are those of `tf.math.truncatediv` in TensorFlow 2.21; a division that is not made safe ends
//! the process.

use super::net::{BOOL, FLOAT, INT32, INT64, Net, answer, floats};
use super::*;
use base::tensor::Element;
use proto::onnx::{
    AttributeProto, FunctionProto, GraphProto, NodeProto, OperatorSetIdProto, ValueInfoProto,
    attribute_proto::AttributeType,
};

const INT16: i32 = 5;

fn op(op_type: &str, inputs: &[&str], output: &str) -> NodeProto {
    let net = Net::default().node(op_type, inputs, output);
    net.graph.node.into_iter().next().unwrap()
}

fn call(function: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        domain: Some("own".to_owned()),
        ..op(function, inputs, output)
    }
}

/// A function `q = name(l, r)`.
fn function(name: &str, nodes: Vec<NodeProto>) -> FunctionProto {
    let import = |(domain, version): (&str, i64)| OperatorSetIdProto {
        domain: Some(domain.to_owned()),
        version: Some(version),
    };
    FunctionProto {
        name: Some(name.to_owned()),
        domain: Some("own".to_owned()),
        input: ["l", "r"].map(str::to_owned).to_vec(),
        output: vec!["q".to_owned()],
        opset_import: [("", 17), ("own", 1)].map(import).to_vec(),
        node: nodes,
        ..FunctionProto::default()
    }
}

fn ratio() -> FunctionProto {
    function("Ratio", vec![op("Div", &["l", "r"], "q")])
}

fn int(name: &str, value: i32) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Int as i32),
        i: Some(value.into()),
        ..AttributeProto::default()
    }
}

/// An attribute with a graph of one node, whose output it returns.
fn graph(name: &str, node: NodeProto) -> AttributeProto {
    let output = ValueInfoProto {
        name: Some(node.output[0].clone()),
        ..ValueInfoProto::default()
    };
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Graph as i32),
        g: Some(GraphProto {
            name: Some("graph".to_owned()),
            node: vec![node],
            output: vec![output],
            ..GraphProto::default()
        }),
        ..AttributeProto::default()
    }
}

/// The graph of this name that a caller gives.
fn given(name: &str, graph: &str) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Graph as i32),
        ref_attr_name: Some(graph.to_owned()),
        ..AttributeProto::default()
    }
}

fn with(mut node: NodeProto, attributes: impl IntoIterator<Item = AttributeProto>) -> NodeProto {
    node.attribute.extend(attributes);
    node
}

/// One of two graphs, whichever way `l` and `r` compare.
fn choice(attributes: [AttributeProto; 2], inputs: [&str; 2], output: &str) -> Vec<NodeProto> {
    let keeps = int("keepdims", 0);
    let to = |elem: i32| int("to", elem);
    vec![
        op("Less", &inputs, "less"),
        with(op("Cast", &["less"], "as_number"), [to(INT32)]),
        with(op("ReduceMax", &["as_number"], "one"), [keeps]),
        with(op("Cast", &["one"], "chosen"), [to(BOOL)]),
        with(op("If", &["chosen"], output), attributes),
    ]
}

fn vector<T: Element>(values: &[T]) -> Tensor {
    Tensor::from_vec(&[values.len()], values.to_vec()).unwrap()
}

impl Net {
    fn vectors(self, names: &[&str], elem_type: i32) -> Self {
        names
            .iter()
            .fold(self, |net, name| net.input(name, elem_type, &[-1]))
    }

    fn nodes(mut self, nodes: impl IntoIterator<Item = NodeProto>) -> Self {
        self.graph.node.extend(nodes);
        self
    }

    fn functions(mut self, functions: impl IntoIterator<Item = FunctionProto>) -> Self {
        self.functions.extend(functions);
        self
    }

    /// Calls a function with int32, int16, float and int64.
    fn calls_with_each_type(self, function: &str) -> Self {
        let net = self
            .vectors(&["a", "b"], INT32)
            .vectors(&["narrow_a", "narrow_b"], INT16)
            .vectors(&["float_a", "float_b"], FLOAT)
            .vectors(&["long_a", "long_b"], INT64);
        net.nodes([
            call(function, &["a", "b"], "q"),
            call(function, &["narrow_a", "narrow_b"], "narrow_q"),
            call(function, &["float_a", "float_b"], "float_q"),
            call(function, &["long_a", "long_b"], "long_q"),
        ])
        .output("q", INT32, &[-1])
        .output("narrow_q", INT16, &[-1])
        .output("float_q", FLOAT, &[-1])
        .output("long_q", INT64, &[-1])
    }
}

#[track_caller]
fn check_each_type(net: Net) {
    check_each_answer(&net.version().load());
}

#[track_caller]
fn check_each_answer(servable: &Servable) {
    let inputs = [
        ("a", vector(&[i32::MIN, 7, -7])),
        ("b", vector(&[-1, -1, 2])),
        ("narrow_a", vector(&[i16::MIN, 7, -7])),
        ("narrow_b", vector(&[-1_i16, -1, 2])),
        ("float_a", floats(&[3], &[1.0, 7.0, -7.0])),
        ("float_b", floats(&[3], &[-1.0, -1.0, 2.0])),
        ("long_a", vector(&[i64::MIN, 7, -7])),
        ("long_b", vector(&[-1_i64, -1, 2])),
    ];
    let outputs = answer(servable, "", inputs);
    assert_eq!(outputs["q"], vector(&[i32::MIN, -7, -3]));
    assert_eq!(outputs["narrow_q"], vector(&[i16::MIN, -7, -3]));
    assert_eq!(outputs["float_q"], floats(&[3], &[-1.0, -7.0, -3.5]));
    assert_eq!(outputs["long_q"], vector(&[i64::MIN, -7, -3]));
}

/// The quotient of int32 that this net has in `q`.
#[track_caller]
fn check_integers(net: Net) {
    let net = net.output("q", INT32, &[-1]);
    let inputs = [
        ("a", vector(&[i32::MIN, 7, -7])),
        ("b", vector(&[-1, -1, 2])),
    ];
    let outputs = answer(&net.version().load(), "", inputs);
    assert_eq!(outputs["q"], vector(&[i32::MIN, -7, -3]));
}

#[test]
fn function_divides_each_type_it_is_called_with() {
    let net = Net::default().calls_with_each_type("Ratio");
    check_each_type(net.functions([ratio()]));
}

#[test]
fn function_divides_in_functions_and_branches() {
    let branches = [
        graph("then_branch", call("Ratio", &["same", "r"], "then")),
        graph("else_branch", op("Div", &["same", "r"], "else")),
    ];
    let mut nodes = vec![op("Identity", &["l"], "same")];
    nodes.extend(choice(branches, ["l", "r"], "q"));
    let net = Net::default().calls_with_each_type("Choice");
    check_each_type(net.functions([function("Choice", nodes), ratio()]));
}

#[test]
fn copies_of_functions_have_names_of_their_own() {
    // The names that copies would have are those of functions that do something else.
    let others = (1..4).map(|number| {
        let name = format!("Ratio.{number}");
        function(&name, vec![op("Sub", &["l", "r"], "q")])
    });
    let net = Net::default()
        .calls_with_each_type("Ratio")
        .nodes([call("Ratio.1", &["a", "a"], "zero")])
        .output("zero", INT32, &[-1]);
    check_each_type(net.functions(others.chain([ratio()])));
}

#[test]
fn overloads_of_functions_are_copied_apart() {
    let overload = |name: &str, op_type: &str| FunctionProto {
        overload: Some(name.to_owned()),
        ..function("Ratio", vec![op(op_type, &["l", "r"], "q")])
    };
    let mut net = Net::default().calls_with_each_type("Ratio");
    for node in &mut net.graph.node {
        node.overload = Some("quotient".to_owned());
    }
    let functions = [overload("difference", "Sub"), overload("quotient", "Div")];
    let version = net.functions(functions).version();
    version.change(|model| model.ir_version = Some(10));
    check_each_answer(&version.load());
}

#[test]
fn function_of_an_old_version_divides_each_type() {
    let mut old = ratio();
    old.opset_import[0].version = Some(8);
    let version = Net::default()
        .vectors(&["a", "b"], INT32)
        .vectors(&["float_a", "float_b"], FLOAT)
        .nodes([
            call("Ratio", &["a", "b"], "q"),
            call("Ratio", &["float_a", "float_b"], "float_q"),
        ])
        .functions([old])
        .output("q", INT32, &[-1])
        .output("float_q", FLOAT, &[-1])
        .version();
    version.change(|model| model.opset_import[0].version = Some(8));
    let inputs = [
        ("a", vector(&[i32::MIN])),
        ("b", vector(&[-1])),
        ("float_a", floats(&[1], &[1.0])),
        ("float_b", floats(&[1], &[2.0])),
    ];
    let outputs = answer(&version.load(), "", inputs);
    assert_eq!(outputs["q"], vector(&[i32::MIN]));
    assert_eq!(outputs["float_q"], floats(&[1], &[0.5]));
}

#[test]
fn function_is_called_with_many_combinations_of_types() {
    let mut wide = ratio();
    wide.input.extend(["x", "y", "z"].map(str::to_owned));
    let types = ["a", "long", "float"];
    let mut net = Net::default()
        .vectors(&["a"], INT32)
        .vectors(&["long"], INT64)
        .vectors(&["float"], FLOAT)
        .functions([wide]);
    for number in 0..81 {
        let digit = |place: u32| types[number / 3_usize.pow(place) % 3];
        let [l, x, y, z] = [0, 1, 2, 3].map(digit);
        let output = format!("q{number}");
        net = net.nodes([call("Ratio", &[l, l, x, y, z], &output)]);
    }
    let version = net
        .output("q0", INT32, &[-1])
        .output("q80", FLOAT, &[-1])
        .version();
    let inputs = [
        ("a", vector(&[7_i32])),
        ("long", vector(&[7_i64])),
        ("float", floats(&[1], &[7.0])),
    ];
    let outputs = answer(&version.load(), "", inputs);
    assert_eq!(outputs["q0"], vector(&[1_i32]));
    assert_eq!(outputs["q80"], floats(&[1], &[1.0]));
}

#[test]
fn division_in_a_graph_that_a_function_has_as_default_is_safe() {
    let branches = [given("then_branch", "body"), given("else_branch", "body")];
    let mut with_default = function("Use", choice(branches, ["l", "r"], "q"));
    with_default.attribute_proto = vec![graph("body", call("Ratio", &["l", "r"], "in_body"))];
    let net = Net::default()
        .vectors(&["a", "b"], INT32)
        .nodes([call("Use", &["a", "b"], "q")])
        .functions([with_default.clone(), ratio()]);
    check_integers(net.clone());
    with_default.attribute_proto = vec![graph("body", op("Div", &["l", "r"], "in_body"))];
    check_integers(Net {
        functions: vec![with_default],
        ..net
    });
}

/// The names in the graph are those of the function, not those of its caller.
#[test]
fn division_in_a_graph_that_a_call_gives_is_safe() {
    let branches = [given("then_branch", "body"), given("else_branch", "body")];
    let mut uses = function("Use", choice(branches, ["l", "r"], "q"));
    uses.attribute = vec!["body".to_owned()];
    let float = int("to", FLOAT);
    let body = graph("body", op("Div", &["l", "r"], "in_body"));
    let net = Net::default().vectors(&["a", "b"], INT32).nodes([
        with(op("Cast", &["a"], "l"), [float.clone()]),
        with(op("Cast", &["b"], "r"), [float]),
        with(call("Use", &["a", "b"], "q"), [body]),
    ]);
    check_integers(net.functions([uses]));
}

/// ONNX Runtime has operators of these names, and takes those.
#[test]
fn functions_named_as_operators_do_not_hide_divisions() {
    let named = |name: &str, nodes| FunctionProto {
        domain: Some(String::new()),
        ..function(name, nodes)
    };
    let net = || Net::default().vectors(&["a", "b"], INT32);
    let difference = named("Div", vec![op("Sub", &["l", "r"], "q")]);
    let division = op("Div", &["a", "b"], "q");
    check_integers(net().nodes([division]).functions([difference]));
    // Returns truth values, which are not divided by a kernel that ends the process.
    let comparison = named("Identity", vec![op("Equal", &["l", "l"], "q")]);
    let nodes = [
        op("Identity", &["a"], "same_a"),
        op("Identity", &["b"], "same_b"),
        op("Div", &["same_a", "same_b"], "q"),
    ];
    check_integers(net().nodes(nodes).functions([comparison]));
}
