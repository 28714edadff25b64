//! Models with 100 MB of weights, written node by node.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use prost::Message;
use proto::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto, tensor_shape_proto::Dimension,
    tensor_shape_proto::dimension, type_proto,
};

/// `onnx.TensorProto.DataType`.
const FLOAT: i32 = 1;
const INT64: i32 = 7;

/// Columns of the dense models' input and rows of their heads.
pub(crate) const WIDTH: usize = 2560;
/// Columns of the heads.
pub(crate) const CLASSES: usize = 10;
/// Channels of the convolutional model.
const CHANNELS: i64 = 512;
const LAYERS: usize = 4;
const CONVOLUTIONS: usize = 11;

/// A graph under construction.
#[derive(Default)]
pub(crate) struct Model {
    graph: GraphProto,
}

impl Model {
    /// `x: float[?, 2560]` through four layers of 26 MB to `features`, `logits` and
    /// `probabilities`, of which `outputs` are returned.
    pub(crate) fn dense(outputs: &[&str]) -> Self {
        let mut model = Self::default();
        model.input("x", &[-1, WIDTH as i64]);
        let mut last = "x".to_owned();
        for layer in 0..LAYERS {
            let (weight, next) = (format!("w{layer}"), format!("layer{layer}"));
            model.weight(&weight, &[WIDTH as i64, WIDTH as i64]);
            model.node("MatMul", &[&last, &weight], &next);
            last = next;
        }
        model.node("Tanh", &[&last], "features");
        model.weight("head", &[WIDTH as i64, CLASSES as i64]);
        model.node("MatMul", &["features", "head"], "logits");
        model.node("Softmax", &["logits"], "probabilities");
        outputs.iter().for_each(|name| model.output(name));
        model
    }

    /// `x: float[?, 512, 7, 7]` through eleven convolutions of 9 MB to `y`, of the same shape.
    pub(crate) fn convolutional() -> Self {
        let mut model = Self::default();
        model.input("x", &[-1, CHANNELS, 7, 7]);
        let mut last = "x".to_owned();
        for layer in 0..CONVOLUTIONS {
            let (weight, next) = (format!("w{layer}"), format!("layer{layer}"));
            model.weight(&weight, &[CHANNELS, CHANNELS, 3, 3]);
            model.node("Conv", &[&last, &weight], &next);
            model.attribute("pads", &[1, 1, 1, 1]);
            last = next;
        }
        model.node("Tanh", &[&last], "y");
        model.output("y");
        model
    }

    /// `x: int64[?]` to `y: float[?, 2560]`, rows of a table of 10240 rows.
    pub(crate) fn embedding() -> Self {
        let mut model = Self::default();
        model.graph.input.push(value("x", INT64, Some(&[-1])));
        model.weight("table", &[4 * WIDTH as i64, WIDTH as i64]);
        model.node("Gather", &["table", "x"], "y");
        model.output("y");
        model
    }

    /// `x: float[?, 64]` to `y: float[?]`, the mean of a row, through intermediate values of 32 KiB for
    /// each row.
    pub(crate) fn spacious() -> Self {
        let mut model = Self::default();
        model.input("x", &[-1, 64]);
        let data: Vec<u8> = (0..64 * 8192)
            .flat_map(|_| (1f32 / 64.0).to_le_bytes())
            .collect();
        model.tensor("w", &[64, 8192], data.into());
        model.node("MatMul", &["x", "w"], "wide");
        model.node("Neg", &["wide"], "negated");
        model.node("Abs", &["negated"], "back");
        model.node("ReduceMean", &["back"], "y");
        model.attribute("axes", &[1]);
        model.flag("keepdims", 0);
        model.output("y");
        model
    }

    /// Writes version 1, with this signature map unless it is empty.
    pub(crate) fn write(self, base_path: &Path, map: &str) {
        let version = base_path.join("1");
        fs::create_dir_all(&version).unwrap();
        let model = ModelProto {
            ir_version: Some(8),
            opset_import: vec![OperatorSetIdProto {
                version: Some(17),
                ..OperatorSetIdProto::default()
            }],
            graph: Some(GraphProto {
                name: Some("big".to_owned()),
                ..self.graph
            }),
            ..ModelProto::default()
        };
        fs::write(version.join("model.onnx"), model.encode_to_vec()).unwrap();
        if !map.is_empty() {
            fs::write(version.join("signature_map.pbtxt"), map).unwrap();
        }
    }

    pub(crate) fn node(&mut self, op_type: &str, inputs: &[&str], output: &str) {
        self.graph.node.push(NodeProto {
            op_type: Some(op_type.to_owned()),
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            ..NodeProto::default()
        });
    }

    pub(crate) fn input(&mut self, name: &str, shape: &[i64]) {
        self.graph.input.push(value(name, FLOAT, Some(shape)));
    }

    pub(crate) fn output(&mut self, name: &str) {
        self.graph.output.push(value(name, FLOAT, None));
    }

    fn weight(&mut self, name: &str, shape: &[i64]) {
        let count = shape.iter().product::<i64>() as usize;
        let data = (0..count).flat_map(|index| weight_at(name, index).to_le_bytes());
        self.tensor(name, shape, data.collect());
    }

    fn tensor(&mut self, name: &str, shape: &[i64], data: Bytes) {
        self.graph.initializer.push(TensorProto {
            name: Some(name.to_owned()),
            dims: shape.to_vec(),
            data_type: Some(FLOAT),
            raw_data: Some(data),
            ..TensorProto::default()
        });
    }

    /// An attribute of the last node.
    fn attribute(&mut self, name: &str, ints: &[i64]) {
        self.last_node().attribute.push(AttributeProto {
            name: Some(name.to_owned()),
            r#type: Some(attribute_proto::AttributeType::Ints.into()),
            ints: ints.to_vec(),
            ..AttributeProto::default()
        });
    }

    fn flag(&mut self, name: &str, value: i64) {
        self.last_node().attribute.push(AttributeProto {
            name: Some(name.to_owned()),
            r#type: Some(attribute_proto::AttributeType::Int.into()),
            i: Some(value),
            ..AttributeProto::default()
        });
    }

    fn last_node(&mut self) -> &mut NodeProto {
        self.graph.node.last_mut().unwrap()
    }
}

/// The element at this index of the weight of this name: small, of both signs. Weights differ, because
/// ONNX Runtime stores the data that it derives from equal ones only once.
pub(crate) fn weight_at(name: &str, index: usize) -> f32 {
    let seed = name.bytes().fold(0u32, |seed, byte| {
        seed.wrapping_mul(31).wrapping_add(u32::from(byte))
    });
    let hashed = (index as u32 ^ seed.wrapping_mul(0x9e37_79b9)).wrapping_mul(2_654_435_761) >> 24;
    (hashed as f32 - 127.5) / 8192.0
}

fn value(name: &str, elem_type: i32, shape: Option<&[i64]>) -> ValueInfoProto {
    let dim = |&size: &i64| Dimension {
        value: (size >= 0).then_some(dimension::Value::DimValue(size)),
        ..Dimension::default()
    };
    let shape = shape.map(|shape| TensorShapeProto {
        dim: shape.iter().map(dim).collect(),
    });
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(type_proto::Tensor {
                elem_type: Some(elem_type),
                shape,
            })),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}
