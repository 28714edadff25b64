//! The contract of every backend, as tests that each backend runs on itself ([`keeps_contract`]). A
//! backend has to refuse a dtype that it does not support by name ([`dtype_is_refused_at_load`]).
//! Whether the answers match TensorFlow's is tested in `tests/it/zoo`.
//!
//! The models are built here, node by node; expected values follow from the definition of the ONNX
//! operators.

mod shapes;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use half::f16;
use prost::Message;

pub(crate) use self::shapes::*;
use super::{Backend, Graph, GraphSource, RunControl};
use base::error::{Code, Result};
use base::tensor::{Element, Tensor};
use proto::onnx::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TypeProto, ValueInfoProto, type_proto,
};

/// `onnx.TensorProto.DataType`.
const FLOAT: i32 = 1;
pub(crate) const STRING: i32 = 8;
const BOOL: i32 = 9;
#[cfg(feature = "tract")]
pub(crate) const COMPLEX64: i32 = 14;
pub(crate) const BFLOAT16: i32 = 16;

/// Makes a test of each rule for the backend that `$backend` makes. Further rules can follow, for
/// example for optional features.
macro_rules! keeps_contract {
    ($backend:expr $(, $rule:ident)* $(,)?) => {
        $crate::contract::keeps_contract!(
            @tests $backend,
            numbers_pass_unchanged,
            booleans_pass_unchanged,
            outputs_are_selected,
            outputs_outlive_inputs,
            shapes_may_change_from_run_to_run,
            declared_sizes_are_served,
            scalars_and_empty_tensors_are_computed,
            unread_inputs_are_taken,
            weights_beside_the_model_are_used,
            refused_inputs_leave_the_graph_usable,
            broken_models_are_refused,
            concurrent_runs_do_not_mix,
            concurrent_answers_are_those_of_runs_alone,
            terminated_runs_are_cancelled,
            stopped_runs_are_cancelled,
            runs_on_one_thread_answer_the_same,
            runs_outlive_other_owners,
            $($rule,)*
        );
    };
    (@tests $backend:expr, $($rule:ident,)*) => {
        $(#[test]
        fn $rule() {
            $crate::contract::$rule(&$backend);
        })*
    };
}
pub(crate) use keeps_contract;

fn value(name: &str, element_type: i32) -> ValueInfoProto {
    let tensor = type_proto::Tensor {
        elem_type: Some(element_type),
        shape: None,
    };
    let ty = TypeProto {
        value: Some(type_proto::Value::TensorType(tensor)),
        ..Default::default()
    };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(ty),
        ..Default::default()
    }
}

fn node(op_type: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: Some(op_type.to_owned()),
        input: inputs.iter().map(ToString::to_string).collect(),
        output: outputs.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

fn model(
    nodes: Vec<NodeProto>,
    inputs: Vec<ValueInfoProto>,
    outputs: Vec<ValueInfoProto>,
) -> GraphSource {
    let graph = GraphProto {
        name: Some("contract".to_owned()),
        node: nodes,
        input: inputs,
        output: outputs,
        ..Default::default()
    };
    let model = ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto {
            version: Some(17),
            ..Default::default()
        }],
        graph: Some(graph),
        ..Default::default()
    };
    GraphSource {
        origin: "contract.onnx".to_owned(),
        model: model.encode_to_vec().into(),
        weights: Vec::new(),
        sharing: None,
        declared_shapes: HashMap::new(),
        work_follows_shapes: true,
    }
}

fn identity(backend: &dyn Backend, element_type: i32) -> Arc<dyn Graph> {
    let nodes = vec![node("Identity", &["x"], &["y"])];
    let source = model(
        nodes,
        vec![value("x", element_type)],
        vec![value("y", element_type)],
    );
    backend.load(source).unwrap()
}

fn run(graph: &dyn Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    let all: Vec<usize> = (0..graph.outputs().len()).collect();
    graph.run(inputs, &all, &RunControl::default())
}

