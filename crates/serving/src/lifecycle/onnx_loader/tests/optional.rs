//! Graph inputs that have a value in the file, on small graphs built here.

use super::net::{FLOAT, INT64, Net, answer, floats};
use super::*;
use mapper::signature::tensor_name;

/// y = x * scale + offset, each with a default.
fn scaled() -> Net {
    Net::default()
        .input("x", FLOAT, &[-1])
        .input("scale", FLOAT, &[])
        .input("offset", FLOAT, &[1])
        .initializer("scale", &[], &[2.0])
        .initializer("offset", &[1], &[10.0])
        .node("Mul", &["x", "scale"], "p")
        .node("Add", &["p", "offset"], "y")
        .output("y", FLOAT, &[-1])
}

fn x() -> (&'static str, Tensor) {
    ("x", floats(&[2], &[1.0, 2.0]))
}

fn y<const N: usize>(servable: &Servable, inputs: [(&str, Tensor); N]) -> Vec<f32> {
    let outputs = answer(servable, "", inputs);
    outputs["y"].as_slice::<f32>().unwrap().to_vec()
}

#[test]
fn default_stands_in_for_what_is_not_sent() {
    let servable = scaled().version().load();
    let scale = || ("scale", floats(&[], &[3.0]));
    let offset = || ("offset", floats(&[1], &[1.0]));
    assert_eq!(y(&servable, [x()]), [12.0, 14.0]);
    assert_eq!(y(&servable, [x(), scale()]), [13.0, 16.0]);
    assert_eq!(y(&servable, [x(), offset()]), [3.0, 5.0]);
    assert_eq!(y(&servable, [x(), scale(), offset()]), [4.0, 7.0]);
    assert_eq!(y(&servable, [x()]), [12.0, 14.0]);
}

#[test]
fn metadata_shows_input_and_default() {
    let servable = scaled().version().load();
    let definition = &servable.signature("").unwrap().definition;
    assert_eq!(tensor_name(&definition.inputs["scale"]), "scale");
    assert_eq!(definition.defaults["scale"].float_val, [2.0]);
    assert_eq!(definition.defaults.len(), 2);
}

#[test]
fn rewrites_take_no_default_for_a_constant() {
    let net = Net::default()
        .input("x", FLOAT, &[-1])
        .input("shape", INT64, &[2])
        .integers("shape", &[2], &[1, -1])
        .node("Reshape", &["x", "shape"], "y")
        .output("y", FLOAT, &[-1, -1]);
    let servable = net.version().load();
    assert_eq!(answer(&servable, "", [x()])["y"].shape(), [1, 2]);
    let shape = Tensor::from_vec(&[2], vec![2_i64, 1]).unwrap();
    let outputs = answer(&servable, "", [x(), ("shape", shape)]);
    assert_eq!(outputs["y"].shape(), [2, 1]);
}

/// y = x · w0 + b0 and so on, in the style of exporters that list all weights as inputs: 2 x + 1.
fn dense(layers: usize) -> Net {
    let mut net = Net::default().input("x", FLOAT, &[-1, 2]);
    let mut from = "x".to_owned();
    for layer in 0..layers {
        let [w, b, p, to] = ["w", "b", "p", "y"].map(|it| format!("{it}{layer}"));
        let (factor, offset) = if layer == 0 { (2.0, 1.0) } else { (1.0, 0.0) };
        net = net
            .input(&w, FLOAT, &[2, 2])
            .input(&b, FLOAT, &[2])
            .initializer(&w, &[2, 2], &[factor, 0.0, 0.0, factor])
            .initializer(&b, &[2], &[offset; 2])
            .node("MatMul", &[&from, &w], &p)
            .node("Add", &[&p, &b], &to);
        from = to;
    }
    net.node("Identity", &[&from], "y")
        .output("y", FLOAT, &[-1, 2])
}

fn aliases(servable: &Servable) -> Vec<String> {
    let signature = servable.signature("").unwrap();
    signature.definition.inputs.keys().cloned().collect()
}

fn row() -> (&'static str, Tensor) {
    ("x", floats(&[1, 2], &[3.0, 4.0]))
}

