//! What is tract's own beside the contract: what it refuses, and the plans it keeps.

use prost::Message;

use super::{Tract, TractOptions};
use crate::error::Code;
use crate::proto::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};
use crate::runtime::{Backend, GraphSource, contract};

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

#[test]
fn names_that_nothing_makes_are_refused() {
    let neg = node("Neg", &["missing"]);
    check_refused(vec![neg], Code::InvalidArgument, "makes 'missing'");
}