#[track_caller]
fn check_unchanged(graph: &dyn Graph, tensor: Tensor) {
    assert_eq!(run(graph, std::slice::from_ref(&tensor)).unwrap(), [tensor]);
}

fn check_number<T: Element>(backend: &dyn Backend, element_type: i32, values: [T; 4]) {
    let graph = identity(backend, element_type);
    check_unchanged(
        graph.as_ref(),
        Tensor::from_vec(&[2, 2], values.to_vec()).unwrap(),
    );
    check_unchanged(
        graph.as_ref(),
        Tensor::from_vec(&[], vec![values[0]]).unwrap(),
    );
    check_unchanged(
        graph.as_ref(),
        Tensor::from_vec::<T>(&[2, 0], Vec::new()).unwrap(),
    );
    let rank_8 = [1, 2, 1, 1, 2, 1, 1, 1];
    check_unchanged(
        graph.as_ref(),
        Tensor::from_vec(&rank_8, values.to_vec()).unwrap(),
    );
}

/// Every numeric dtype comes back bit for bit: matrices, scalars, empty tensors, rank 8.
pub(crate) fn numbers_pass_unchanged(backend: &dyn Backend) {
    check_number(
        backend,
        FLOAT,
        [1.5f32, -0.0, f32::INFINITY, f32::MIN_POSITIVE],
    );
    check_number(backend, 11, [1.5f64, f64::MAX, f64::NEG_INFINITY, -0.0]);
    check_number(backend, 6, [1i32, -1, i32::MIN, i32::MAX]);
    check_number(backend, 7, [1i64, -1, i64::MIN, i64::MAX]);
    check_number(backend, 12, [0u32, 1, 2, u32::MAX]);
    check_number(backend, 13, [0u64, 1, 2, u64::MAX]);
    check_number(backend, 5, [0i16, -1, i16::MIN, i16::MAX]);
    check_number(backend, 4, [0u16, 1, 2, u16::MAX]);
    check_number(backend, 3, [0i8, -1, i8::MIN, i8::MAX]);
    check_number(backend, 2, [0u8, 1, 2, u8::MAX]);
    check_number(backend, 10, [f16::ONE, f16::NAN, f16::MAX, f16::NEG_ZERO]);
}

/// As [`numbers_pass_unchanged`], for a dtype that not every backend supports.
#[cfg(feature = "onnxruntime")]
pub(crate) fn bfloat16_passes_unchanged(backend: &dyn Backend) {
    check_number(
        backend,
        BFLOAT16,
        [
            half::bf16::ONE,
            half::bf16::NAN,
            half::bf16::MAX,
            half::bf16::NEG_ZERO,
        ],
    );
}

/// A dtype that the backend does not support is refused by `name`, before any request.
#[cfg(feature = "tract")]
#[track_caller]
pub(crate) fn dtype_is_refused_at_load(backend: &dyn Backend, element_type: i32, name: &str) {
    let nodes = vec![node("Identity", &["x"], &["y"])];
    let inputs = vec![value("x", element_type)];
    let source = model(nodes, inputs, vec![value("y", element_type)]);
    let error = backend.load(source).err().unwrap();
    assert!(error.to_string().contains(name), "{error}");
    assert!(error.to_string().contains("contract.onnx"), "{error}");
}

/// Booleans come back as they are.
pub(crate) fn booleans_pass_unchanged(backend: &dyn Backend) {
    let bytes = Bytes::from_static(&[0, 1, 1]);
    let tensor = Tensor::from_bytes(base::tensor::DataType::Bool, &[3], bytes).unwrap();
    check_unchanged(identity(backend, BOOL).as_ref(), tensor);
}

/// Strings are bytes: empty, NUL and invalid UTF-8 included.
#[cfg(feature = "onnxruntime")]
pub(crate) fn strings_are_bytes(backend: &dyn Backend) {
    let graph = identity(backend, STRING);
    let strings: Vec<Bytes> = [&b"plain"[..], b"", b"a\0b", b"\xff\xfe", b"\0"]
        .map(Bytes::from_static)
        .to_vec();
    check_unchanged(
        graph.as_ref(),
        Tensor::from_strings(&[5], strings.clone()).unwrap(),
    );
    check_unchanged(
        graph.as_ref(),
        Tensor::from_strings(&[], strings[..1].to_vec()).unwrap(),
    );
    check_unchanged(
        graph.as_ref(),
        Tensor::from_strings(&[0, 3], Vec::new()).unwrap(),
    );
}

