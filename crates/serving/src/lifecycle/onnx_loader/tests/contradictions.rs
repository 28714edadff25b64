//! The text added to a kernel's error if a shape differs from the declared one.

use super::net::{FLOAT, INT64, Net, Version, floats, floats_def};
use super::*;
use proto::onnx::TensorProto;
use proto::tensorflow::{Example, Feature, Features, FloatList, feature::Kind};

/// x: float[-1, 4] becomes [-1, 2, 2] in a Reshape that relies on its size.
fn version() -> Version {
    let mut net = Net::default()
        .input("x", FLOAT, &[-1, 4])
        .node("Reshape", &["x", "shape"], "y")
        .output("y", FLOAT, &[-1, 2, 2]);
    net.graph.initializer.push(TensorProto {
        name: Some("shape".to_owned()),
        data_type: Some(INT64),
        dims: vec![3],
        int64_data: vec![-1, 2, 2],
        ..Default::default()
    });
    net.version()
}

fn call(servable: &Servable, shape: &[usize]) -> Result<Vec<(String, Tensor)>> {
    let values = vec![0.0; shape.iter().product()];
    let x = RequestTensor::Valid(floats(shape, &values));
    run(servable, "", RequestInputs::from([("x".to_owned(), x)]))
}

#[track_caller]
fn check_error(result: Result<Vec<(String, Tensor)>>, end: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.to_string().ends_with(end), "{error}");
    assert_eq!(
        error.to_string().matches("has the shape").count(),
        1,
        "{error}"
    );
}

#[test]
fn size_that_contradicts_the_declared_one_is_named() {
    let version = version();
    let servable = version.load();
    assert!(call(&servable, &[2, 4]).is_ok());
    let expected = ". Input 'x' has the shape [3,5], the model declares [-1,4]";
    check_error(call(&servable, &[3, 5]), expected);
}

/// The signature of `saved_model.pb` does not declare the shape; the graph does.
#[test]
fn size_that_contradicts_the_graph_is_named() {
    let mut definition = floats_def(&[("x", "x:0")], &[("y", "y:0")]);
    for info in definition.inputs.values_mut() {
        info.tensor_shape = None;
    }
    let version = version().original(&[("serving_default", definition)]);
    let servable = version.load();
    assert!(call(&servable, &[2, 4]).is_ok());
    let expected = ". Input 'x' has the shape [3,5], the graph declares [-1,4]";
    check_error(call(&servable, &[3, 5]), expected);
    let expected = ". Input 'x' has the shape [5], the graph declares [-1,4]";
    check_error(call(&servable, &[5]), expected);
}

#[test]
fn feature_of_another_size_than_the_graph_declares_is_named() {
    let version = version().map(
        r#"signature { name: "serving_default" example_input { alias: "examples"
           feature { key: "size" dtype: DT_FLOAT shape { dim { size: 3 } } tensor: "x" } } }"#,
    );
    let servable = version.load();
    let kind = Kind::FloatList(FloatList {
        value: vec![1.0, 2.0, 3.0],
    });
    let feature = BTreeMap::from([("size".to_owned(), Feature { kind: Some(kind) })]);
    let features = Some(Features { feature });
    let example = Bytes::from(Example { features }.encode_to_vec());
    let examples = Tensor::from_strings(&[1], vec![example]).unwrap();
    let inputs = RequestInputs::from([("examples".to_owned(), RequestTensor::Valid(examples))]);
    let expected =
        ". Feature 'size' of input 'examples' has the shape [1,3], the graph declares [-1,4]";
    check_error(run(&servable, "", inputs), expected);
}
