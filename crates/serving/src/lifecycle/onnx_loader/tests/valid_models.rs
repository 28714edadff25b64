//! Valid models that an edit of the graph once broke: they were refused, or answered differently from plain
//! ONNX Runtime.

use super::net::{BOOL, FLOAT, INT64, Net, answer, floats, value};
use super::*;
use onnx::OnnxModel;
use proto::onnx::{
    AttributeProto, GraphProto, ModelProto, OperatorSetIdProto, TensorProto, TypeProto,
    ValueInfoProto, attribute_proto, type_proto,
};

const STRING: i32 = 8;
const UINT8: i32 = 2;
const INT32: i32 = 6;

fn attribute(name: &str, kind: attribute_proto::AttributeType) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(kind as i32),
        ..AttributeProto::default()
    }
}

fn with_body(mut net: Net, body: Net) -> Net {
    let mut graph = body.graph;
    graph.name = Some("body".to_owned());
    let node = net.graph.node.last_mut().unwrap();
    node.attribute.push(AttributeProto {
        g: Some(graph),
        ..attribute("body", attribute_proto::AttributeType::Graph)
    });
    net
}

fn number(value: i64) -> Tensor {
    Tensor::from_vec(&[], vec![value]).unwrap()
}

/// After zero iterations, a loop's collected output has the sizes that its body declares: (0, 2, 3) here in
/// ONNX's test suite and in ONNX Runtime.
#[test]
fn loop_without_rounds_returns_the_declared_sizes() {
    let body = Net::default()
        .input("round", INT64, &[])
        .input("go", BOOL, &[])
        .node("Identity", &["go"], "go_on")
        .node("Reshape", &["x", "sizes"], "r")
        .output("go_on", BOOL, &[])
        .output("r", FLOAT, &[2, 3]);
    let net = Net::default()
        .input("n", INT64, &[])
        .input("x", FLOAT, &[-1])
        .integers("sizes", &[2], &[2, 3])
        .node("Loop", &["n", ""], "y");
    let servable = with_body(net, body)
        .output("y", FLOAT, &[-1, -1, -1])
        .version()
        .load();
    let x = || floats(&[6], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    for (rounds, shape) in [(0, [0, 2, 3]), (1, [1, 2, 3]), (2, [2, 2, 3])] {
        let outputs = answer(&servable, "", [("n", number(rounds)), ("x", x())]);
        assert_eq!(outputs["y"].shape(), shape);
    }
}

/// ONNX Runtime orders nodes starting from those whose output is not read. Without the last node it visits
/// the chain before the scan. The scan's body has a name that the chain also has, so ONNX Runtime refuses
/// the file.
#[test]
fn nodes_that_nothing_needs_stay_where_the_rest_is_refused() {
    let body = Net::default()
        .input("state", FLOAT, &[])
        .input("element", FLOAT, &[])
        .node("Neg", &["element"], "v")
        .node("Identity", &["state"], "next")
        .node("Identity", &["element"], "out")
        .output("next", FLOAT, &[])
        .output("out", FLOAT, &[]);
    let net = Net::default()
        .input("x", FLOAT, &[-1, -1])
        .initializer("start", &[2], &[1.0, 2.0])
        .node("Neg", &["x"], "t")
        .node("Neg", &["x"], "d")
        .node("Scan", &["start", "t"], "s")
        .attribute("num_scan_inputs", 1);
    let mut net = with_body(net, body);
    for value in &mut net.graph.node[2].attribute[1].g.as_mut().unwrap().input {
        value.r#type = super::net::value("", FLOAT, &[-1]).r#type;
    }
    for value in &mut net.graph.node[2].attribute[1].g.as_mut().unwrap().output {
        value.r#type = super::net::value("", FLOAT, &[-1]).r#type;
    }
    net.graph.node[2].output.push("s2".to_owned());
    let servable = net
        .node("Sub", &["d", "s"], "z")
        .node("Neg", &["x"], "a")
        .node("Neg", &["a"], "b")
        .node("Neg", &["b"], "c")
        .node("Neg", &["c"], "e")
        .node("Neg", &["e"], "v")
        .node("Neg", &["v"], "w")
        .node("Neg", &["w"], "u")
        .node("Neg", &["s2"], "dead")
        .output("u", FLOAT, &[-1, -1])
        .output("z", FLOAT, &[-1, -1])
        .version()
        .load();
    let outputs = answer(&servable, "", [("x", floats(&[1, 2], &[1.0, 2.0]))]);
    assert_eq!(outputs["u"], floats(&[1, 2], &[-1.0, -2.0]));
    assert_eq!(outputs["z"], floats(&[1, 2], &[-2.0, -4.0]));
}

/// From opset 19 on, ONNX compares strings, so a cast before a comparison is meant to produce a number.
#[test]
fn strings_are_parsed_where_strings_could_be_compared() {
    let strings = |values: &[&'static str]| {
        let values = values.iter().map(|it| Bytes::from_static(it.as_bytes()));
        Tensor::from_strings(&[4], values.collect()).unwrap()
    };
    let bools = |values: &'static [u8]| {
        Tensor::from_bytes(DataType::Bool, &[4], Bytes::from_static(values)).unwrap()
    };
    for opset in [19, 21, 23] {
        let mut net = Net::default()
            .input("x", STRING, &[-1])
            .input("z", STRING, &[-1])
            .node("Cast", &["x"], "n")
            .attribute("to", INT32.into())
            .node("Cast", &["z"], "m")
            .attribute("to", INT32.into())
            .node("Equal", &["n", "five"], "is_five")
            .node("Equal", &["n", "m"], "same")
            .output("is_five", BOOL, &[-1])
            .output("same", BOOL, &[-1]);
        net.graph.initializer.push(TensorProto {
            name: Some("five".to_owned()),
            data_type: Some(INT32),
            int32_data: vec![5],
            ..TensorProto::default()
        });
        let version = net.version();
        version.change(|model| {
            model.opset_import[0].version = Some(opset);
            model.ir_version = Some(10);
        });
        let inputs = [
            ("x", strings(&["5", "05", "+5", "7"])),
            ("z", strings(&["5", "5", "6", "07"])),
        ];
        let outputs = answer(&version.load(), "", inputs);
        assert_eq!(outputs["is_five"], bools(&[1, 1, 1, 0]));
        assert_eq!(outputs["same"], bools(&[1, 1, 0, 1]));
    }
}

