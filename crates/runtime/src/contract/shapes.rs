//! Rules about shapes, about the data that accompanies a model, and about runs that end early.

use std::collections::HashMap;
use std::sync::Arc;

use prost::Message;

use super::{FLOAT, model, node, run, value};
use crate::{Backend, Graph, RunControl, Weight};
use base::error::Code;
use base::tensor::Tensor;
use proto::onnx::{
    ModelProto, StringStringEntryProto, TensorProto, TensorShapeProto, ValueInfoProto,
    tensor_proto::DataLocation,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};

/// A declaration with these sizes; -1 for any.
fn sized(name: &str, element_type: i32, sizes: &[i64]) -> ValueInfoProto {
    let mut value = value(name, element_type);
    let dims = sizes.iter().map(|&size| Dimension {
        value: (size >= 0).then_some(dimension::Value::DimValue(size)),
        ..Dimension::default()
    });
    let shape = TensorShapeProto {
        dim: dims.collect(),
    };
    let ty = value.r#type.as_mut().and_then(|ty| ty.value.as_mut());
    if let Some(type_proto::Value::TensorType(tensor)) = ty {
        tensor.shape = Some(shape);
    }
    value
}

fn floats(shape: &[usize], elements: &[f32]) -> Tensor {
    Tensor::from_vec(shape, elements.to_vec()).unwrap()
}

/// y = x + x, for `x` as declared.
fn twice(backend: &dyn Backend, x: ValueInfoProto) -> Arc<dyn Graph> {
    let nodes = vec![node("Add", &["x", "x"], &["y"])];
    let source = model(nodes, vec![x], vec![value("y", FLOAT)]);
    backend.load(source).unwrap()
}

/// Sizes, and undeclared ranks, can change with every run, to more combinations than a backend keeps
/// plans for, and earlier ones can come back.
pub(crate) fn shapes_may_change_from_run_to_run(backend: &dyn Backend) {
    let matrix = twice(backend, sized("x", FLOAT, &[-1, -1]));
    let any = twice(backend, value("x", FLOAT));
    for _ in 0..2 {
        for size in 1..80 {
            let x = Tensor::from_vec(&[size, 2], vec![1.5f32; size * 2]).unwrap();
            for (graph, x) in [
                (&matrix, x.clone()),
                (&any, x.clone()),
                (&any, x.reshaped(&[2, 1, size]).unwrap()),
            ] {
                let shape = x.shape().to_vec();
                let fetched = run(graph.as_ref(), &[x]).unwrap();
                assert_eq!(fetched, [floats(&shape, &vec![3.0; size * 2])]);
            }
        }
    }
}

/// A graph of which every size is declared.
pub(crate) fn declared_sizes_are_served(backend: &dyn Backend) {
    let graph = twice(backend, sized("x", FLOAT, &[2, 1]));
    assert_eq!(graph.inputs()[0].shape, Some(vec![2, 1]));
    let fetched = run(graph.as_ref(), &[floats(&[2, 1], &[1.0, 2.0])]).unwrap();
    assert_eq!(fetched, [floats(&[2, 1], &[2.0, 4.0])]);
}

/// Operators work on scalars and on tensors without elements.
pub(crate) fn scalars_and_empty_tensors_are_computed(backend: &dyn Backend) {
    let graph = twice(backend, value("x", FLOAT));
    for (shape, x, y) in [
        (&[][..], &[1.5f32][..], &[3.0f32][..]),
        (&[0], &[], &[]),
        (&[2, 0, 3], &[], &[]),
    ] {
        let fetched = run(graph.as_ref(), &[floats(shape, x)]).unwrap();
        assert_eq!(fetched, [floats(shape, y)]);
    }

    let nodes = vec![node("MatMul", &["a", "b"], &["y"])];
    let inputs = vec![sized("a", FLOAT, &[-1, -1]), sized("b", FLOAT, &[-1, -1])];
    let source = model(nodes, inputs, vec![value("y", FLOAT)]);
    let graph = backend.load(source).unwrap();
    let no_rows = [floats(&[0, 3], &[]), floats(&[3, 2], &[1.0; 6])];
    let fetched = run(graph.as_ref(), &no_rows).unwrap();
    assert_eq!(fetched, [floats(&[0, 2], &[])]);
}

