//! The copies that models get.

use prost::Message;

use super::*;
use crate::io_transforms::int_attribute;
use crate::node;
use proto::onnx::{
    AttributeProto, GraphProto, ModelProto, TypeProto, ValueInfoProto,
    tensor_proto::DataType as OnnxType, type_proto,
};

fn input(name: &str, elem: OnnxType) -> ValueInfoProto {
    let tensor = type_proto::Tensor {
        elem_type: Some(elem as i32),
        shape: None,
    };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}

/// The functions of a model that calls one of this body with each of the types, and the names in its calls.
fn specialised(types: &[OnnxType], body: Vec<NodeProto>) -> (Vec<String>, Vec<String>) {
    let mut model = calls(types, body);
    model.specialise_divisions().unwrap();
    names(&model)
}

/// The names of a model's functions, and those in the calls of its graph.
fn names(model: &OnnxModel) -> (Vec<String>, Vec<String>) {
    let functions = model.proto.functions.iter().map(|it| it.name().to_owned());
    let called = model.graph().node.iter().map(|it| it.op_type().to_owned());
    (functions.collect(), called.collect())
}

/// A model that calls a function of this body with each of the types.
fn calls(types: &[OnnxType], body: Vec<NodeProto>) -> OnnxModel {
    let name = |index: usize| format!("x{index}");
    let types = types.iter().enumerate();
    let calls = types.clone().map(|(index, _)| NodeProto {
        domain: Some("local".to_owned()),
        ..node("Half", &[&name(index)], &format!("y{index}"))
    });
    let graph = GraphProto {
        input: types
            .clone()
            .map(|(index, it)| input(&name(index), *it))
            .collect(),
        node: calls.collect(),
        ..GraphProto::default()
    };
    let function = FunctionProto {
        name: Some("Half".to_owned()),
        domain: Some("local".to_owned()),
        input: vec!["a".to_owned()],
        output: vec!["b".to_owned()],
        node: body,
        ..FunctionProto::default()
    };
    let proto = ModelProto {
        graph: Some(graph),
        functions: vec![function],
        ..ModelProto::default()
    };
    OnnxModel::parse("test", &proto.encode_to_vec()).unwrap()
}

#[test]
fn types_that_are_divided_without_a_guard_share_a_copy() {
    let types = [
        OnnxType::Float,
        OnnxType::Int32,
        OnnxType::Int16,
        OnnxType::Int64,
        OnnxType::Int32,
    ];
    let (functions, called) = specialised(&types, vec![node("Div", &["a", "a"], "b")]);
    assert_eq!(functions, ["Half", "Half.1", "Half.2"]);
    assert_eq!(called, ["Half", "Half.1", "Half", "Half.2", "Half.1"]);
}

#[test]
fn functions_whose_divisions_have_one_type_stay() {
    let one = (vec!["Half".to_owned()], vec!["Half".to_owned(); 2]);
    let division = vec![node("Div", &["a", "a"], "b")];
    let narrow = [OnnxType::Float, OnnxType::Int16];
    assert_eq!(specialised(&narrow, division.clone()), one);
    let same = [OnnxType::Int32, OnnxType::Int32];
    assert_eq!(specialised(&same, division), one);
    let mut cast = node("Cast", &["a"], "float");
    cast.attribute.push(AttributeProto {
        name: Some("to".to_owned()),
        i: Some(OnnxType::Float as i64),
        ..AttributeProto::default()
    });
    let several = [OnnxType::Int64, OnnxType::Int32];
    let floats = vec![cast, node("Div", &["float", "float"], "b")];
    assert_eq!(specialised(&several, floats), one);
}

#[test]
fn calls_beyond_the_limit_share_a_copy_for_any_type() {
    let types = [
        OnnxType::Int32,
        OnnxType::Int64,
        OnnxType::Float,
        OnnxType::Int64,
    ];
    let mut model = calls(&types, vec![node("Div", &["a", "a"], "b")]);
    model.specialise_within(&mut 1).unwrap();
    let (functions, called) = names(&model);
    assert_eq!(functions, ["Half", "Half.1"]);
    assert_eq!(called, ["Half", "Half.1", "Half.1", "Half.1"]);
}

#[test]
fn types_that_no_division_depends_on_share_a_copy() {
    let mut model = calls(
        &[OnnxType::Int32, OnnxType::Int64],
        vec![
            node("Relu", &["a"], "b"),
            node("Size", &["c"], "d"),
            node("Div", &["c", "c"], "e"),
        ],
    );
    model.proto.functions[0].input.push("c".to_owned());
    for call in &mut model.graph_mut().node {
        call.input.push("x0".to_owned());
    }
    let mut third = model.graph().node[0].clone();
    third.input = vec!["x0".to_owned(), "x1".to_owned()];
    model.graph_mut().node.push(third);
    model.specialise_divisions().unwrap();
    assert_eq!(names(&model).1, ["Half", "Half", "Half.1"]);
}

#[test]
fn attributes_that_set_the_type_are_a_part_of_it() {
    let mut cast = node("Cast", &["a"], "to_any");
    cast.attribute.push(AttributeProto {
        name: Some("to".to_owned()),
        ref_attr_name: Some("wanted".to_owned()),
        ..AttributeProto::default()
    });
    let body = vec![cast, node("Div", &["to_any", "to_any"], "b")];
    let mut model = calls(&[OnnxType::Float; 3], body);
    model.proto.functions[0].attribute.push("wanted".to_owned());
    let types = [OnnxType::Int16, OnnxType::Int64, OnnxType::Int16];
    for (call, ty) in model.graph_mut().node.iter_mut().zip(types) {
        call.attribute
            .push(int_attribute("wanted", i64::from(ty as i32)));
    }
    model.specialise_divisions().unwrap();
    assert_eq!(names(&model).1, ["Half", "Half.1", "Half"]);
    let cast = |index: usize| &model.proto.functions[index].node[0].attribute[0];
    assert_eq!(cast(0), &int_attribute("to", OnnxType::Int16 as i64));
    assert_eq!(cast(1), &int_attribute("to", OnnxType::Int64 as i64));
}
