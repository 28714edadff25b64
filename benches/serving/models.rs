//! The models: two of the repository, and two that are generated here.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;
use proto::onnx::tensor_shape_proto::{Dimension, dimension};
use proto::onnx::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, type_proto,
};

use crate::Result;
use crate::stats::Random;

/// `FLOAT` in `TensorProto.DataType`.
const FLOAT: i32 = 1;
/// Rows of the long model's left operand, and the size of its square matrix.
const LONG_ROWS: i64 = 256;
const LONG_SIZE: i64 = 768;
/// The number of values in the long model's input.
pub(crate) const LONG_INPUTS: usize = 16;

/// The repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// ONNX Runtime's library: `ORT_DYLIB_PATH`, else where `make onnxruntime` puts it.
pub(crate) fn onnxruntime() -> PathBuf {
    std::env::var_os("ORT_DYLIB_PATH").map_or_else(
        || repository().join(".onnxruntime/lib/libonnxruntime.so"),
        PathBuf::from,
    )
}

/// A base path of `models/`.
pub(crate) fn served(name: &str) -> PathBuf {
    repository().join("models").join(name)
}

/// The ONNX file of the one version below a base path.
pub(crate) fn only_version(base_path: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(base_path)?;
    let mut versions = entries.flatten().map(|it| it.path().join("model.onnx"));
    let found = versions.find(|file| file.is_file());
    found.ok_or_else(|| format!("{}: no model.onnx", base_path.display()).into())
}

/// Writes a model as version 1 below `base_path`, and returns its file.
pub(crate) fn write(base_path: &Path, model: &ModelProto) -> Result<PathBuf> {
    let version = base_path.join("1");
    std::fs::create_dir_all(&version)?;
    let file = version.join("model.onnx");
    std::fs::write(&file, model.encode_to_vec())?;
    Ok(file)
}

/// y = x + 1 for any number of floats: `x: float[?]`.
pub(crate) fn add_one() -> ModelProto {
    model(GraphProto {
        node: vec![node("Add", &["x", "one"], "y")],
        initializer: vec![tensor("one", &[], &[1.0])],
        input: vec![value("x", &[-1])],
        output: vec![value("y", &[-1])],
        ..GraphProto::default()
    })
}

/// A chain of matrix products of the given length that begins with the mean of its input: `x: float[?,
/// 16]`, `y: float[256]`.
pub(crate) fn long(products: usize) -> ModelProto {
    let mut random = Random::new();
    // Uniform with a deviation that keeps the size of the values constant.
    let spread = 2.0 * (3.0 / LONG_SIZE as f64).sqrt();
    let mut values = |count: i64| -> Vec<f32> {
        let value = |_| ((random.next() - 0.5) * spread) as f32;
        (0..count).map(value).collect()
    };
    let first = tensor(
        "first",
        &[LONG_ROWS, LONG_SIZE],
        &values(LONG_ROWS * LONG_SIZE),
    );
    let matrix = tensor(
        "matrix",
        &[LONG_SIZE, LONG_SIZE],
        &values(LONG_SIZE * LONG_SIZE),
    );
    let column = tensor("column", &[LONG_SIZE], &values(LONG_SIZE));
    let mut nodes = vec![
        node("Flatten", &["x"], "rows"),
        node("MatMul", &["rows", "weights"], "means"),
        node("ReduceMax", &["means"], "mean"),
        node("Mul", &["first", "mean"], "product0"),
    ];
    for index in 1..=products {
        let (from, to) = (format!("product{}", index - 1), format!("product{index}"));
        nodes.push(node("MatMul", &[&from, "matrix"], &to));
    }
    nodes.push(node(
        "MatMul",
        &[&format!("product{products}"), "column"],
        "y",
    ));
    let weights = [1.0 / LONG_INPUTS as f32; LONG_INPUTS];
    model(GraphProto {
        node: nodes,
        initializer: vec![
            tensor("weights", &[LONG_INPUTS as i64, 1], &weights),
            first,
            matrix,
            column,
        ],
        input: vec![value("x", &[-1, LONG_INPUTS as i64])],
        output: vec![value("y", &[LONG_ROWS])],
        ..GraphProto::default()
    })
}

fn model(graph: GraphProto) -> ModelProto {
    let graph = GraphProto {
        name: Some("bench".to_owned()),
        ..graph
    };
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto {
            domain: None,
            version: Some(17),
        }],
        graph: Some(graph),
        ..ModelProto::default()
    }
}

fn node(op_type: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: Some(op_type.to_owned()),
        input: inputs.iter().map(|&it| it.to_owned()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}

fn tensor(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    let bytes: Vec<u8> = values.iter().flat_map(|it| it.to_le_bytes()).collect();
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims.to_vec(),
        data_type: Some(FLOAT),
        raw_data: Some(Bytes::from(bytes)),
        ..TensorProto::default()
    }
}

/// An input or output; -1 for a dimension of any size.
fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |&dim: &i64| Dimension {
        value: (dim >= 0).then_some(dimension::Value::DimValue(dim)),
        ..Dimension::default()
    };
    let shape = TensorShapeProto {
        dim: dims.iter().map(dim).collect(),
    };
    let tensor = type_proto::Tensor {
        elem_type: Some(FLOAT),
        shape: Some(shape),
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