#[test]
fn many_weights_are_no_inputs_unless_a_map_names_them() {
    assert_eq!(aliases(&dense(20).version().load()), ["x"]);
    let map = "signature { input { alias: 'bias' tensor: 'b0' } }";
    let servable = dense(20).version().map(map).load();
    assert_eq!(aliases(&servable), ["bias", "x"]);
    assert_eq!(y(&servable, [row()]), [7.0, 9.0]);
    let bias = floats(&[2], &[5.0, 6.0]);
    assert_eq!(y(&servable, [row(), ("bias", bias)]), [11.0, 14.0]);
    let constant = "signature { constant { tensor: 'b0' \
        value { tensor_shape { dim { size: 2 } } float_val: [4, 4] } } }";
    let servable = dense(20).version().map(constant).load();
    assert_eq!(y(&servable, [row()]), [10.0, 12.0]);
}

#[test]
fn few_small_weights_are_inputs() {
    let servable = dense(1).version().load();
    assert_eq!(aliases(&servable), ["b0", "w0", "x"]);
    assert_eq!(y(&servable, [row()]), [7.0, 9.0]);
    let w = floats(&[2, 2], &[0.0, 1.0, 1.0, 0.0]);
    assert_eq!(y(&servable, [row(), ("w0", w)]), [5.0, 4.0]);
    assert_eq!(y(&servable, [row()]), [7.0, 9.0]);
}

/// Clients can send a value that no operator reads as a weight, regardless of the number and size of the
/// weights.
#[test]
fn weights_close_nothing_but_weights() {
    let scaled = |net: Net| {
        let net = net.input("k", FLOAT, &[]).initializer("k", &[], &[3.0]);
        let net = net.input("unread", FLOAT, &[]);
        net.initializer("unread", &[], &[3.0])
            .node("Mul", &["y", "k"], "z")
            .output("z", FLOAT, &[-1, -1])
    };
    let k = || ("k", floats(&[], &[10.0]));
    let servable = scaled(dense(20)).version().load();
    assert_eq!(aliases(&servable), ["k", "x"]);
    let z = |outputs: BTreeMap<String, Tensor>| outputs["z"].as_slice::<f32>().unwrap()[0];
    assert_eq!(z(answer(&servable, "", [row()])), 21.0);
    assert_eq!(z(answer(&servable, "", [row(), k()])), 70.0);

    let wide = Net::default()
        .input("x", FLOAT, &[-1, 2])
        .input("w", FLOAT, &[20_000, 2])
        .initializer("w", &[20_000, 2], &[1.0; 40_000])
        .node("Transpose", &["w"], "t")
        .node("MatMul", &["x", "t"], "y")
        .output("y", FLOAT, &[-1, -1]);
    let servable = scaled(wide).version().load();
    assert_eq!(aliases(&servable), ["k", "x"]);
    assert_eq!(z(answer(&servable, "", [row(), k()])), 70.0);
}

#[test]
fn default_says_the_type_of_an_input_that_declares_none() {
    let net = Net::default()
        .input("x", FLOAT, &[-1])
        .input("k", FLOAT, &[])
        .integers("k", &[1], &[2])
        .node("Tile", &["x", "k"], "y")
        .output("y", FLOAT, &[-1]);
    let untyped: [fn(&mut proto::onnx::ValueInfoProto); 3] = [
        |input| input.r#type = None,
        |input| input.r#type = Some(proto::onnx::TypeProto::default()),
        |input| {
            let tensor = proto::onnx::type_proto::Tensor::default();
            let value = proto::onnx::type_proto::Value::TensorType(tensor);
            input.r#type.as_mut().unwrap().value = Some(value);
        },
    ];
    for untype in untyped {
        let version = net.clone().version();
        version.change(|model| untype(&mut model.graph.as_mut().unwrap().input[1]));
        let servable = version.load();
        let info = &servable.signature("").unwrap().definition.inputs["k"];
        assert_eq!(info.dtype, DataType::Int64.number());
        assert_eq!(info.tensor_shape.as_ref().unwrap().dim[0].size, 1);
        assert_eq!(y(&servable, [x()]), [1.0, 2.0, 1.0, 2.0]);
        let k = Tensor::from_vec(&[1], vec![1_i64]).unwrap();
        assert_eq!(y(&servable, [x(), ("k", k)]), [1.0, 2.0]);
    }
}

#[test]
fn signature_of_examples_stays_one_of_one_input() {
    let map = "signature { method_name: 'tensorflow/serving/regress' \
        example_input { alias: 'inputs' feature { key: 'x' dtype: DT_FLOAT shape {} tensor: 'x' } } \
        output { alias: 'outputs' tensor: 'y' } }";
    let servable = scaled().version().map(map).load();
    assert_eq!(servable.signature("").unwrap().definition.inputs.len(), 1);
}

