//! An ONNX model in memory.
//!
//! Not here: reading a file (`parse`), edits (`rewrite` and the modules that it names).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use prost::Message;

use super::edit::Edits;
use super::text::NotUtf8;
use super::{is_onnx_domain, traverse};
use base::tensor::Tensor;
use proto::onnx::{GraphProto, ModelProto};

/// An ONNX model in memory.
///
/// Invariant: `proto.graph` is present.
#[derive(Clone)]
pub struct OnnxModel {
    pub(super) origin: String,
    pub(super) proto: ModelProto,
    /// The shapes of inputs that `proto` no longer declares.
    pub(super) declared_shapes: HashMap<String, Vec<i64>>,
    /// The values that the file had for inputs.
    pub(super) defaults: BTreeMap<String, Tensor>,
    /// The sequences that the file's graph returns.
    pub(super) sequences: Vec<Sequence>,
    pub(super) edits: Edits,
    /// The file's bytes for texts that `proto` has in another form.
    pub(super) not_utf8: NotUtf8,
}

/// A sequence of tensors that the file's graph returns.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// Its name.
    pub name: String,
    /// The outputs that replace it, one for each tensor; `None` if their number is not known before a run, or
    /// large.
    pub elements: Option<Vec<String>>,
    pub(super) elem_type: i32,
}

impl OnnxModel {
    /// Where the model came from.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The bytes of the file, with its weights.
    pub fn encode(&self) -> Vec<u8> {
        self.proto.encode_to_vec()
    }

    /// The program that made the file; empty if the file does not say.
    pub fn producer(&self) -> &str {
        self.proto.producer_name()
    }

    /// The value of a key in the model's metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        let entry = self
            .proto
            .metadata_props
            .iter()
            .find(|entry| entry.key() == key)?;
        entry.value.as_deref()
    }

    /// Whether both are the same graph over the same weights.
    pub fn is_same_graph(&self, other: &Self) -> bool {
        self.proto == other.proto
    }

    pub(super) fn graph(&self) -> &GraphProto {
        self.proto.graph.as_ref().expect("checked by parse")
    }

    pub(super) fn graph_mut(&mut self) -> &mut GraphProto {
        self.proto.graph.as_mut().expect("checked by parse")
    }

    /// A name that does not occur in the model, made from `wish`.
    pub(super) fn unused_name(&self, wish: &str) -> String {
        self.names().take(wish)
    }

    /// Whether `name` is an input with a value in the file that clients can replace: the value is a default,
    /// not a constant.
    pub(super) fn is_default(&self, name: &str) -> bool {
        self.has_defaults() && self.graph().input.iter().any(|it| it.name() == name)
    }

    /// Whether values of inputs are defaults. In older versions of the format every value is declared
    /// as an input.
    pub(super) fn has_defaults(&self) -> bool {
        const DEFAULTS_SINCE: i64 = 4;
        self.proto.ir_version() >= DEFAULTS_SINCE
    }

    /// The version of ONNX's own operators that the model uses.
    pub(super) fn opset(&self) -> i64 {
        self.proto
            .opset_import
            .iter()
            .filter(|import| is_onnx_domain(import.domain()))
            .map(|import| import.version())
            .max()
            .unwrap_or(1)
    }

    /// Names of the operators of all domains that the graph uses, as written in errors: `Conv`,
    /// `ai.onnx.ml.ZipMap`.
    pub fn operators(&self) -> BTreeSet<String> {
        let mut operators = BTreeSet::new();
        traverse::for_each_node(&self.graph().node, &mut |node| {
            operators.insert(if is_onnx_domain(node.domain()) {
                node.op_type().to_owned()
            } else {
                format!("{}.{}", node.domain(), node.op_type())
            });
        });
        operators
    }
}
