//! Predict requests in both protocols, as existing clients write them.

use std::collections::BTreeMap;
use std::fmt::Write;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use proto::tensorflow::serving::{ModelSpec, PredictRequest};
use proto::tensorflow::tensor_shape_proto::Dim;
use proto::tensorflow::{DataType, TensorProto, TensorShapeProto};

use crate::load::{Call, Protocol};
use crate::stats::Random;

/// The share of an image of a digit that is background.
const BACKGROUND: f64 = 0.7;
/// Height and width of an image.
const IMAGE_SIDE: usize = 28;

/// One input for a model.
pub(crate) struct Input {
    pub(crate) model: &'static str,
    pub(crate) alias: &'static str,
    pub(crate) shape: Vec<usize>,
    /// Values as doubles, as a client has them before it writes JSON.
    pub(crate) values: Vec<f64>,
}

impl Input {
    /// The example in TensorFlow Serving's own documentation.
    pub(crate) fn half_plus_two() -> Self {
        Self {
            model: "half_plus_two",
            alias: "x",
            shape: vec![3],
            values: vec![1.0, 2.0, 5.0],
        }
    }

    /// Images with as much background as digits have, and pixels of 0 to 255, scaled to 1.
    pub(crate) fn images(count: usize) -> Self {
        let mut random = Random::new();
        let mut pixel = || match random.next() {
            share if share < BACKGROUND => 0.0,
            _ => (random.next() * 255.0).round() / 255.0,
        };
        Self {
            model: "mnist",
            alias: "input_image",
            shape: vec![count, IMAGE_SIDE, IMAGE_SIDE, 1],
            values: (0..count * IMAGE_SIDE * IMAGE_SIDE)
                .map(|_| pixel())
                .collect(),
        }
    }

    /// Random values for a model that this program generated.
    pub(crate) fn random(model: &'static str, shape: &[usize]) -> Self {
        let mut random = Random::new();
        Self {
            model,
            alias: "x",
            shape: shape.to_vec(),
            values: (0..shape.iter().product()).map(|_| random.next()).collect(),
        }
    }

    pub(crate) fn call(&self, protocol: Protocol) -> Call {
        match protocol {
            Protocol::Grpc => self.grpc(),
            Protocol::Rest => self.rest(),
        }
    }

    fn grpc(&self) -> Call {
        let request = PredictRequest {
            model_spec: Some(ModelSpec {
                name: self.model.to_owned(),
                ..ModelSpec::default()
            }),
            inputs: BTreeMap::from([(self.alias.to_owned(), self.proto())]),
            ..PredictRequest::default()
        };
        let message = request.encode_to_vec();
        let mut framed = BytesMut::with_capacity(message.len() + 5);
        framed.put_u8(0);
        framed.put_u32(message.len() as u32);
        framed.put_slice(&message);
        Call {
            protocol: Protocol::Grpc,
            path: "/tensorflow.serving.PredictionService/Predict".to_owned(),
            body: framed.freeze(),
        }
    }

    /// As `make_tensor_proto` encodes an array: the elements' memory in `tensor_content`.
    fn proto(&self) -> TensorProto {
        let bytes = self.values.iter().flat_map(|&it| (it as f32).to_le_bytes());
        let dim = |&size: &usize| Dim {
            size: size as i64,
            ..Dim::default()
        };
        TensorProto {
            dtype: DataType::DtFloat.into(),
            tensor_shape: Some(TensorShapeProto {
                dim: self.shape.iter().map(dim).collect(),
                ..TensorShapeProto::default()
            }),
            tensor_content: bytes.collect(),
            ..TensorProto::default()
        }
    }

    /// The row format, as Python's `json.dumps` writes it.
    fn rest(&self) -> Call {
        let mut body = String::from("{\"instances\": ");
        let mut values = self.values.iter();
        write_nested(&mut body, &self.shape, &mut values);
        body.push('}');
        Call {
            protocol: Protocol::Rest,
            path: format!("/v1/models/{}:predict", self.model),
            body: Bytes::from(body),
        }
    }
}

fn write_nested(text: &mut String, shape: &[usize], values: &mut std::slice::Iter<'_, f64>) {
    let Some((&size, inner)) = shape.split_first() else {
        let value = values.next().copied().unwrap_or_default();
        // Writing to a string does not fail.
        let _ = write!(text, "{value:?}");
        return;
    };
    text.push('[');
    for index in 0..size {
        if index > 0 {
            text.push_str(", ");
        }
        write_nested(text, inner, values);
    }
    text.push(']');
}
