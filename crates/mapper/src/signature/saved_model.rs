//! Reads the signatures of a `saved_model.pb`, and the nodes of its graph that parse examples.
//!
//! The file can hold hundreds of megabytes of constants, so parts that are not needed are skipped, not
//! decoded.
//!
//! Not here: variables, which are weights in the ONNX file.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;

use super::saved_parse::{self, SavedParseNode};
use base::error::{Code, Result, ServingError};
use proto::tensorflow::{SignatureDef, meta_graph_def::MetaInfoDef};

/// Signatures that TensorFlow adds for itself and that no client calls.
const INTERNAL_PREFIX: &str = "__saved_model_";

/// The contents of a `saved_model.pb`.
pub struct SavedModel {
    /// The tags of the meta graph, in the file's order.
    pub tags: Vec<String>,
    /// The signatures that clients can call, by name.
    pub signatures: BTreeMap<String, SignatureDef>,
    /// Signatures that clients see only in the metadata, such as `__saved_model_init_op`.
    pub metadata_only: BTreeMap<String, SignatureDef>,
    /// The meta graph, a `tensorflow.MetaGraphDef`.
    pub meta_graph: Bytes,
    /// The parse nodes of the graph and of its functions.
    pub parse_nodes: Vec<SavedParseNode>,
}

/// `tensorflow.SavedModel`, as far as needed. Fields kept as bytes are decoded where they are used.
#[derive(Clone, PartialEq, Message)]
struct SavedModelHead {
    #[prost(bytes = "bytes", repeated, tag = "2")]
    meta_graphs: Vec<Bytes>,
}

/// `tensorflow.MetaGraphDef`, as far as needed.
#[derive(Clone, PartialEq, Message)]
struct MetaGraphHead {
    #[prost(message, optional, tag = "1")]
    meta_info_def: Option<MetaInfoDef>,
    #[prost(bytes = "bytes", tag = "2")]
    graph_def: Bytes,
    #[prost(btree_map = "string, message", tag = "5")]
    signature_def: BTreeMap<String, SignatureDef>,
}

impl SavedModel {
    /// Reads the meta graph that has exactly these tags. `origin` names the file in errors.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` if no meta graph has the tags, with TensorFlow's text and the existing tag sets;
    /// `OUT_OF_RANGE` if the file is damaged.
    pub fn parse(origin: &str, bytes: Bytes, tags: &[String]) -> Result<Self> {
        let damaged = |error| damaged(origin, &error);
        let saved_model = SavedModelHead::decode(bytes).map_err(damaged)?;
        let wanted: BTreeSet<&str> = tags.iter().map(String::as_str).collect();
        let mut others = Vec::new();
        for bytes in saved_model.meta_graphs {
            let meta_graph = MetaGraphHead::decode(bytes.clone()).map_err(damaged)?;
            let info = meta_graph.meta_info_def.unwrap_or_default();
            let found: BTreeSet<&str> = info.tags.iter().map(String::as_str).collect();
            if found != wanted {
                others.push(format!("'{}'", info.tags.join(",")));
                continue;
            }
            let (metadata_only, signatures) = meta_graph
                .signature_def
                .into_iter()
                .partition(|(name, _)| name.starts_with(INTERNAL_PREFIX));
            return Ok(Self {
                tags: info.tags,
                signatures,
                metadata_only,
                meta_graph: bytes,
                parse_nodes: saved_parse::read(meta_graph.graph_def).map_err(damaged)?,
            });
        }
        Err(ServingError::not_found(format!(
            "Could not find meta graph def matching supplied tags: {{ {} }}. To inspect available \
             tag-sets in the SavedModel, please use the SavedModel CLI: `saved_model_cli` ({origin} has \
             {}: --saved_model_tags)",
            tags.join(" "),
            match others.is_empty() {
                true => "none".to_owned(),
                false => others.join(" and "),
            }
        )))
    }

    /// The tags of every meta graph, each in the file's order.
    ///
    /// # Errors
    ///
    /// `OUT_OF_RANGE` if the file is damaged.
    pub fn tag_sets(origin: &str, bytes: Bytes) -> Result<Vec<Vec<String>>> {
        let damaged = |error| damaged(origin, &error);
        let saved_model = SavedModelHead::decode(bytes).map_err(damaged)?;
        let meta_graphs = saved_model.meta_graphs.into_iter();
        meta_graphs
            .map(|meta_graph| {
                let meta_graph = MetaGraphHead::decode(meta_graph).map_err(damaged)?;
                Ok(meta_graph.meta_info_def.unwrap_or_default().tags)
            })
            .collect()
    }
}

/// The error for a file that is not a SavedModel. Like TensorFlow, it reports that the file ended too early
/// (`ReadBinaryProto`, `env.cc`).
fn damaged(origin: &str, error: &prost::DecodeError) -> ServingError {
    ServingError::new(
        Code::OutOfRange,
        format!("Read less bytes than requested: {origin} is not a SavedModel: {error}"),
    )
}
