//! Models that tests write: one graph per dtype that returns its input.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use prost::Message;
use proto::onnx::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TypeProto, ValueInfoProto, type_proto,
};
use proto::tensorflow::DataType;

/// Every dtype that ONNX Runtime has tensors of: the signature's name, TensorFlow's number, and
/// `TensorProto.DataType` of onnx.proto.
pub(crate) const DTYPES: &[(&str, DataType, i32)] = &[
    ("float", DataType::DtFloat, 1),
    ("uint8", DataType::DtUint8, 2),
    ("int8", DataType::DtInt8, 3),
    ("uint16", DataType::DtUint16, 4),
    ("int16", DataType::DtInt16, 5),
    ("int32", DataType::DtInt32, 6),
    ("int64", DataType::DtInt64, 7),
    ("string", DataType::DtString, 8),
    ("bool", DataType::DtBool, 9),
    ("half", DataType::DtHalf, 10),
    ("double", DataType::DtDouble, 11),
    ("uint32", DataType::DtUint32, 12),
    ("uint64", DataType::DtUint64, 13),
    ("bfloat16", DataType::DtBfloat16, 16),
];

/// Writes version 1 of a model with a signature for each dtype: `x` of any shape to `y`, the same.
pub(crate) fn write_identity(base_path: &Path) {
    let version = base_path.join("1");
    fs::create_dir_all(&version).unwrap();
    let mut map = String::new();
    for (name, _, onnx_dtype) in DTYPES {
        let graph = format!("{name}.onnx");
        fs::write(version.join(&graph), identity(*onnx_dtype).encode_to_vec()).unwrap();
        writeln!(
            map,
            "signature {{ name: '{name}' graph: '{graph}' input {{ alias: 'x' tensor: 'x' }} \
             output {{ alias: 'y' tensor: 'y' }} }}"
        )
        .expect("writing to a string");
    }
    fs::write(version.join("signature_map.pbtxt"), map).unwrap();
}

fn identity(onnx_dtype: i32) -> ModelProto {
    let value = |name: &str| ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(type_proto::Tensor {
                elem_type: Some(onnx_dtype),
                shape: None,
            })),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    };
    let node = NodeProto {
        input: vec!["x".to_owned()],
        output: vec!["y".to_owned()],
        op_type: Some("Identity".to_owned()),
        ..NodeProto::default()
    };
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto {
            version: Some(17),
            ..OperatorSetIdProto::default()
        }],
        graph: Some(GraphProto {
            name: Some("identity".to_owned()),
            node: vec![node],
            input: vec![value("x")],
            output: vec![value("y")],
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    }
}