/// If several values have one name, ONNX Runtime 1.32 takes the last; if they have more than 127 bytes, the
/// last but one.
#[test]
fn one_of_the_values_of_a_name_counts() {
    let small = Net::default()
        .input("x", FLOAT, &[-1, 5, 1])
        .integers("new_shape__1", &[3], &[-1, 1, 5])
        .integers("new_shape__1", &[3], &[5, 1, -1])
        .node("Reshape", &["x", "new_shape__1"], "y")
        .output("y", FLOAT, &[-1, -1, -1]);
    let numbers: Vec<f32> = (0..10_u8).map(f32::from).collect();
    let outputs = answer(
        &small.version().load(),
        "",
        [("x", floats(&[2, 5, 1], &numbers))],
    );
    assert_eq!(outputs["y"], floats(&[5, 1, 2], &numbers));
    // Large values are stored next to the graph that the backend reads.
    const SIDE: usize = 100;
    let sides = [SIDE as i64; 2];
    let large = Net::default()
        .input("x", FLOAT, &[-1, sides[0]])
        .initializer("w", &sides, &[1.0; SIDE * SIDE])
        .initializer("w", &sides, &[2.0; SIDE * SIDE])
        .node("MatMul", &["x", "w"], "y")
        .output("y", FLOAT, &[-1, sides[1]]);
    let outputs = answer(
        &large.version().load(),
        "",
        [("x", floats(&[1, SIDE], &[1.0; SIDE]))],
    );
    assert_eq!(outputs["y"], floats(&[1, SIDE], &[100.0; SIDE]));
}

