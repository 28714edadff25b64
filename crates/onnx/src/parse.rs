//! Parses an ONNX file into a model, and refuses files that are not one.
//!
//! Not here: the limits on its parts (`decode_limits`, `expansion`), text that is not UTF-8 (`text`), external
//! data (`external`).

use std::collections::{BTreeMap, HashMap, HashSet};

use prost::Message;

use super::edit::Edits;
use super::text::NotUtf8;
use super::{OnnxModel, decode_limits, expansion, text, weights};
use base::error::{Result, ServingError};
use proto::onnx::ModelProto;

impl OnnxModel {
    /// Parses an ONNX file; `origin` names it in errors. External data is not read yet, see
    /// [`read_external_data`](Self::read_external_data). The result does not refer to `bytes`. Text that is
    /// not UTF-8 gets U+FFFD; an output without a type gets the one that follows from the graph.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` if it is not a valid ONNX model; two inputs of one name, which no backend accepts,
    /// make it invalid. It also refuses graphs nested deeper than protobuf's usual limit of 100 messages,
    /// files of millions of empty messages, which would need hundreds of times their size, and functions
    /// whose calls would expand to a similar amount.
    pub fn parse(origin: impl Into<String>, bytes: &[u8]) -> Result<Self> {
        let origin = origin.into();
        if !decode_limits::is_bounded(bytes) {
            return Err(ServingError::invalid_argument(format!(
                "{origin} is refused: it consists of millions of nearly empty parts"
            )));
        }
        let decoded = ModelProto::decode(bytes).map(|proto| (proto, HashMap::new()));
        let decoded = decoded.or_else(|error| text::decode(bytes).ok_or(error));
        let (proto, not_utf8) = decoded.map_err(|error| {
            let text = format!("{origin} is not an ONNX model: {error}");
            ServingError::invalid_argument(text).caused_by(error)
        })?;
        Self::checked(origin, proto, not_utf8)
    }

    /// A model that was built in memory; `origin` names it in errors.
    ///
    /// # Errors
    ///
    /// As for [`parse`](Self::parse).
    pub fn from_proto(origin: impl Into<String>, proto: ModelProto) -> Result<Self> {
        Self::checked(origin.into(), proto, HashMap::new())
    }

    fn checked(origin: String, mut proto: ModelProto, not_utf8: NotUtf8) -> Result<Self> {
        expansion::check(&origin, &proto)?;
        let graph = proto.graph.as_mut().ok_or_else(|| {
            let text = format!("{origin} is not an ONNX model: it has no graph");
            ServingError::invalid_argument(text)
        })?;
        let mut names = HashSet::new();
        if let Some(twice) = graph.input.iter().find(|it| !names.insert(it.name())) {
            return Err(ServingError::invalid_argument(format!(
                "{origin} is not an ONNX model: it has two inputs '{}'",
                twice.name()
            )));
        }
        weights::drop_repeated(graph);
        weights::make_raw(graph);
        let mut model = Self {
            origin,
            proto,
            declared_shapes: HashMap::new(),
            defaults: BTreeMap::new(),
            sequences: Vec::new(),
            edits: Edits::default(),
            not_utf8,
        };
        model.infer_output_types();
        Ok(model)
    }
}
