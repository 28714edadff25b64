//! Reading and editing ONNX files.
//!
//! Edits are made once, at load, on the protobuf, so that the backend optimises them away. Clones of a model
//! share the bytes of its weights: only nodes are copied.
//!
//! Not here: the meaning of aliases (`signature`), which files are allowed (`mapper::version_dir`), running
//! graphs (`runtime`).

mod batch_norm;
mod constant;
mod decode_limits;
mod dynamic_shapes;
mod edit;
mod expansion;
mod external;
mod guard;
mod half_to_float;
mod integer_division;
mod interface;
mod io_transforms;
mod kernel_attributes;
mod kernel_limits;
mod known;
mod layout;
mod merge;
mod optional;
mod output_types;
mod parse_example;
mod prune;
mod rank_paths;
mod reshape;
mod rewrite;
mod sequence_lengths;
mod sequences;
mod shape_dependence;
mod specialise;
mod strings;
mod text;
mod traverse;
mod undo;
mod visit;
mod weights;
mod window_proof;
mod zip_map;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use prost::Message;

use base::error::{Result, ServingError};
use base::tensor::Tensor;
use proto::onnx::{GraphProto, ModelProto, NodeProto};

pub use self::edit::Edit;
pub use self::io_transforms::Transform;
pub use self::parse_example::{DenseKey, ParseExample, RaggedKey, SparseKey};
pub use self::sequences::Sequence;
pub use self::zip_map::ClassLabels;

/// An ONNX model in memory.
///
/// Invariant: `proto.graph` is present.
#[derive(Clone)]
pub struct OnnxModel {
    origin: String,
    proto: ModelProto,
    /// The shapes of inputs that `proto` no longer declares.
    declared_shapes: HashMap<String, Vec<i64>>,
    /// The values that the file had for inputs.
    defaults: BTreeMap<String, Tensor>,
    /// The sequences that the file's graph returns.
    sequences: Vec<Sequence>,
    edits: edit::Edits,
    /// The file's bytes for texts that `proto` has in another form.
    not_utf8: text::NotUtf8,
}

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
        let (mut proto, not_utf8) = decoded.map_err(|error| {
            ServingError::invalid_argument(format!("{origin} is not an ONNX model: {error}"))
        })?;
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
            edits: edit::Edits::default(),
            not_utf8,
        };
        model.infer_output_types();
        Ok(model)
    }

    /// Where the model came from.
    pub fn origin(&self) -> &str {
        &self.origin
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

    fn graph(&self) -> &GraphProto {
        self.proto.graph.as_ref().expect("checked by parse")
    }

    fn graph_mut(&mut self) -> &mut GraphProto {
        self.proto.graph.as_mut().expect("checked by parse")
    }

    /// A name that does not occur in the model, made from `wish`.
    fn unused_name(&self, wish: &str) -> String {
        self.names().take(wish)
    }

    /// Whether `name` is an input with a value in the file that clients can replace: the value is a default,
    /// not a constant.
    fn is_default(&self, name: &str) -> bool {
        self.has_defaults() && self.graph().input.iter().any(|it| it.name() == name)
    }

    /// Whether values of inputs are defaults. In older versions of the format every value is declared
    /// as an input.
    fn has_defaults(&self) -> bool {
        const DEFAULTS_SINCE: i64 = 4;
        self.proto.ir_version() >= DEFAULTS_SINCE
    }

    /// The version of ONNX's own operators that the model uses.
    fn opset(&self) -> i64 {
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

/// Whether a domain is that of ONNX's own operators.
fn is_onnx_domain(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

/// Whether a node is this operator of ONNX's own domain.
fn is_op(node: &NodeProto, op_type: &str) -> bool {
    node.op_type() == op_type && is_onnx_domain(node.domain())
}

/// A node of ONNX's own domain with one output.
fn node(op_type: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: Some(op_type.to_owned()),
        name: Some(format!("{output}/{op_type}")),
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}
