//! Graph inputs that have a value in the file, on small graphs made here.

use super::net::{FLOAT, INT64, Net, answer, floats};
use super::*;
use crate::signature::tensor_name;

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

/// y = x · w + b, as exporters write it that list all weights as inputs.
fn dense() -> Net {
    Net::default()
        .input("x", FLOAT, &[-1, 1])
        .input("w", FLOAT, &[1, 1])
        .input("b", FLOAT, &[1])
        .initializer("w", &[1, 1], &[2.0])
        .initializer("b", &[1], &[1.0])
        .node("MatMul", &["x", "w"], "p")
        .node("Add", &["p", "b"], "y")
        .output("y", FLOAT, &[-1, 1])
}

#[test]
fn weights_are_no_inputs_unless_a_map_names_them() {
    let aliases = |servable: &Servable| {
        let signature = servable.signature("").unwrap();
        let aliases = signature.definition.inputs.keys();
        aliases.cloned().collect::<Vec<_>>()
    };
    assert_eq!(aliases(&dense().version().load()), ["x"]);
    let map = "signature { input { alias: 'bias' tensor: 'b' } }";
    let servable = dense().version().map(map).load();
    assert_eq!(aliases(&servable), ["bias", "x"]);
    let x = || ("x", floats(&[1, 1], &[3.0]));
    assert_eq!(y(&servable, [x()]), [7.0]);
    assert_eq!(y(&servable, [x(), ("bias", floats(&[1], &[5.0]))]), [11.0]);
    let constant = "signature { constant { tensor: 'b' value { float_val: 4 } } }";
    assert_eq!(y(&dense().version().map(constant).load(), [x()]), [10.0]);
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
    let path = version.path.join("model.onnx");
    let bytes = std::fs::read(&path).unwrap();
    let mut model = crate::proto::onnx::ModelProto::decode(bytes.as_slice()).unwrap();
    model.ir_version = Some(3);
    std::fs::write(&path, model.encode_to_vec()).unwrap();
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

/// One input under two aliases runs on the graph that takes it, whichever a client sends.
#[test]
fn map_keeps_and_drops_aliases_of_inputs_with_defaults() {
    let map = "signature { \
        input { alias: 'factor' tensor: 'scale' dtype: DT_DOUBLE keep: true } \
        input { alias: 'offset' drop: true } }";
    let servable = scaled().version().map(map).load();
    let definition = &servable.signature("").unwrap().definition;
    assert!(definition.inputs.keys().eq(["factor", "scale", "x"]));
    assert!(definition.defaults.keys().eq(["factor", "scale"]));
    assert_eq!(y(&servable, [x()]), [12.0, 14.0]);
    for alias in ["factor", "scale"] {
        let dtype = definition.inputs[alias].dtype;
        assert_eq!(dtype, DataType::Double.number(), "{alias}");
        assert_eq!(definition.defaults[alias].double_val, [2.0], "{alias}");
        let factor = Tensor::from_vec(&[], vec![3.0_f64]).unwrap();
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
    let is_optional = |it: &crate::signature::Input| it.is_optional;
    assert!(signature.inputs.iter().all(is_optional));
    assert_eq!(signature.definition.defaults["delta"].float_val, [7.0]);
    assert_eq!(y(&servable, []), [17.0]);
    assert_eq!(y(&servable, [("k", x().1)]), [9.0, 11.0]);
    let delta = ("delta", floats(&[1], &[1.0]));
    assert_eq!(y(&servable, [("k", x().1), delta]), [3.0, 5.0]);
}