/// Outputs come in the order asked for; those not asked for are not computed for the caller.
pub(crate) fn outputs_are_selected(backend: &dyn Backend) {
    let nodes = vec![
        node("Add", &["a", "b"], &["sum"]),
        node("Mul", &["a", "b"], &["product"]),
    ];
    let inputs = vec![value("a", FLOAT), value("b", FLOAT)];
    let outputs = vec![value("sum", FLOAT), value("product", FLOAT)];
    let graph = backend.load(model(nodes, inputs, outputs)).unwrap();
    let inputs = [[2.0f32, 3.0], [4.0, 5.0]].map(|it| Tensor::from_vec(&[2], it.into()).unwrap());

    let fetched = graph.run(&inputs, &[1, 0], &RunControl::default()).unwrap();

    assert_eq!(fetched[0].as_slice::<f32>().unwrap(), [8.0, 15.0]);
    assert_eq!(fetched[1].as_slice::<f32>().unwrap(), [6.0, 8.0]);
    let one = graph.run(&inputs, &[1], &RunControl::default()).unwrap();
    assert_eq!(one.len(), 1);
}

/// A graph input that is a graph output as well, kept alive by the answer alone.
pub(crate) fn outputs_outlive_inputs(backend: &dyn Backend) {
    let nodes = vec![node("Neg", &["x"], &["y"])];
    let outputs = vec![value("y", FLOAT), value("x", FLOAT)];
    let graph = backend
        .load(model(nodes, vec![value("x", FLOAT)], outputs))
        .unwrap();
    let fetched = run(
        graph.as_ref(),
        &[Tensor::from_vec(&[2], vec![1.0f32, 2.0]).unwrap()],
    );
    drop(graph);
    let fetched = fetched.unwrap();
    assert_eq!(fetched[0].as_slice::<f32>().unwrap(), [-1.0, -2.0]);
    assert_eq!(fetched[1].as_slice::<f32>().unwrap(), [1.0, 2.0]);
}

/// A request that the kernels refuse is `INVALID_ARGUMENT`, and the graph stays usable.
pub(crate) fn refused_inputs_leave_the_graph_usable(backend: &dyn Backend) {
    let nodes = vec![node("MatMul", &["a", "b"], &["y"])];
    let inputs = vec![value("a", FLOAT), value("b", FLOAT)];
    let graph = backend
        .load(model(nodes, inputs, vec![value("y", FLOAT)]))
        .unwrap();
    let matrix = |rows: usize, columns: usize| {
        Tensor::from_vec(&[rows, columns], vec![1.0f32; rows * columns]).unwrap()
    };

    let error = run(graph.as_ref(), &[matrix(2, 3), matrix(2, 3)]).unwrap_err();

    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    let fetched = run(graph.as_ref(), &[matrix(2, 3), matrix(3, 2)]).unwrap();
    assert_eq!(fetched[0].as_slice::<f32>().unwrap(), [3.0; 4]);
}

/// A file that is not a model, or has an operator without a kernel, is refused at load with the reason.
pub(crate) fn broken_models_are_refused(backend: &dyn Backend) {
    let garbage = GraphSource {
        origin: "garbage.onnx".to_owned(),
        model: Bytes::from_static(b"not a model"),
        weights: Vec::new(),
        sharing: None,
        declared_shapes: HashMap::new(),
        work_follows_shapes: true,
    };
    let error = backend.load(garbage).err().unwrap();
    assert!(error.to_string().contains("garbage.onnx"), "{error}");

    let nodes = vec![node("NoSuchOperator", &["x"], &["y"])];
    let unknown = model(nodes, vec![value("x", FLOAT)], vec![value("y", FLOAT)]);
    let error = backend.load(unknown).err().unwrap();
    assert!(error.to_string().contains("NoSuchOperator"), "{error}");
}