/// A run is given all inputs, those that nothing reads as well.
pub(crate) fn unread_inputs_are_taken(backend: &dyn Backend) {
    let nodes = vec![node("Neg", &["x"], &["y"])];
    let inputs = vec![value("unread", FLOAT), value("x", FLOAT)];
    let source = model(nodes, inputs, vec![value("y", FLOAT)]);
    let graph = backend.load(source).unwrap();
    let names: Vec<&str> = graph.inputs().iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["unread", "x"]);

    let inputs = [floats(&[3], &[7.0; 3]), floats(&[1], &[2.0])];
    assert_eq!(
        run(graph.as_ref(), &inputs).unwrap(),
        [floats(&[1], &[-2.0])]
    );
    let error = run(graph.as_ref(), &inputs[1..]).unwrap_err();
    assert_eq!(error.code(), Code::Internal, "{error}");
}

/// Data of initializers that is passed separately from the model.
pub(crate) fn weights_beside_the_model_are_used(backend: &dyn Backend) {
    for in_place in [false, true] {
        weight_beside_the_model_is_used(backend, in_place);
    }
}

fn weight_beside_the_model_is_used(backend: &dyn Backend, in_place: bool) {
    let nodes = vec![node("Add", &["x", "w"], &["y"])];
    let inputs = vec![value("x", FLOAT)];
    let mut source = model(nodes, inputs, vec![value("y", FLOAT)]);
    let entries = HashMap::from([("location", "weight_0"), ("offset", "0"), ("length", "8")]);
    let entries = entries
        .into_iter()
        .map(|(key, value)| StringStringEntryProto {
            key: Some(key.to_owned()),
            value: Some(value.to_owned()),
        });
    let mut proto = ModelProto::decode(source.model).unwrap();
    proto.graph.as_mut().unwrap().initializer = vec![TensorProto {
        name: Some("w".to_owned()),
        dims: vec![2],
        data_type: Some(FLOAT),
        data_location: Some(DataLocation::External.into()),
        external_data: entries.collect(),
        ..TensorProto::default()
    }];
    source.model = proto.encode_to_vec().into();
    source.weights = vec![Weight {
        name: "w".to_owned(),
        location: "weight_0".to_owned(),
        elem_type: FLOAT,
        shape: vec![2],
        data: [1.0f32, 2.0].map(f32::to_le_bytes).concat().into(),
        in_place,
    }];
    let graph = backend.load(source).unwrap();

    let fetched = run(graph.as_ref(), &[floats(&[1], &[0.5])]).unwrap();

    assert_eq!(graph.inputs().len(), 1);
    assert_eq!(fetched, [floats(&[2], &[1.5, 2.5])]);
}

/// x·x·…·x, which takes a long time for a large `x`.
fn long(backend: &dyn Backend) -> Arc<dyn Graph> {
    const ROUNDS: usize = 400;
    let product = |round: usize| match round {
        0 => "x".to_owned(),
        ROUNDS => "y".to_owned(),
        _ => format!("product_{round}"),
    };
    let nodes = (0..ROUNDS).map(|round| {
        let (from, to) = (product(round), product(round + 1));
        node("MatMul", &[&from, "x"], &[&to])
    });
    let inputs = vec![sized("x", FLOAT, &[-1, -1])];
    let source = model(nodes.collect(), inputs, vec![value("y", FLOAT)]);
    backend.load(source).unwrap()
}

/// A run that is stopped ends as such, and the graph stays usable.
pub(crate) fn stopped_runs_are_cancelled(backend: &dyn Backend) {
    let graph = long(backend);
    let control = RunControl::default();
    let size = 512;
    let large = Tensor::from_vec(&[size, size], vec![0.001f32; size * size]).unwrap();
    let stopped = std::thread::scope(|scope| {
        let (begins, begun) = std::sync::mpsc::channel();
        let (graph, control) = (&graph, &control);
        let running = scope.spawn(move || {
            begins.send(()).unwrap();
            graph.run(&[large], &[0], control)
        });
        begun.recv().unwrap();
        control.terminate();
        running.join().unwrap()
    });
    assert_eq!(stopped.unwrap_err().code(), Code::Cancelled);
    let one = floats(&[1, 1], &[1.0]);
    assert_eq!(
        run(graph.as_ref(), std::slice::from_ref(&one)).unwrap(),
        [one]
    );
}

/// A run keeps its graph alive, even if all other owners drop it meanwhile.
pub(crate) fn runs_outlive_other_owners(backend: &dyn Backend) {
    let graph = long(backend);
    let one = floats(&[1, 1], &[1.0]);
    std::thread::scope(|scope| {
        let (begins, begun) = std::sync::mpsc::channel();
        let (own, one) = (Arc::clone(&graph), &one);
        let running = scope.spawn(move || {
            begins.send(()).unwrap();
            run(own.as_ref(), std::slice::from_ref(one))
        });
        begun.recv().unwrap();
        drop(graph);
        assert_eq!(running.join().unwrap().unwrap(), std::slice::from_ref(one));
    });
}
