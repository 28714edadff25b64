//! Edits of graphs for what backends cannot compute, compute otherwise, or more slowly.

use super::net::{BOOL, FLOAT, INT32, INT64, Net, answer, floats};
use super::*;
use crate::proto::onnx::{AttributeProto, TensorProto, attribute_proto};

#[test]
fn strings_are_compared_without_opset_19() {
    const STRING: i32 = 8;
    let net = Net::default()
        .input("a", STRING, &[-1])
        .input("b", STRING, &[-1])
        .node("Equal", &["a", "b"], "same")
        .output("same", BOOL, &[-1]);
    let servable = net.version().load();
    let strings = |shape: &[usize], values: &[&'static [u8]]| {
        let values = values.iter().map(|it| Bytes::from_static(it));
        Tensor::from_strings(shape, values.collect()).unwrap()
    };
    let bools = |shape: &[usize], values: &'static [u8]| {
        Tensor::from_bytes(DataType::Bool, shape, Bytes::from_static(values)).unwrap()
    };
    let a = strings(&[2, 2], &[b"x", b"", b"\xff", b"y"]);
    let b = strings(&[2], &[b"x", b"y"]);
    let outputs = answer(&servable, "", [("a", a), ("b", b.clone())]);
    assert_eq!(outputs["same"], bools(&[2, 2], &[1, 0, 0, 1]));
    let outputs = answer(&servable, "", [("a", strings(&[], &[b"y"])), ("b", b)]);
    assert_eq!(outputs["same"], bools(&[2], &[0, 1]));
    let empty = || strings(&[0, 2], &[]);
    let outputs = answer(&servable, "", [("a", empty()), ("b", empty())]);
    assert_eq!(outputs["same"], bools(&[0, 2], &[]));
}

/// What TensorFlow 2.21 answers to `tf.math.truncatediv` of these; ONNX Runtime alone ends the
/// process.
#[test]
fn smallest_integers_are_divided_by_minus_one() {
    let ints = |values: [i32; 3]| Tensor::from_vec(&[3], values.to_vec()).unwrap();
    let longs = |values: [i64; 3]| Tensor::from_vec(&[3], values.to_vec()).unwrap();
    let (a, b) = (ints([i32::MIN, 7, -7]), ints([-1, -1, 2]));
    let quotient = ints([i32::MIN, -7, -3]);
    let (long_a, long_b) = (longs([i64::MIN, 7, -7]), longs([-1, -1, 2]));
    let long_quotient = longs([i64::MIN, -7, -3]);

    let net = |elem_type: i32| {
        Net::default()
            .input("a", elem_type, &[-1])
            .input("b", elem_type, &[-1])
    };
    let plain = net(INT32).node("Div", &["a", "b"], "q");
    let plain = plain.output("q", INT32, &[-1]).version().load();
    let outputs = answer(&plain, "", [("a", a.clone()), ("b", b.clone())]);
    assert_eq!(outputs["q"], quotient);
    let long = net(INT64).node("Div", &["a", "b"], "q");
    let long = long.output("q", INT64, &[-1]).version().load();
    let outputs = answer(&long, "", [("a", long_a), ("b", long_b)]);
    assert_eq!(outputs["q"], long_quotient);

    // The type follows from operators in between, the quotient lies in a nested graph.
    let branch = Net::default()
        .node("Div", &["same_a", "slice"], "branch_q")
        .output("branch_q", 0, &[]);
    let mut nested = net(INT32)
        .input("yes", BOOL, &[])
        .node("Identity", &["a"], "same_a")
        .node("Shape", &["b"], "end")
        .node("Sub", &["end", "end"], "start")
        .node("Slice", &["b", "start", "end"], "slice")
        .node("If", &["yes"], "q")
        .output("q", INT32, &[-1]);
    let mut graph = branch.graph;
    graph.name = Some("branch".to_owned());
    graph.output[0].r#type = None;
    nested.graph.node[4].attribute = ["then_branch", "else_branch"]
        .map(|name| AttributeProto {
            name: Some(name.to_owned()),
            r#type: Some(attribute_proto::AttributeType::Graph as i32),
            g: Some(graph.clone()),
            ..AttributeProto::default()
        })
        .to_vec();
    let nested = nested.version().load();
    let yes = Tensor::from_bytes(DataType::Bool, &[], Bytes::from_static(&[1])).unwrap();
    let outputs = answer(&nested, "", [("a", a), ("b", b), ("yes", yes)]);
    assert_eq!(outputs["q"], quotient);

    let zero = [("a", ints([1, 2, 3])), ("b", ints([0, 1, 2]))];
    let zero = zero.map(|(alias, it)| (alias.to_owned(), RequestTensor::Valid(it)));
    let error = run(&plain, "", zero.into_iter().collect()).unwrap_err();
    assert!(error.to_string().contains("division by zero"), "{error}");
}