/// Eight threads share one graph; every answer is the right one.
pub(crate) fn concurrent_runs_do_not_mix(backend: &dyn Backend) {
    let nodes = vec![node("Add", &["x", "x"], &["y"])];
    let graph = backend
        .load(model(
            nodes,
            vec![value("x", FLOAT)],
            vec![value("y", FLOAT)],
        ))
        .unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8u16 {
            let graph = &graph;
            scope.spawn(move || {
                for round in 0..200u16 {
                    let size = usize::from(thread) * 7 + usize::from(round % 5) + 1;
                    let x = f32::from(thread * 1000 + round);
                    let tensor = Tensor::from_vec(&[size], vec![x; size]).unwrap();
                    let fetched = run(graph.as_ref(), &[tensor]).unwrap();
                    assert_eq!(fetched[0].as_slice::<f32>().unwrap(), vec![2.0 * x; size]);
                }
            });
        }
    });
}

/// Eight threads share one graph of operators that work in buffers of the library. Every answer is, bit
/// for bit, the answer of a run on its own.
pub(crate) fn concurrent_answers_are_those_of_runs_alone(backend: &dyn Backend) {
    let nodes = vec![
        node("MatMul", &["a", "b"], &["product"]),
        node("Softmax", &["product"], &["softmax"]),
        node("MatMul", &["softmax", "b"], &["y"]),
    ];
    let inputs = vec![value("a", FLOAT), value("b", FLOAT)];
    let graph = backend.load(model(nodes, inputs, vec![value("y", FLOAT)]));
    let graph = graph.unwrap();
    let feeds = |thread: usize| {
        let (rows, size) = (thread * 5 + 1, 48);
        let element = |index: usize| ((index * 7 + thread) % 23) as f32 / 11.0 - 1.0;
        [(rows, size), (size, size)].map(|(rows, columns)| {
            let elements = (0..rows * columns).map(element).collect();
            Tensor::from_vec(&[rows, columns], elements).unwrap()
        })
    };
    let alone: Vec<Vec<Tensor>> = (0..8)
        .map(|thread| run(graph.as_ref(), &feeds(thread)).unwrap())
        .collect();
    std::thread::scope(|scope| {
        for (thread, alone) in alone.iter().enumerate() {
            let (graph, feeds) = (&graph, feeds(thread));
            scope.spawn(move || {
                for _ in 0..100 {
                    let fetched = run(graph.as_ref(), &feeds).unwrap();
                    assert_eq!(fetched[0].bytes(), alone[0].bytes());
                }
            });
        }
    });
}

/// A run that was terminated before it began does not run.
pub(crate) fn terminated_runs_are_cancelled(backend: &dyn Backend) {
    let graph = identity(backend, FLOAT);
    let control = RunControl::default();
    control.terminate();
    let input = Tensor::from_vec(&[1], vec![1.0f32]).unwrap();
    let error = graph.run(&[input], &[0], &control).unwrap_err();
    assert_eq!(error.code(), Code::Cancelled);
}

/// Threads affect only speed: a run on the calling thread alone returns the same, bit for bit.
pub(crate) fn runs_on_one_thread_answer_the_same(backend: &dyn Backend) {
    let graph = backend
        .load(model(
            vec![node("MatMul", &["x", "x"], &["y"])],
            vec![value("x", FLOAT)],
            vec![value("y", FLOAT)],
        ))
        .unwrap();
    let elements = (0..200 * 200).map(|it| (it as f32 * 0.37).sin());
    let x = Tensor::from_vec(&[200, 200], elements.collect()).unwrap();
    let expected = run(graph.as_ref(), std::slice::from_ref(&x)).unwrap();
    let control = RunControl::default();
    control.keep_to_one_thread(true);
    assert_eq!(graph.run(&[x], &[0], &control).unwrap(), expected);
}
