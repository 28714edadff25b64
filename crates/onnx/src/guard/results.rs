//! The outputs of replaced kernels, computed by ONNX Runtime. Expected values are NumPy's.

use std::collections::HashSet;

use bytes::Bytes;
use prost::Message;

use crate::interface::{elem_type, tensor_value};
use crate::io_transforms::int_attribute;
use crate::{OnnxModel, node};
use base::error::Result;
use base::tensor::{DataType, Tensor};
use proto::onnx::attribute_proto::AttributeType;
use proto::onnx::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    ValueInfoProto,
};
use runtime::ort::OnnxRuntime;
use runtime::ort::testing::options;
use runtime::{Backend, RunControl};

/// A model of these nodes, whose inputs are of any rank, and whose output is `y`.
fn model(nodes: Vec<NodeProto>, inputs: &[(&str, Tensor)], opset: i64) -> OnnxModel {
    let declared = inputs
        .iter()
        .map(|(name, it)| tensor_value(name, elem_type(it.dtype()).expect("it was made here")));
    let import = |domain: &str, version| OperatorSetIdProto {
        domain: Some(domain.to_owned()),
        version: Some(version),
    };
    let proto = ModelProto {
        ir_version: Some(8),
        opset_import: vec![import("", opset), import("local", 1)],
        graph: Some(GraphProto {
            name: Some("graph".to_owned()),
            node: nodes,
            input: declared.collect(),
            output: vec![ValueInfoProto {
                name: Some("y".to_owned()),
                ..ValueInfoProto::default()
            }],
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    };
    OnnxModel::parse("replaced", &proto.encode_to_vec()).expect("it was made here")
}

/// The output of the model with its kernels guarded.
fn answer(mut model: OnnxModel, inputs: &[(&str, Tensor)]) -> Result<Tensor> {
    model.guard_kernels(&HashSet::new())?;
    let backend = OnnxRuntime::open(&options(1)).expect("ONNX Runtime; `make onnxruntime`");
    let graph = backend.load(model.into_source(None)?)?;
    let inputs: Vec<Tensor> = inputs.iter().map(|(_, it)| it.clone()).collect();
    let mut outputs = graph.run(&inputs, &[0], &RunControl::default())?;
    Ok(outputs.remove(0))
}

fn strings(shape: &[usize], letters: &str) -> Tensor {
    let strings = letters.chars().map(|it| Bytes::from(it.to_string()));
    Tensor::from_strings(shape, strings.collect()).expect("it was made here")
}

fn integers(shape: &[usize], values: &[i64]) -> Tensor {
    Tensor::from_vec(shape, values.to_vec()).expect("it was made here")
}

fn floats(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_vec(shape, values.to_vec()).expect("it was made here")
}

fn gather(axis: i64) -> NodeProto {
    let mut gather = node("Gather", &["x", "i"], "y");
    gather.attribute.push(int_attribute("axis", axis));
    gather
}

fn gathered(axis: i64, x: Tensor, indices: Tensor, opset: i64) -> Result<Tensor> {
    let inputs = [("x", x), ("i", indices)];
    answer(model(vec![gather(axis)], &inputs, opset), &inputs)
}

#[test]
fn gather_returns_whole_slices_of_strings() {
    for opset in [9, 10, 11, 13, 14, 18] {
        let table = || strings(&[4, 3], "abcdefghijkl");
        let answers = [
            (0, integers(&[2], &[2, 0]), strings(&[2, 3], "ghiabc")),
            (0, integers(&[], &[1]), strings(&[3], "def")),
            (-2, integers(&[1, 1], &[3]), strings(&[1, 1, 3], "jkl")),
            (1, integers(&[2], &[2, 0]), strings(&[4, 2], "cafdiglj")),
            (0, integers(&[0], &[]), strings(&[0, 3], "")),
        ];
        for (axis, indices, expected) in answers {
            let answer = gathered(axis, table(), indices, opset).unwrap();
            assert_eq!(answer, expected, "axis {axis} in opset {opset}");
        }
        let cube = strings(&[2, 2, 2], "abcdefgh");
        let answer = gathered(1, cube, integers(&[1], &[1]), opset).unwrap();
        assert_eq!(answer, strings(&[2, 1, 2], "cdgh"), "opset {opset}");
        let nothing = strings(&[0, 3], "");
        let answer = gathered(0, nothing, integers(&[0], &[]), opset).unwrap();
        assert_eq!(answer, strings(&[0, 3], ""), "opset {opset}");
        let outside = gathered(0, table(), integers(&[1], &[4]), opset).unwrap_err();
        assert!(outside.to_string().contains("Gather"), "{outside}");
    }
}

#[test]
fn gather_of_strings_is_refused_in_old_opsets() {
    let inputs = [("x", strings(&[1, 1], "a")), ("i", integers(&[1], &[0]))];
    let error = answer(model(vec![gather(0)], &inputs, 8), &inputs).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("Gather of strings") && text.contains("opset 9"),
        "{text}"
    );
}

#[test]
fn gather_in_branches_and_functions_is_replaced() {
    let choice = strings(&[2, 2], "abcd");
    let inputs = [
        ("x", choice),
        ("i", integers(&[1], &[1])),
        (
            "c",
            Tensor::from_bytes(DataType::Bool, &[], Bytes::from_static(b"\x01")).unwrap(),
        ),
    ];
    let branch = |name: &str, value: NodeProto| AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Graph as i32),
        g: Some(GraphProto {
            name: Some(name.to_owned()),
            output: vec![tensor_value(&value.output[0], 8)],
            node: vec![value],
            ..GraphProto::default()
        }),
        ..AttributeProto::default()
    };
    let mut inner = gather(0);
    inner.output[0] = "inner".to_owned();
    let mut either = node("If", &["c"], "y");
    either.attribute = vec![
        branch("then_branch", inner.clone()),
        branch("else_branch", node("Identity", &["x"], "same")),
    ];
    let expected = strings(&[1, 2], "cd");
    let answered = answer(model(vec![either], &inputs, 17), &inputs);
    assert_eq!(answered.unwrap(), expected);

    let mut call = node("Pick", &["x", "i"], "y");
    call.domain = Some("local".to_owned());
    let mut calling = model(vec![call, node("Identity", &["c"], "unused")], &inputs, 17);
    calling.proto.functions.push(FunctionProto {
        name: Some("Pick".to_owned()),
        domain: Some("local".to_owned()),
        input: vec!["x".to_owned(), "i".to_owned()],
        output: vec!["inner".to_owned()],
        node: vec![inner],
        opset_import: calling.proto.opset_import.clone(),
        ..FunctionProto::default()
    });
    assert_eq!(answer(calling, &inputs).unwrap(), expected);
}