#[test]
fn one_of_the_values_of_a_name_counts_in_a_nested_graph() {
    let branch = Net::default()
        .integers("new_shape__1", &[3], &[-1, 1, 5])
        .integers("new_shape__1", &[3], &[5, 1, -1])
        .node("Reshape", &["x", "new_shape__1"], "r")
        .output("r", FLOAT, &[-1, -1, -1]);
    let mut net = Net::default()
        .input("x", FLOAT, &[-1, 5, 1])
        .input("yes", BOOL, &[])
        .node("If", &["yes"], "y")
        .output("y", FLOAT, &[-1, -1, -1]);
    let mut graph: GraphProto = branch.graph;
    graph.name = Some("branch".to_owned());
    net.graph.node[0].attribute = ["then_branch", "else_branch"]
        .map(|name| AttributeProto {
            g: Some(graph.clone()),
            ..attribute(name, attribute_proto::AttributeType::Graph)
        })
        .to_vec();
    let numbers: Vec<f32> = (0..10_u8).map(f32::from).collect();
    let yes = Tensor::from_bytes(DataType::Bool, &[], Bytes::from_static(&[1])).unwrap();
    let inputs = [("x", floats(&[2, 5, 1], &numbers)), ("yes", yes)];
    let outputs = answer(&net.version().load(), "", inputs);
    assert_eq!(outputs["y"], floats(&[5, 1, 2], &numbers));
}

/// 2 * inf + 0 is inf; with the formula of a batch normalization, the result is NaN.
#[test]
fn scale_of_infinity_stays_one() {
    for (scale, offset, expected) in [
        (f32::INFINITY, 0.0, f32::INFINITY),
        (1.0, f32::INFINITY, f32::INFINITY),
        (f32::NEG_INFINITY, 1.0, f32::NEG_INFINITY),
    ] {
        let servable = Net::default()
            .input("x", FLOAT, &[-1, 1, -1, -1])
            .initializer("w", &[2, 1, 1, 1], &[1.0, 1.0])
            .initializer("scale", &[2, 1, 1], &[scale, 3.0])
            .initializer("offset", &[2, 1, 1], &[offset, 1.0])
            .node("Conv", &["x", "w"], "c")
            .node("Relu", &["c"], "r")
            .node("Mul", &["r", "scale"], "m")
            .node("Add", &["m", "offset"], "y")
            .output("y", FLOAT, &[-1, 2, -1, -1])
            .version()
            .load();
        let outputs = answer(&servable, "", [("x", floats(&[1, 1, 1, 1], &[2.0]))]);
        assert_eq!(outputs["y"], floats(&[1, 2, 1, 1], &[expected, 7.0]));
    }
}

