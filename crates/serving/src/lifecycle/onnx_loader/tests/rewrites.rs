//! Edits of graphs for operators that backends cannot compute, compute differently, or compute slowly.

use super::net::{BOOL, FLOAT, INT32, INT64, Net, answer, floats};
use super::*;
use proto::onnx::{AttributeProto, TensorProto, attribute_proto};

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

/// The results of `tf.math.truncatediv` in TensorFlow 2.21. ONNX Runtime without the edit ends the process.
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

    // The type follows from operators in between, and the quotient is in a nested graph.
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

fn int_attribute(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(attribute_proto::AttributeType::Int as i32),
        i: Some(value),
        ..AttributeProto::default()
    }
}

fn ints_attribute(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(attribute_proto::AttributeType::Ints as i32),
        ints: values.to_vec(),
        ..AttributeProto::default()
    }
}

impl Net {
    /// A node with an attribute.
    fn node_with(self, op_type: &str, inputs: &[&str], output: &str, with: AttributeProto) -> Self {
        let mut net = self.node(op_type, inputs, output);
        net.graph.node.last_mut().unwrap().attribute.push(with);
        net
    }

    fn constants(mut self, constants: &[(&str, Tensor)]) -> Self {
        let constants = constants.iter().map(|(name, it)| constant(name, it));
        self.graph.initializer.extend(constants);
        self
    }

    /// An activation and a batch normalization, with these numbers for each channel.
    fn normalized(self, input: &str, scale: &[f32], offset: &[f32], output: &str) -> Self {
        let name = |part: &str| format!("{output}/{part}");
        let (relu, product) = (name("relu"), name("product"));
        let shape = [1, scale.len(), 1, 1];
        self.constants(&[
            (&name("scale"), floats(&shape, scale)),
            (&name("offset"), floats(&shape, offset)),
        ])
        .node("Relu", &[input], &relu)
        .node("Mul", &[&relu, &name("scale")], &product)
        .node("Add", &[&product, &name("offset")], output)
    }

    /// A flattening as tf2onnx writes it: `size` numbers a row, channels last.
    fn flattened(self, input: &str, size: i64, output: &str) -> Self {
        let ints = |values: &[i64]| Tensor::from_vec(&[values.len()], values.to_vec()).unwrap();
        let nhwc = [0, 2, 3, 1];
        let int32 = int_attribute("to", INT32.into());
        let int64 = int_attribute("to", INT64.into());
        let axis = int_attribute("axis", 0);
        self.constants(&[
            ("order", ints(&nhwc)),
            ("zero", ints(&[0])),
            ("one", ints(&[1])),
            ("size", ints(&[size])),
        ])
        .node_with("Transpose", &[input], "nhwc", ints_attribute("perm", &nhwc))
        .node("Shape", &[input], "shape")
        .node("Gather", &["shape", "order"], "nhwc_shape")
        .node_with("Cast", &["nhwc_shape"], "narrow_shape", int32)
        .node("Slice", &["narrow_shape", "zero", "one", "zero"], "rows")
        .node_with("Cast", &["rows"], "wide_rows", int64)
        .node_with("Concat", &["wide_rows", "size"], "flat_shape", axis)
        .node("Reshape", &["nhwc", "flat_shape"], output)
    }
}

/// Images of 1 x 2 pixels: a convolution to two channels, whose values are multiplied by 1 and 2.
fn images() -> Net {
    Net::default()
        .input("x", FLOAT, &[-1, 1, 1, 2])
        .constants(&[("weights", floats(&[2, 1, 1, 1], &[1.0, 2.0]))])
        .node("Conv", &["x", "weights"], "conv")
        .normalized("conv", &[10.0, 100.0], &[1.0, 2.0], "images")
}

const IMAGES: [f32; 4] = [3.0, -4.0, 0.5, 1.0];

/// Values computed by hand: 3 becomes 31 and 602, and -4 becomes 1 and 2.
#[test]
fn batch_norm_and_flattening_answer_as_written() {
    let net = images().flattened("images", 4, "y");
    let servable = net.output("y", FLOAT, &[-1, 4]).version().load();
    let images = floats(&[2, 1, 1, 2], &IMAGES);
    let outputs = answer(&servable, "", [("x", images)]);
    let expected = [31.0, 602.0, 1.0, 2.0, 6.0, 102.0, 11.0, 202.0];
    assert_eq!(outputs["y"], floats(&[2, 4], &expected));
}

/// The images of the test above are averaged, normalized, flattened and multiplied.
#[test]
fn batch_norms_between_weights_answer_as_written() {
    let net = images()
        .constants(&[
            ("mean", floats(&[1, 2, 1, 1], &[1.0, 0.5])),
            ("matrix", floats(&[2, 3], &[1.0, 0.0, 2.0, 0.0, 1.0, 1.0])),
            ("bias", floats(&[3], &[1.0, 2.0, 3.0])),
        ])
        // 31 + 602 / 2 and 1 + 2 / 2; 6 + 102 / 2 and 11 + 202 / 2.
        .node("Conv", &["images", "mean"], "means")
        // Twice that, less 4.
        .normalized("means", &[2.0], &[-4.0], "normal")
        .flattened("normal", 2, "flat")
        .node("MatMul", &["flat", "matrix"], "product")
        .node("Add", &["product", "bias"], "y");
    let servable = net.output("y", FLOAT, &[-1, 3]).version().load();
    let images = floats(&[2, 1, 1, 2], &IMAGES);
    let outputs = answer(&servable, "", [("x", images)]);
    let expected = [661.0, 2.0, 1323.0, 111.0, 222.0, 443.0];
    assert_eq!(outputs["y"], floats(&[2, 3], &expected));
}

/// At the edge, a padded convolution reads zeros, not scaled zeros.
#[test]
fn padding_is_not_scaled() {
    let net = images().constants(&[("sum", floats(&[1, 2, 1, 3], &[1.0; 6]))]);
    let net = net.node_with(
        "Conv",
        &["images", "sum"],
        "y",
        ints_attribute("pads", &[0, 1, 0, 1]),
    );
    let servable = net.output("y", FLOAT, &[-1, 1, 1, 2]).version().load();
    let images = floats(&[1, 1, 1, 2], &IMAGES[..2]);
    let outputs = answer(&servable, "", [("x", images)]);
    // 31 + 602 + 1 + 2, on either side.
    assert_eq!(outputs["y"], floats(&[1, 1, 1, 2], &[636.0, 636.0]));
}

/// If the first size were computed to fit, images of twice the size would make twice as many rows.
#[test]
fn flattening_refuses_other_sizes() {
    let net = images().flattened("images", 4, "y");
    let servable = net.output("y", FLOAT, &[-1, 4]).version().load();
    let images = RequestTensor::Valid(floats(&[1, 1, 1, 4], &[0.0; 4]));
    let error = run(
        &servable,
        "",
        RequestInputs::from([("x".to_owned(), images)]),
    )
    .unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
}