fn scatter(reduction: &str) -> NodeProto {
    let mut scatter = node("ScatterND", &["x", "i", "u"], "y");
    scatter.attribute.push(AttributeProto {
        name: Some("reduction".to_owned()),
        r#type: Some(AttributeType::String as i32),
        s: Some(Bytes::copy_from_slice(reduction.as_bytes())),
        ..AttributeProto::default()
    });
    scatter
}

fn scattered(reduction: &str, [x, indices, updates]: [Tensor; 3], opset: i64) -> Result<Tensor> {
    let inputs = [("x", x), ("i", indices), ("u", updates)];
    answer(model(vec![scatter(reduction)], &inputs, opset), &inputs)
}

#[test]
fn scatter_joins_all_updates_of_a_place() {
    let x = || floats(&[3, 2], &[1., 2., 3., 4., 5., 6.]);
    let rows = || integers(&[3, 1], &[2, 0, -1]);
    let of_rows = || floats(&[3, 2], &[1., 2., 3., 4., 5., 6.]);
    for opset in [16, 18, 20] {
        let sum = scattered("add", [x(), rows(), of_rows()], opset);
        let expected = floats(&[3, 2], &[4., 6., 3., 4., 11., 14.]);
        assert_eq!(sum.unwrap(), expected, "opset {opset}");
        let product = scattered("mul", [x(), rows(), of_rows()], opset);
        let expected = floats(&[3, 2], &[3., 8., 3., 4., 25., 72.]);
        assert_eq!(product.unwrap(), expected, "opset {opset}");
        // Places of single elements, in a matrix of them.
        let places = integers(&[2, 2, 2], &[0, 0, 0, 0, 2, 1, 0, 0]);
        let ones = floats(&[2, 2], &[1., 1., 1., 1.]);
        let sum = scattered("add", [x(), places, ones], opset);
        let expected = floats(&[3, 2], &[4., 2., 3., 4., 5., 7.]);
        assert_eq!(sum.unwrap(), expected, "opset {opset}");
        let one = [x(), integers(&[2], &[1, 0]), floats(&[], &[1.])];
        let expected = floats(&[3, 2], &[1., 2., 4., 4., 5., 6.]);
        assert_eq!(scattered("add", one, opset).unwrap(), expected);
    }
    let most = scattered("max", [x(), rows(), of_rows()], 18);
    let expected = floats(&[3, 2], &[3., 4., 3., 4., 5., 6.]);
    assert_eq!(most.unwrap(), expected);
    for shape in [[0, 3], [2, 0]] {
        let nothing = || floats(&shape, &[]);
        let updates = floats(&[0, shape[1]], &[]);
        let answer = scattered("add", [nothing(), integers(&[0, 1], &[]), updates], 18);
        assert_eq!(answer.unwrap(), nothing());
    }
}

#[test]
fn scatter_refuses_other_places_and_sizes() {
    let x = || floats(&[3, 2], &[0.; 6]);
    let ones = |shape: &[usize]| floats(shape, &vec![1.; shape.iter().product()]);
    for (indices, shape) in [
        (integers(&[2, 1], &[0, 3]), vec![2, 2]),
        (integers(&[2, 1], &[0, 1]), vec![4]),
        (integers(&[2, 1], &[0, 1]), vec![1, 4]),
        (integers(&[2, 2], &[0; 4]), vec![1, 2]),
        (integers(&[1, 3], &[0; 3]), vec![1]),
    ] {
        let refused = scattered("add", [x(), indices, ones(&shape)], 18);
        let error = refused.unwrap_err();
        assert_eq!(error.code(), base::error::Code::InvalidArgument, "{error}");
    }
}

#[test]
fn no_kernel_that_loses_updates_is_left() {
    let inputs = [
        ("x", floats(&[1], &[0.])),
        ("i", integers(&[1, 1], &[0])),
        ("u", floats(&[1], &[0.])),
    ];
    let left = |reduction: &str| {
        let mut model = model(vec![scatter(reduction)], &inputs, 18);
        model.guard_kernels(&HashSet::new()).unwrap();
        model.has_operator(&|op_type| op_type == "ScatterND")
    };
    assert!(!left("add") && !left("mul") && !left("min") && !left("max"));
    assert!(left("none"), "it joins nothing");
}
