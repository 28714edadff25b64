//! Reading and editing ONNX files.
//!
//! Edits are made once, at load, on the protobuf, so that the backend optimises them away.
//!
//! Not here: what aliases mean (`signature`), running graphs (`runtime`).

use std::path::Path;

use bytes::Bytes;
use prost::Message;

use crate::error::{Result, ServingError};
use crate::proto::onnx::{ModelProto, type_proto};
use crate::runtime::GraphSource;

/// An ONNX model in memory.
pub struct OnnxModel {
    origin: String,
    proto: ModelProto,
}

impl OnnxModel {
    /// Reads an ONNX file.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` where it cannot be read, `INVALID_ARGUMENT` where it is no ONNX model; both
    /// name the file.
    pub fn read(file: &Path) -> Result<Self> {
        let origin = file.display().to_string();
        let bytes = std::fs::read(file)
            .map_err(|error| ServingError::not_found(format!("cannot read {origin}: {error}")))?;
        let proto = ModelProto::decode(Bytes::from(bytes)).map_err(|error| {
            ServingError::invalid_argument(format!("{origin} is not an ONNX model: {error}"))
        })?;
        if proto.graph.is_none() {
            return Err(ServingError::invalid_argument(format!(
                "{origin} is not an ONNX model: it has no graph"
            )));
        }
        Ok(Self { origin, proto })
    }

    /// Forgets the declared shapes of the graph's inputs: ONNX Runtime enforces them, TensorFlow
    /// never did.
    pub fn drop_input_shapes(&mut self) {
        for input in self
            .proto
            .graph
            .iter_mut()
            .flat_map(|graph| &mut graph.input)
        {
            if let Some(type_proto::Value::TensorType(tensor)) =
                input.r#type.as_mut().and_then(|ty| ty.value.as_mut())
            {
                tensor.shape = None;
            }
        }
    }

    /// The model as a backend takes it.
    pub fn into_source(self) -> GraphSource {
        GraphSource {
            origin: self.origin,
            model: self.proto.encode_to_vec().into(),
            external_data: Vec::new(),
        }
    }
}