#[test]
fn older_files_have_constants_only() {
    let net = scaled();
    let version = net.version();
    version.change(|model| model.ir_version = Some(3));
    let servable = version.load();
    assert_eq!(servable.signature("").unwrap().inputs.len(), 1);
    assert_eq!(y(&servable, [x()]), [12.0, 14.0]);
}

#[test]
fn map_converts_and_replaces_defaults() {
    let map = "signature { \
        input { alias: 'factor' tensor: 'scale' dtype: DT_DOUBLE } \
        input { alias: 'offset' default { dtype: DT_FLOAT tensor_shape { dim { size: 1 } } float_val: 7 } } }";
    let servable = scaled().version().map(map).load();
    let factor = Tensor::from_vec(&[], vec![3.0_f64]).unwrap();
    let offset = floats(&[1], &[1.0]);
    assert_eq!(y(&servable, [x()]), [9.0, 11.0]);
    assert_eq!(y(&servable, [x(), ("factor", factor)]), [10.0, 13.0]);
    assert_eq!(y(&servable, [x(), ("offset", offset)]), [3.0, 5.0]);
    let definition = &servable.signature("").unwrap().definition;
    assert_eq!(definition.defaults["factor"].double_val, [2.0]);
    assert_eq!(definition.defaults["offset"].float_val, [7.0]);
}

#[test]
fn original_signature_need_not_know_of_a_default() {
    let definition = super::net::floats_def(&[("x", "x:0")], &[("y", "y:0")]);
    let version = scaled()
        .version()
        .original(&[("serving_default", definition)]);
    let servable = version.load();
    assert_eq!(servable.signature("").unwrap().inputs.len(), 1);
    assert_eq!(y(&servable, [x()]), [12.0, 14.0]);
}

/// An input with two aliases runs on the graph that takes it, under either alias.
#[test]
fn map_keeps_and_drops_aliases_of_inputs_with_defaults() {
    let map = "signature { \
        input { alias: 'factor' tensor: 'scale' keep: true } \
        input { alias: 'offset' drop: true } }";
    let servable = scaled().version().map(map).load();
    let definition = &servable.signature("").unwrap().definition;
    assert!(definition.inputs.keys().eq(["factor", "scale", "x"]));
    assert!(definition.defaults.keys().eq(["factor", "scale"]));
    assert_eq!(y(&servable, [x()]), [12.0, 14.0]);
    for alias in ["factor", "scale"] {
        assert_eq!(definition.defaults[alias].float_val, [2.0], "{alias}");
        let factor = floats(&[], &[3.0]);
        assert_eq!(y(&servable, [x(), (alias, factor)]), [13.0, 16.0]);
    }
    let offset = RequestTensor::Valid(floats(&[1], &[1.0]));
    let inputs = [
        ("x".to_owned(), RequestTensor::Valid(x().1)),
        ("offset".to_owned(), offset),
    ];
    let error = run(&servable, "", inputs.into()).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
}

#[test]
fn new_alias_takes_over_the_default_of_a_map_of_metadata() {
    let inner = "signature { name: 'serving_default' input { alias: 'shift' tensor: 'offset' \
        default { dtype: DT_FLOAT tensor_shape { dim { size: 1 } } float_val: 7 } } }";
    let map = "signature { input { alias: 'delta' tensor: 'shift' } \
        input { alias: 'k' tensor: 'x' default { tensor_shape { dim { size: 1 } } float_val: 5 } } }";
    let servable = scaled().metadata(inner).version().map(map).load();
    let signature = servable.signature("").unwrap();
    assert!(
        signature
            .definition
            .inputs
            .keys()
            .eq(["delta", "k", "scale"])
    );
    let is_optional = |it: &mapper::signature::Input| it.is_optional;
    assert!(signature.inputs.iter().all(is_optional));
    assert_eq!(signature.definition.defaults["delta"].float_val, [7.0]);
    assert_eq!(y(&servable, []), [17.0]);
    assert_eq!(y(&servable, [("k", x().1)]), [9.0, 11.0]);
    let delta = ("delta", floats(&[1], &[1.0]));
    assert_eq!(y(&servable, [("k", x().1), delta]), [3.0, 5.0]);
}
