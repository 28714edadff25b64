//! Kernels that do not write all of their output if they join or multiply tensors without elements. The
//! rest would be memory of other requests, which clients must not get.

use super::net::{BOOL, FLOAT, INT64, Net, answer, floats};
use super::*;
use proto::onnx::{AttributeProto, OperatorSetIdProto, attribute_proto};

const STRING: i32 = 8;
const UINT8: i32 = 2;
const INT32: i32 = 6;
/// TensorFlow's error for tensors whose other sizes differ.
const DIFFER: &str = "ConcatOp : Dimensions of inputs should match";

/// `p` and `k`, both of two dimensions, joined by `op_type`.
fn joined(op_type: &str, elem_type: i32, axis: i64) -> Net {
    Net::default()
        .input("p", elem_type, &[-1, -1])
        .input("k", elem_type, &[-1, -1])
        .node(op_type, &["p", "k"], "y")
        .attribute("axis", axis)
        .output("y", elem_type, &[-1, -1])
}

fn load(net: Net, opset: i64) -> Servable {
    let version = net.version();
    version.change(|model| {
        model.opset_import[0].version = Some(opset);
        model.opset_import.push(OperatorSetIdProto {
            domain: Some("com.microsoft".to_owned()),
            version: Some(1),
        });
    });
    version.load()
}

fn zeros(shape: &[usize]) -> Tensor {
    floats(shape, &vec![0.0; shape.iter().product()])
}

#[track_caller]
fn refusal<const N: usize>(servable: &Servable, inputs: [(&str, Tensor); N]) -> String {
    let inputs = inputs.map(|(alias, it)| (alias.to_owned(), RequestTensor::Valid(it)));
    let error = run(servable, "", inputs.into_iter().collect());
    let error = error.expect_err("it was answered");
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    error.to_string()
}

#[track_caller]
fn refuses(servable: &Servable, p: &[usize], k: &[usize]) {
    let error = refusal(servable, [("p", zeros(p)), ("k", zeros(k))]);
    assert!(error.contains(DIFFER), "{error}");
}

#[track_caller]
fn shape_of(servable: &Servable, p: &[usize], k: &[usize]) -> Vec<usize> {
    let outputs = answer(servable, "", [("p", zeros(p)), ("k", zeros(k))]);
    outputs["y"].shape().to_vec()
}

#[test]
fn joined_tensor_has_what_was_sent_and_nothing_else() {
    for opset in [8, 11, 13, 17, 21] {
        let rows = load(joined("Concat", FLOAT, 0), opset);
        refuses(&rows, &[5, 0], &[2, 3]);
        refuses(&rows, &[2, 3], &[5, 0]);
        refuses(&rows, &[0, 3], &[2, 0]);
        let columns = load(joined("Concat", FLOAT, 1), opset);
        refuses(&columns, &[0, 4], &[2, 3]);
        // A tensor that adds no elements can have any other sizes.
        assert_eq!(shape_of(&rows, &[0, 4], &[2, 3]), [2, 3]);
        assert_eq!(shape_of(&rows, &[5, 0], &[7, 0]), [12, 0]);
        assert_eq!(shape_of(&columns, &[0, 4], &[0, 3]), [0, 7]);
        assert_eq!(shape_of(&columns, &[2, 0], &[2, 0]), [2, 0]);
        assert_eq!(shape_of(&columns, &[2, 3], &[2, 1]), [2, 4]);
    }
    let last = load(joined("Concat", FLOAT, -1), 17);
    refuses(&last, &[0, 4], &[2, 3]);
    let outputs = answer(
        &last,
        "",
        [
            ("p", floats(&[1, 2], &[1.0, 2.0])),
            ("k", floats(&[1, 1], &[3.0])),
        ],
    );
    assert_eq!(outputs["y"], floats(&[1, 3], &[1.0, 2.0, 3.0]));
}

/// In opset 6, ONNX Runtime cannot add or compare two tensors, so the check has to do without.
#[test]
fn old_model_joins_tensors_with_elements() {
    let servable = load(joined("Concat", FLOAT, 0), 6);
    assert_eq!(shape_of(&servable, &[1, 3], &[2, 3]), [3, 3]);
    refusal(&servable, [("p", zeros(&[5, 0])), ("k", zeros(&[2, 3]))]);
}