fn constant(name: &str, tensor: &Tensor) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: tensor.shape().iter().map(|&dim| dim as i64).collect(),
        data_type: Some(match tensor.dtype() {
            DataType::Float => FLOAT,
            _ => INT64,
        }),
        raw_data: tensor.bytes().cloned(),
        ..TensorProto::default()
    }
}

/// The last node's attribute.
fn with_attribute(mut net: Net, attribute: AttributeProto) -> Net {
    net.graph.node.last_mut().unwrap().attribute.push(attribute);
    net
}

fn cast(net: Net, input: &str, to: i32, output: &str) -> Net {
    let to = AttributeProto {
        name: Some("to".to_owned()),
        r#type: Some(attribute_proto::AttributeType::Int as i32),
        i: Some(to.into()),
        ..AttributeProto::default()
    };
    with_attribute(net.node("Cast", &[input], output), to)
}

/// A convolution, its activation, a batch normalization and a flattening as tf2onnx writes them, for
/// images of 1 x 2 pixels.
fn image_net() -> Net {
    let nhwc = [0_i64, 2, 3, 1];
    let perm = AttributeProto {
        name: Some("perm".to_owned()),
        r#type: Some(attribute_proto::AttributeType::Ints as i32),
        ints: nhwc.to_vec(),
        ..AttributeProto::default()
    };
    let net = Net::default()
        .input("x", FLOAT, &[-1, 1, 1, 2])
        .node("Conv", &["x", "weights"], "conv")
        .node("Relu", &["conv"], "relu")
        .node("Mul", &["relu", "scale"], "product")
        .node("Add", &["product", "offset"], "sum")
        .node("Transpose", &["sum"], "nhwc");
    let net = with_attribute(net, perm)
        .node("Shape", &["sum"], "shape")
        .node("Gather", &["shape", "order"], "nhwc_shape");
    let net = cast(net, "nhwc_shape", INT32, "narrow_shape").node(
        "Slice",
        &["narrow_shape", "zero", "one", "zero"],
        "rows",
    );
    let net = cast(net, "rows", INT64, "wide_rows")
        .node("Concat", &["wide_rows", "rest"], "flat_shape")
        .node("Reshape", &["nhwc", "flat_shape"], "y")
        .output("y", FLOAT, &[-1, 4]);
    let axis = AttributeProto {
        name: Some("axis".to_owned()),
        r#type: Some(attribute_proto::AttributeType::Int as i32),
        i: Some(0),
        ..AttributeProto::default()
    };
    let mut net = net;
    let concat = net.graph.node.iter_mut();
    let mut concat = concat.filter(|node| node.op_type() == "Concat");
    concat.next().unwrap().attribute.push(axis);
    let ints = |values: &[i64]| Tensor::from_vec(&[values.len()], values.to_vec()).unwrap();
    net.graph.initializer = vec![
        constant("weights", &floats(&[2, 1, 1, 1], &[1.0, 2.0])),
        constant("scale", &floats(&[1, 2, 1, 1], &[10.0, 100.0])),
        constant("offset", &floats(&[1, 2, 1, 1], &[1.0, 2.0])),
        constant("order", &ints(&nhwc)),
        constant("zero", &ints(&[0])),
        constant("one", &ints(&[1])),
        constant("rest", &ints(&[4])),
    ];
    net
}

/// The values follow from the operators, by hand: products of 1 and 2, nothing below 0, times 10 and
/// 100, plus 1 and 2.
#[test]
fn batch_norm_and_flattening_answer_as_written() {
    let servable = image_net().version().load();
    let images = floats(&[2, 1, 1, 2], &[3.0, -4.0, 0.5, 1.0]);
    let outputs = answer(&servable, "", [("x", images)]);
    let expected = [31.0, 602.0, 1.0, 2.0, 6.0, 102.0, 11.0, 202.0];
    assert_eq!(outputs["y"], floats(&[2, 4], &expected));
}

/// Images of twice the size would make twice as many rows if the first size were made to fit.
#[test]
fn flattening_refuses_other_sizes() {
    let servable = image_net().version().load();
    let images = RequestTensor::Valid(floats(&[1, 1, 1, 4], &[0.0; 4]));
    let error = run(
        &servable,
        "",
        RequestInputs::from([("x".to_owned(), images)]),
    )
    .unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
}
