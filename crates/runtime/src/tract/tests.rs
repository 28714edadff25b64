//! tract's own behaviour in addition to the contract: the models it refuses, and the plans it keeps.

use std::collections::HashMap;

use prost::Message;

use super::{Tract, TractOptions};
use crate::{Backend, GraphSource, RunControl, contract};
use base::error::Code;
use base::tensor::Tensor;
use proto::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};

fn backend() -> Tract {
    Tract::open(&TractOptions { threads: 2 }).unwrap()
}

contract::keeps_contract!(backend());

#[test]
fn strings_are_refused_at_load() {
    contract::dtype_is_refused_at_load(&backend(), contract::STRING, "STRING");
}

#[test]
fn bfloat16_is_refused_at_load() {
    contract::dtype_is_refused_at_load(&backend(), contract::BFLOAT16, "BFLOAT16");
}

#[test]
fn complex_numbers_are_refused_at_load() {
    contract::dtype_is_refused_at_load(&backend(), contract::COMPLEX64, "COMPLEX64");
}

/// A model of the nodes, from `x: float[?, 3]` to `y`, with the weights `w: float[4, 2]`.
fn source(nodes: Vec<NodeProto>) -> GraphSource {
    let tensor = |shape: Option<TensorShapeProto>| TypeProto {
        value: Some(type_proto::Value::TensorType(type_proto::Tensor {
            elem_type: Some(1),
            shape,
        })),
        ..TypeProto::default()
    };
    let mut dim = vec![Dimension::default(); 2];
    dim[1].value = Some(dimension::Value::DimValue(3));
    let value = |name: &str, shape| ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(tensor(shape)),
        ..ValueInfoProto::default()
    };
    let weights = TensorProto {
        name: Some("w".to_owned()),
        dims: vec![4, 2],
        data_type: Some(1),
        float_data: vec![1.0; 8],
        ..TensorProto::default()
    };
    let model = ModelProto {
        opset_import: vec![OperatorSetIdProto {
            version: Some(17),
            ..OperatorSetIdProto::default()
        }],
        graph: Some(GraphProto {
            node: nodes,
            initializer: vec![weights],
            input: vec![value("x", Some(TensorShapeProto { dim }))],
            output: vec![value("y", None)],
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    };
    GraphSource {
        origin: "model.onnx".to_owned(),
        model: model.encode_to_vec().into(),
        weights: Vec::new(),
        sharing: None,
        declared_shapes: HashMap::new(),
        work_follows_shapes: true,
    }
}

fn node(op_type: &str, inputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: Some(op_type.to_owned()),
        input: inputs.iter().map(ToString::to_string).collect(),
        output: vec!["y".to_owned()],
        ..NodeProto::default()
    }
}

#[track_caller]
fn check_refused(nodes: Vec<NodeProto>, code: Code, text: &str) {
    let error = backend().load(source(nodes)).err().unwrap();
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(text), "{error}");
}

#[test]
fn operators_of_other_domains_are_refused() {
    let mut add = node("Add", &["x", "x"]);
    add.domain = Some("com.example".to_owned());
    let text = "cannot load model.onnx: tract has no operator com.example.Add";
    check_refused(vec![add], Code::Unimplemented, text);
}

#[test]
fn unknown_operators_in_nested_graphs_are_refused() {
    let mut choice = node("If", &["x"]);
    choice.attribute.push(AttributeProto {
        name: Some("then_branch".to_owned()),
        g: Some(GraphProto {
            node: vec![node("NoSuchOperator", &[])],
            ..GraphProto::default()
        }),
        ..AttributeProto::default()
    });
    check_refused(vec![choice], Code::Unimplemented, "operator NoSuchOperator");
}

#[test]
fn casts_to_strings_are_refused() {
    let mut cast = node("Cast", &["x"]);
    cast.attribute.push(AttributeProto {
        name: Some("to".to_owned()),
        i: Some(contract::STRING.into()),
        ..AttributeProto::default()
    });
    check_refused(vec![cast], Code::Unimplemented, "tensors of STRING");
}

#[test]
fn operators_that_can_never_run_are_refused() {
    let product = node("MatMul", &["x", "w"]);
    check_refused(vec![product], Code::InvalidArgument, "MatMul");
}