#[test]
fn joined_strings_and_integers_are_those_that_were_sent() {
    let strings = |shape: &[usize]| {
        let count = shape.iter().product();
        Tensor::from_strings(shape, vec![Bytes::from_static(b"s"); count]).unwrap()
    };
    let servable = load(joined("Concat", STRING, 0), 17);
    let error = refusal(
        &servable,
        [("p", strings(&[5, 0])), ("k", strings(&[2, 3]))],
    );
    assert!(error.contains(DIFFER), "{error}");
    let longs = |shape: &[usize]| Tensor::from_vec(shape, vec![1_i64; shape.iter().product()]);
    let servable = load(joined("Concat", INT64, 1), 17);
    let inputs = [
        ("p", longs(&[0, 4]).unwrap()),
        ("k", longs(&[2, 3]).unwrap()),
    ];
    let error = refusal(&servable, inputs);
    assert!(error.contains(DIFFER), "{error}");
}

#[test]
fn sequences_are_joined_alike() {
    let net = |new_axis: i64| {
        Net::default()
            .input("p", FLOAT, &[-1, -1])
            .input("k", FLOAT, &[-1, -1])
            .node("SequenceConstruct", &["p", "k"], "s")
            .node("ConcatFromSequence", &["s"], "y")
            .attribute("axis", 0)
            .attribute("new_axis", new_axis)
            .output("y", FLOAT, &[])
    };
    let of_any_shape = |mut net: Net| {
        net.graph.output[0] = proto::onnx::ValueInfoProto {
            name: Some("y".to_owned()),
            ..Default::default()
        };
        net
    };
    for opset in [11, 17] {
        let rows = load(of_any_shape(net(0)), opset);
        refuses(&rows, &[5, 0], &[2, 3]);
        assert_eq!(shape_of(&rows, &[0, 4], &[2, 3]), [2, 3]);
        assert_eq!(shape_of(&rows, &[5, 0], &[7, 0]), [12, 0]);
        assert_eq!(shape_of(&rows, &[1, 3], &[2, 3]), [3, 3]);
        let stacked = load(of_any_shape(net(1)), opset);
        refuses(&stacked, &[5, 0], &[2, 3]);
        assert_eq!(shape_of(&stacked, &[2, 3], &[2, 3]), [2, 2, 3]);
        assert_eq!(shape_of(&stacked, &[2, 0], &[2, 0]), [2, 2, 0]);
    }
}

/// The graph empties the tensor, in a nested graph.
#[test]
fn what_a_graph_empties_is_checked_where_it_is_joined() {
    let branch = Net::default()
        .node("Compress", &["p", "kept"], "some")
        .attribute("axis", 1)
        .node("Concat", &["some", "k"], "r")
        .attribute("axis", 0)
        .output("r", FLOAT, &[-1, -1]);
    let mut net = Net::default()
        .input("p", FLOAT, &[-1, -1])
        .input("k", FLOAT, &[-1, -1])
        .input("kept", BOOL, &[-1])
        .input("yes", BOOL, &[])
        .node("If", &["yes"], "y")
        .output("y", FLOAT, &[-1, -1]);
    let mut graph = branch.graph;
    graph.name = Some("branch".to_owned());
    net.graph.node[0].attribute = ["then_branch", "else_branch"]
        .map(|name| AttributeProto {
            name: Some(name.to_owned()),
            r#type: Some(attribute_proto::AttributeType::Graph as i32),
            g: Some(graph.clone()),
            ..AttributeProto::default()
        })
        .to_vec();
    let servable = load(net, 17);
    let bools = |shape: &[usize], values: &'static [u8]| {
        Tensor::from_bytes(DataType::Bool, shape, Bytes::from_static(values)).unwrap()
    };
    let inputs = |kept: &'static [u8]| {
        [
            ("p", zeros(&[5, 3])),
            ("k", zeros(&[2, 2])),
            ("kept", bools(&[3], kept)),
            ("yes", bools(&[], &[1])),
        ]
    };
    let error = refusal(&servable, inputs(&[0, 0, 0]));
    assert!(error.contains(DIFFER), "{error}");
    let outputs = answer(&servable, "", inputs(&[1, 0, 1]));
    assert_eq!(outputs["y"].shape(), [7, 2]);
}

