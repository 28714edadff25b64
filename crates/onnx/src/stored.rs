//! A model as files: the protobuf, and a second file for its weights where one would be too large.
//!
//! Not here: writing the files (`mapper::version_dir`), reading them (`parse`, `external`).

use bytes::Bytes;
use prost::Message;

use super::OnnxModel;
use super::weights::take_weight;

/// Models with more bytes of weights are stored in two files. A protobuf is limited to 2 GiB.
const MAX_BYTES_IN_ONE_FILE: usize = 1 << 30;
/// Weights begin at multiples of this, so that other programs can map them into memory.
const ALIGNMENT: usize = 4096;
static PADDING: [u8; ALIGNMENT] = [0; ALIGNMENT];

/// The contents of a model's files.
pub struct StoredModel {
    /// The ONNX file.
    pub model: Vec<u8>,
    /// The parts of the file with weights, in order; empty if the ONNX file has them.
    pub weights: Vec<Bytes>,
}

impl OnnxModel {
    /// The contents of the model's files. `weights_file` is the name of the file with weights, if one is needed.
    pub fn into_files(self, weights_file: &str) -> StoredModel {
        self.into_files_within(weights_file, MAX_BYTES_IN_ONE_FILE)
    }

    fn into_files_within(mut self, weights_file: &str, max_bytes: usize) -> StoredModel {
        let mut weights = Vec::new();
        if self.weight_bytes() > max_bytes {
            let mut offset = 0usize;
            for tensor in &mut self.graph_mut().initializer {
                if let Some(weight) = take_weight(tensor, weights_file.to_owned(), offset) {
                    let padding = weight.data.len().next_multiple_of(ALIGNMENT) - weight.data.len();
                    offset += weight.data.len() + padding;
                    weights.push(weight.data);
                    weights.push(Bytes::from_static(&PADDING[..padding]));
                }
            }
        }
        StoredModel {
            model: self.proto.encode_to_vec(),
            weights,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::onnx::{GraphProto, ModelProto, TensorProto};

    /// A model with these weights of 16 KiB each, filled with the given byte.
    fn model(fillings: &[u8]) -> OnnxModel {
        let weights = fillings.iter().map(|&filling| TensorProto {
            name: Some(format!("w{filling}")),
            dims: vec![16 << 10],
            data_type: Some(proto::onnx::tensor_proto::DataType::Uint8.into()),
            raw_data: Some(vec![filling; 16 << 10].into()),
            ..TensorProto::default()
        });
        let proto = ModelProto {
            graph: Some(GraphProto {
                initializer: weights.collect(),
                ..GraphProto::default()
            }),
            ..ModelProto::default()
        };
        OnnxModel::from_proto("test", proto).unwrap()
    }

    #[test]
    fn small_models_are_one_file() {
        let stored = model(&[1, 2]).into_files_within("w", 32 << 10);
        assert!(stored.weights.is_empty());
        let read = OnnxModel::parse("test", &stored.model).unwrap();
        assert!(read.is_same_graph(&model(&[1, 2])));
    }

    #[test]
    fn large_models_come_back_from_two_files() {
        let stored = model(&[1, 2]).into_files_within("w", (32 << 10) - 1);
        let file = Bytes::from(stored.weights.concat());
        let mut read = OnnxModel::parse("test", &stored.model).unwrap();
        assert_eq!(read.weight_bytes(), 0);
        read.read_external_data(&mut |name| {
            assert_eq!(name.to_str(), Some("w"));
            Ok(file.clone())
        })
        .unwrap();
        assert!(read.is_same_graph(&model(&[1, 2])));
    }
}
