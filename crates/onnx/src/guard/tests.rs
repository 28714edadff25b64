//! The checks that models get, without a run.

use prost::Message;

use super::*;
use crate::constant::constant_node;
use crate::io_transforms::{int_attribute, ints_attribute};
use crate::node;
use base::tensor::Tensor;
use proto::onnx::{AttributeProto, GraphProto, ModelProto, OperatorSetIdProto, ValueInfoProto};

/// The operators of the graph after `guard`; the ranks of its inputs are not known.
fn guarded_operators(nodes: Vec<NodeProto>) -> Result<Vec<String>> {
    let mut model = model(nodes);
    model.guard_kernels(&HashSet::new())?;
    let nodes = model.graph().node.iter();
    Ok(nodes.map(|it| it.op_type().to_owned()).collect())
}

/// A model of these nodes with two inputs of unknown types.
fn model(nodes: Vec<NodeProto>) -> OnnxModel {
    let input = ["x", "w"].map(|name| ValueInfoProto {
        name: Some(name.to_owned()),
        ..ValueInfoProto::default()
    });
    let proto = ModelProto {
        opset_import: vec![OperatorSetIdProto {
            domain: Some(String::new()),
            version: Some(17),
        }],
        graph: Some(GraphProto {
            node: nodes,
            input: input.into(),
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    };
    OnnxModel::parse("test", &proto.encode_to_vec()).unwrap()
}

fn pool(attributes: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        attribute: attributes,
        ..node("MaxPool", &["c"], "y")
    }
}

fn sizes(attributes: Vec<AttributeProto>) -> Vec<i64> {
    Window::of(&pool(attributes)).unwrap().sizes
}

#[test]
fn ordinary_kernels_are_left_alone() {
    let nodes = vec![node("MatMul", &["x", "w"], "m"), node("Relu", &["m"], "y")];
    assert_eq!(guarded_operators(nodes).unwrap(), ["MatMul", "Relu"]);
}

#[test]
fn a_check_stands_in_front_of_its_kernel() {
    let operators = guarded_operators(vec![node("MaxRoiPool", &["x", "w"], "y")]).unwrap();
    assert_eq!(operators.last().unwrap(), "MaxRoiPool");
    assert!(operators.iter().any(|it| it == "Reshape"), "{operators:?}");
}

/// A check would convert them from the blocks of channels to the ordinary layout.
#[test]
fn images_that_are_empty_together_are_joined_without_a_check() {
    let joined = |axis: i64, stride: i64| {
        let conv = |from: &str, to: &str, kernel: i64| NodeProto {
            attribute: vec![
                ints_attribute("kernel_shape", &[kernel, kernel]),
                ints_attribute("pads", &[kernel / 2; 4]),
                ints_attribute("strides", &[stride, stride]),
            ],
            ..node("Conv", &[from, "k"], to)
        };
        let weights = Tensor::from_vec(&[1, 1, 1, 1], vec![1.0_f32]).unwrap();
        let mut nodes = vec![
            constant_node("k", &weights).unwrap(),
            conv("x", "c", 1),
            node("Relu", &["c"], "r"),
            conv("r", "d", 3),
            node("Concat", &["r", "d"], "y"),
        ];
        nodes[4].attribute.push(int_attribute("axis", axis));
        let operators = guarded_operators(nodes).unwrap();
        // The number of elements: `Size`, or `ReduceProd` of the shape.
        operators
            .iter()
            .any(|it| it == "Size" || it == "ReduceProd")
    };
    assert!(!joined(1, 1));
    assert!(joined(0, 1), "a batch of none has another");
    assert!(joined(1, 2), "of an image of no size it makes one of some");
}

#[test]
fn rank_follows_from_the_scales() {
    let operators = |nodes| guarded_operators(nodes).unwrap();
    let known = vec![
        constant_node("s", &Tensor::from_vec(&[2], vec![1_f32, 2.0]).unwrap()).unwrap(),
        node("Resize", &["x", "", "s"], "y"),
    ];
    let first = operators(known);
    assert_eq!(first[first.len() - 2..], ["Reshape", "Resize"]);
    assert!(!first.iter().any(|it| it == "Equal"), "{first:?}");
    // Computed: known only in a run.
    let computed = operators(vec![node("Resize", &["x", "", "w"], "y")]);
    assert!(computed.iter().any(|it| it == "Equal"), "{computed:?}");
    let sizes = vec![node("Resize", &["x", "", "", "w"], "y")];
    assert_eq!(operators(sizes), ["Resize"]);
}

#[test]
fn quantized_sums_are_checked_where_elements_may_be_lost() {
    let quantized = |before: &str| {
        let operators = guarded_operators(vec![
            node("DequantizeLinear", &["x", "w"], "a"),
            node(before, &["a", "w"], "b"),
            node("Add", &["b", "b"], "c"),
            node("QuantizeLinear", &["c", "w"], "y"),
        ]);
        operators.unwrap().iter().any(|it| it == "Reshape")
    };
    // Requests have elements.
    assert!(!quantized("MatMul"));
    assert!(quantized("Compress"));
    let plain = vec![
        node("Compress", &["x", "w"], "c"),
        node("Add", &["c", "c"], "y"),
    ];
    assert_eq!(guarded_operators(plain).unwrap(), ["Compress", "Add"]);
}

#[test]
fn scale_of_a_product_of_integers_is_checked() {
    let product = |scale: &str| {
        let mut nodes = vec![
            node("DynamicQuantizeLinear", &["x"], "q"),
            node("MatMulInteger", &["q", "w"], "m"),
            node("Cast", &["m"], "f"),
            node("Mul", &["f", scale], "y"),
        ];
        nodes[0].output.push("own".to_owned());
        let operators = guarded_operators(nodes).unwrap();
        // One check is for the product itself.
        operators.iter().filter(|it| *it == "Reshape").count() > 1
    };
    assert!(product("w"));
    assert!(!product("own"), "it always has one element");
}

#[test]
fn operators_and_attributes_that_no_check_saves_are_refused_by_name() {
    let mut lstm = node("AttnLSTM", &["x"], "y");
    lstm.domain = Some("com.microsoft".to_owned());
    let error = guarded_operators(vec![lstm]).unwrap_err().to_string();
    assert!(error.contains("AttnLSTM"), "{error}");
    let mut gather = node("GatherND", &["x", "w"], "y");
    gather.attribute.push(int_attribute("batch_dims", -1));
    let error = guarded_operators(vec![gather]).unwrap_err().to_string();
    assert!(error.contains("'batch_dims'"), "{error}");
}

#[test]
fn pools_are_checked_with_and_without_convolutions() {
    let attributes = || vec![ints_attribute("kernel_shape", &[2, 2])];
    let alone = NodeProto {
        input: vec!["x".to_owned()],
        ..pool(attributes())
    };
    let conv = node("Conv", &["x", "w"], "c");
    for nodes in [vec![alone], vec![conv, pool(attributes())]] {
        let operators = guarded_operators(nodes).unwrap();
        assert!(operators.iter().any(|it| it == "Greater"), "{operators:?}");
    }
}

#[test]
fn the_smallest_image_follows_from_window_and_pads() {
    let kernel = || ints_attribute("kernel_shape", &[3, 2]);
    assert_eq!(sizes(vec![kernel()]), [3, 2]);
    let pads = ints_attribute("pads", &[1, 0, 1, 0]);
    assert_eq!(sizes(vec![kernel(), pads]), [1, 2]);
    let dilations = ints_attribute("dilations", &[2, 3]);
    assert_eq!(sizes(vec![kernel(), dilations]), [5, 4]);
    let same = AttributeProto {
        name: Some("auto_pad".to_owned()),
        s: Some(b"SAME_UPPER".to_vec().into()),
        ..AttributeProto::default()
    };
    assert_eq!(sizes(vec![kernel(), same]), [1, 1]);
}

/// A loop whose body returns this condition: one of its inputs, or the output of a node.
fn looped(condition: &str) -> NodeProto {
    let value = |name: &str| ValueInfoProto {
        name: Some(name.to_owned()),
        ..ValueInfoProto::default()
    };
    let body = GraphProto {
        input: vec![value("round"), value("go")],
        node: vec![node("Not", &["x"], "computed")],
        output: vec![value(condition)],
        ..GraphProto::default()
    };
    let mut looped = node("Loop", &["", ""], "y");
    looped.attribute.push(AttributeProto {
        name: Some("body".to_owned()),
        g: Some(body),
        ..AttributeProto::default()
    });
    looped
}

#[test]
fn conditions_that_a_loop_computes_are_checked() {
    let body = |condition: &str| {
        let mut model = model(vec![looped(condition)]);
        model.guard_kernels(&HashSet::new()).unwrap();
        let body = model.graph().node[0].attribute[0].g.clone().unwrap();
        let operators = body.node.iter().map(|it| it.op_type().to_owned());
        (
            operators.collect::<Vec<_>>(),
            body.output[0].name().to_owned(),
        )
    };
    let (operators, output) = body("computed");
    assert_eq!(operators, ["Not", "Constant", "Reshape"]);
    assert_eq!(output, "computed/checked.1");
    assert_eq!(body("go"), (vec!["Not".to_owned()], "go".to_owned()));
}