/// The maps of one row, which ONNX Runtime returns for a vector.
#[test]
fn scores_of_one_row_are_a_row() {
    let zip_map = |rank: usize| {
        let mut net = Net::default()
            .input("x", FLOAT, &vec![-1; rank])
            .node("Identity", &["x"], "p")
            .node("ZipMap", &["p"], "y");
        let node = net.graph.node.last_mut().unwrap();
        node.domain = Some("ai.onnx.ml".to_owned());
        node.attribute.push(AttributeProto {
            ints: vec![3, 4],
            ..attribute("classlabels_int64s", attribute_proto::AttributeType::Ints)
        });
        let map = type_proto::Map {
            key_type: Some(INT64),
            value_type: value("", FLOAT, &[]).r#type.map(Box::new),
        };
        let map = TypeProto {
            value: Some(type_proto::Value::MapType(Box::new(map))),
            ..TypeProto::default()
        };
        let sequence = type_proto::Sequence {
            elem_type: Some(Box::new(map)),
        };
        net.graph.output.push(ValueInfoProto {
            name: Some("y".to_owned()),
            r#type: Some(TypeProto {
                value: Some(type_proto::Value::SequenceType(Box::new(sequence))),
                ..TypeProto::default()
            }),
            ..ValueInfoProto::default()
        });
        let version = net.version();
        version.change(|model| {
            model.opset_import.push(OperatorSetIdProto {
                domain: Some("ai.onnx.ml".to_owned()),
                version: Some(3),
            });
        });
        version.load()
    };
    let outputs = answer(&zip_map(1), "", [("x", floats(&[2], &[0.1, 0.9]))]);
    assert_eq!(outputs["y"], floats(&[1, 2], &[0.1, 0.9]));
    let rows = || floats(&[2, 2], &[0.1, 0.9, 0.4, 0.6]);
    let outputs = answer(&zip_map(2), "", [("x", rows())]);
    assert_eq!(outputs["y"], rows());
}

/// The types that ONNX Runtime 1.32 reports for these outputs, which the file declares only by name.
#[test]
fn types_of_outputs_follow_where_inputs_are_left_out() {
    const BFLOAT16: i32 = 16;
    let typed = |domain: &str, op_type: &str, inputs: &[(&str, i32)], outputs: &[&str]| {
        let mut net = Net::default();
        for (name, elem_type) in inputs.iter().filter(|it| !it.0.is_empty()) {
            net = net.input(name, *elem_type, &[]);
        }
        let names: Vec<&str> = inputs.iter().map(|it| it.0).collect();
        net = net.node(op_type, &names, outputs[0]);
        let node = net.graph.node.last_mut().unwrap();
        node.domain = Some(domain.to_owned());
        node.output = outputs.iter().map(|&name| name.to_owned()).collect();
        net.graph.output = outputs
            .iter()
            .map(|&name| ValueInfoProto {
                name: Some(name.to_owned()),
                ..ValueInfoProto::default()
            })
            .collect();
        let proto = ModelProto {
            graph: Some(net.graph),
            ..ModelProto::default()
        };
        let model = OnnxModel::parse("test.onnx", &proto.encode_to_vec()).unwrap();
        let outputs = model.outputs().into_iter();
        outputs.map(|it| it.dtype).collect::<Vec<_>>()
    };
    let microsoft = "com.microsoft";
    let images = [("x", FLOAT), ("grid", FLOAT)];
    let float = Some(DataType::Float);
    assert_eq!(typed(microsoft, "GridSample", &images, &["y"]), [float]);
    let quantized = typed(microsoft, "QuantizeLinear", &images, &["y"]);
    assert_eq!(quantized, [Some(DataType::UInt8)]);
    let packed = [("data", UINT8), ("indices", INT64)];
    let gathered = typed(microsoft, "GatherPacked", &packed, &["y"]);
    assert_eq!(gathered, [Some(DataType::BFloat16)]);
    let three = [("q", FLOAT), ("k", FLOAT), ("v", FLOAT)];
    let present = typed(microsoft, "LinearAttention", &three, &["y", "present"]);
    assert_eq!(present, [float, float]);
    let five = [
        ("q", BFLOAT16),
        ("k", BFLOAT16),
        ("v", BFLOAT16),
        ("", 0),
        ("", 0),
    ];
    let outputs = ["y", "present_key", "present_value"];
    let present = typed(microsoft, "GroupQueryAttention", &five, &outputs);
    assert_eq!(present, [Some(DataType::BFloat16); 3]);
    for op_type in [
        "Conv",
        "MaxPool",
        "AveragePool",
        "GlobalMaxPool",
        "ReorderInput",
    ] {
        let output = typed("com.microsoft.nchwc", op_type, &images, &["y"]);
        assert_eq!(output, [float], "{op_type}");
    }
}
