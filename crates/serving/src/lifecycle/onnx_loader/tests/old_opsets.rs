//! Checks in front of kernels, in models of an old opset with few operators.

use super::net::{FLOAT, Net, answer, floats};
use super::*;
use proto::onnx::{AttributeProto, ModelProto, attribute_proto};

/// The net in opset 6.
fn load_as_old(net: Net) -> Servable {
    let version = net.version();
    let path = version.path.join("model.onnx");
    let bytes = std::fs::read(&path).unwrap();
    let mut model = ModelProto::decode(bytes.as_slice()).unwrap();
    model.opset_import[0].version = Some(6);
    std::fs::write(&path, model.encode_to_vec()).unwrap();
    version.load()
}

fn is_refused<const N: usize>(servable: &Servable, inputs: [(&str, Tensor); N]) -> bool {
    let inputs = inputs.into_iter();
    let inputs = inputs.map(|(alias, it)| (alias.to_owned(), RequestTensor::Valid(it)));
    let refused = run(servable, "", inputs.collect());
    refused.is_err_and(|error| error.code() == Code::InvalidArgument)
}

#[test]
fn image_smaller_than_a_window_is_refused() {
    let mut net = Net::default()
        .input("x", FLOAT, &[-1, 1, -1])
        .node("MaxPool", &["x"], "y")
        .output("y", FLOAT, &[-1, 1, -1]);
    net.graph.node[0].attribute.push(AttributeProto {
        name: Some("kernel_shape".to_owned()),
        r#type: Some(attribute_proto::AttributeType::Ints as i32),
        ints: vec![3],
        ..AttributeProto::default()
    });
    let servable = load_as_old(net);
    let x = floats(&[1, 1, 4], &[3.0, 2.0, 4.0, 6.0]);
    let outputs = answer(&servable, "", [("x", x)]);
    assert_eq!(outputs["y"], floats(&[1, 1, 2], &[4.0, 6.0]));
    for size in [0, 2] {
        let x = floats(&[1, 1, size], &vec![0.0; size]);
        assert!(is_refused(&servable, [("x", x)]));
    }
}

#[test]
fn weight_without_elements_is_refused() {
    let net = Net::default()
        .input("x", FLOAT, &[-1, 1, -1])
        .input("w", FLOAT, &[1, 1, -1])
        .node("Conv", &["x", "w"], "y")
        .output("y", FLOAT, &[-1, 1, -1]);
    let servable = load_as_old(net);
    let x = || ("x", floats(&[1, 1, 3], &[1.0, 2.0, 3.0]));
    let outputs = answer(&servable, "", [x(), ("w", floats(&[1, 1, 2], &[1.0, 1.0]))]);
    assert_eq!(outputs["y"], floats(&[1, 1, 2], &[3.0, 5.0]));
    assert!(is_refused(&servable, [x(), ("w", floats(&[1, 1, 0], &[]))]));
}