#[test]
fn vectors_have_no_other_size() {
    let net = Net::default()
        .input("p", FLOAT, &[-1])
        .input("k", FLOAT, &[-1])
        .node("Concat", &["p", "k"], "y")
        .attribute("axis", 0)
        .output("y", FLOAT, &[-1]);
    let servable = load(net, 17);
    assert_eq!(shape_of(&servable, &[0], &[3]), [3]);
    assert_eq!(shape_of(&servable, &[0], &[0]), [0]);
}

/// An empty sum is 0 for floats; integer kernels leave it unwritten.
#[test]
fn products_of_integers_are_sums_of_something() {
    let bytes = |shape: &[usize]| {
        let count = shape.iter().product::<usize>();
        Tensor::from_vec(shape, vec![1_u8; count]).unwrap()
    };
    let matrices = Net::default()
        .input("p", UINT8, &[-1, -1])
        .input("k", UINT8, &[-1, -1])
        .node("MatMulInteger", &["p", "k"], "y")
        .output("y", INT32, &[-1, -1]);
    let servable = load(matrices, 17);
    refusal(&servable, [("p", bytes(&[5, 0])), ("k", bytes(&[0, 3]))]);
    let outputs = answer(
        &servable,
        "",
        [("p", bytes(&[0, 2])), ("k", bytes(&[2, 3]))],
    );
    assert_eq!(outputs["y"].shape(), [0, 3]);
    let outputs = answer(
        &servable,
        "",
        [("p", bytes(&[1, 2])), ("k", bytes(&[2, 1]))],
    );
    assert_eq!(
        outputs["y"],
        Tensor::from_vec(&[1, 1], vec![2_i32]).unwrap()
    );

    let images = Net::default()
        .input("p", UINT8, &[-1, -1, -1, -1])
        .input("k", UINT8, &[-1, -1, -1, -1])
        .node("ConvInteger", &["p", "k"], "y")
        .output("y", INT32, &[-1, -1, -1, -1]);
    let servable = load(images, 17);
    let inputs = [("p", bytes(&[1, 0, 4, 4])), ("k", bytes(&[2, 0, 1, 1]))];
    refusal(&servable, inputs);
}

#[test]
fn quantized_tensors_are_joined_and_multiplied_alike() {
    let bytes = |shape: &[usize]| {
        let count = shape.iter().product::<usize>();
        Tensor::from_vec(shape, vec![1_u8; count]).unwrap()
    };
    let net = |op_type: &str, inputs: &[&str]| {
        let mut net = Net::default()
            .input("p", UINT8, &[-1, -1])
            .input("k", UINT8, &[-1, -1])
            .initializer("scale", &[], &[1.0])
            .node(op_type, inputs, "y")
            .output("y", UINT8, &[-1, -1]);
        net.graph.initializer.push(proto::onnx::TensorProto {
            name: Some("zero".to_owned()),
            data_type: Some(UINT8),
            raw_data: Some(Bytes::from_static(&[0])),
            ..Default::default()
        });
        net
    };
    let inputs = ["scale", "zero", "p", "scale", "zero", "k", "scale", "zero"];
    let mut joined = net("QLinearConcat", &inputs).attribute("axis", 0);
    joined.graph.node[0].domain = Some("com.microsoft".to_owned());
    let servable = load(joined, 17);
    let error = refusal(&servable, [("p", bytes(&[5, 0])), ("k", bytes(&[2, 3]))]);
    assert!(error.contains(DIFFER), "{error}");
    let outputs = answer(
        &servable,
        "",
        [("p", bytes(&[1, 2])), ("k", bytes(&[1, 2]))],
    );
    assert_eq!(outputs["y"], bytes(&[2, 2]));

    let inputs = ["p", "scale", "zero", "k", "scale", "zero", "scale", "zero"];
    let servable = load(net("QLinearMatMul", &inputs), 17);
    refusal(&servable, [("p", bytes(&[5, 0])), ("k", bytes(&[0, 3]))]);
    let outputs = answer(
        &servable,
        "",
        [("p", bytes(&[1, 1])), ("k", bytes(&[1, 1]))],
    );
    assert_eq!(outputs["y"], bytes(&[1, 1]));
}