/// ONNX has the limits of NonMaxSuppression as scalars; vectors of one element are common as well.
#[test]
fn limits_may_be_scalars_or_vectors() {
    for dims in [vec![], vec![1]] {
        let suppression = node("NonMaxSuppression", &["boxes", "scores", "most", "overlap"]);
        let value = |name: &str, dims: Vec<i64>, floats: &[f32]| TensorProto {
            name: Some(name.to_owned()),
            dims,
            data_type: Some(1),
            float_data: floats.to_vec(),
            ..TensorProto::default()
        };
        let mut scores = node("Reshape", &["x", "one_class"]);
        scores.output = vec!["scores".to_owned()];
        let mut source = source(vec![scores, suppression]);
        let mut model = ModelProto::decode(source.model).unwrap();
        let graph = model.graph.as_mut().unwrap();
        let boxes = [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0];
        graph.initializer = vec![
            value("boxes", vec![1, 3, 4], &boxes),
            value("overlap", dims.clone(), &[0.5]),
            TensorProto {
                data_type: Some(7),
                int64_data: vec![3],
                ..value("most", dims, &[])
            },
            TensorProto {
                data_type: Some(7),
                int64_data: vec![1, 1, 3],
                ..value("one_class", vec![3], &[])
            },
        ];
        source.model = model.encode_to_vec().into();
        let graph = backend().load(source).unwrap();
        let x = Tensor::from_vec(&[1, 3], vec![0.8f32, 0.9, 0.7]).unwrap();
        let kept = graph.run(&[x], &[0], &RunControl::default()).unwrap();
        // The first box is the second again, with a lower score.
        let expected = Tensor::from_vec(&[2, 3], vec![0i64, 0, 1, 0, 0, 2]).unwrap();
        assert_eq!(kept, [expected]);
    }
}

#[test]
fn sums_of_what_does_not_fit_are_refused() {
    let sum = node("Add", &["x", "w"]);
    check_refused(vec![sum], Code::InvalidArgument, "Add");
}

/// The sizes of the request count, even if the file declares others.
#[test]
fn a_classifier_takes_as_many_features_as_it_has_coefficients_for() {
    let attribute = |name: &str| AttributeProto {
        name: Some(name.to_owned()),
        ..AttributeProto::default()
    };
    let mut classifier = node("LinearClassifier", &["x"]);
    classifier.domain = Some("ai.onnx.ml".to_owned());
    classifier.output.push("scores".to_owned());
    classifier.attribute = vec![
        AttributeProto {
            ints: vec![0, 1, 2],
            r#type: Some(attribute_proto::AttributeType::Ints.into()),
            ..attribute("classlabels_ints")
        },
        AttributeProto {
            floats: vec![1.0; 12],
            r#type: Some(attribute_proto::AttributeType::Floats.into()),
            ..attribute("coefficients")
        },
        AttributeProto {
            floats: vec![1.0; 3],
            r#type: Some(attribute_proto::AttributeType::Floats.into()),
            ..attribute("intercepts")
        },
    ];
    let text = "its operands do not fit, sizes 3 and 4";
    check_refused(vec![classifier.clone()], Code::InvalidArgument, text);

    let mut source = source(vec![classifier]);
    source.declared_shapes = HashMap::from([("x".to_owned(), vec![-1, 4])]);
    let mut model = ModelProto::decode(source.model).unwrap();
    let input = model.graph.as_mut().unwrap().input[0].r#type.as_mut();
    if let Some(type_proto::Value::TensorType(tensor)) = &mut input.unwrap().value {
        tensor.shape = None;
    }
    source.model = model.encode_to_vec().into();
    let graph = backend().load(source).unwrap();
    let x = |features| Tensor::from_vec(&[1, features], vec![1.0f32; features]).unwrap();
    let run = |features| graph.run(&[x(features)], &[0], &RunControl::default());
    assert_eq!(
        run(4).unwrap(),
        [Tensor::from_vec(&[1], vec![0i64]).unwrap()]
    );
    for (features, text) in [(3, text), (1, "do not fit, sizes 1 and 4")] {
        let error = run(features).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn suppression_without_a_limit_is_refused() {
    for inputs in [&["x", "x"][..], &["x", "x", ""]] {
        let suppression = node("NonMaxSuppression", inputs);
        let text = "max_output_boxes_per_class";
        check_refused(vec![suppression], Code::Unimplemented, text);
    }
}

#[test]
fn names_that_nothing_makes_are_refused() {
    let neg = node("Neg", &["missing"]);
    check_refused(vec![neg], Code::InvalidArgument, "makes 'missing'");
}
