//! One signature, mapped onto the tensors of its graph.
//!
//! Not here: requests for it (`request`, `call`), the definition that clients see (`definition_text`).

use std::sync::Arc;

use bytes::Bytes;

use super::SignatureDef;
use super::alias_change::{AliasChange, EarlierAliases};
use super::example_input::{ExampleInput, FeatureTensor};
use super::matching::tensor_name;
use base::tensor::{DataType, Tensor};

/// One named way to call a model. Counterpart of TensorFlow's `SignatureDef`.
#[derive(Clone, Debug)]
pub struct Signature {
    /// Its key in the model.
    pub name: String,
    /// For example [`PREDICT_METHOD_NAME`](super::PREDICT_METHOD_NAME).
    pub method_name: String,
    /// Sorted by alias.
    pub inputs: Vec<Input>,
    /// Sorted by alias.
    pub outputs: Vec<Output>,
    /// Inputs that are serialized examples, parsed before the graph runs.
    pub examples: Vec<ExampleInput>,
    /// The source of each graph input, in the graph's order.
    pub feeds: Vec<Feed>,
    /// The shapes that the file declares for the graph's inputs, in this order; `None` for an unknown rank.
    pub declared_shapes: Vec<Option<Vec<i64>>>,
    /// A tensor that several inputs feed. If there is one, every request fails.
    pub fed_twice: Option<String>,
    /// Whether tensor names are those of the model's `saved_model.pb`. Only then does the same name in two
    /// signatures mean the same tensor.
    pub is_original: bool,
    /// The metadata that clients see.
    pub definition: SignatureDef,
    /// The changes that a signature map made to aliases.
    pub changes: Vec<AliasChange>,
    /// The additional aliases of inputs, each with the newest one, which `inputs` has.
    pub kept: Vec<(String, String)>,
    /// The aliases below each map, the innermost first.
    pub earlier: Vec<EarlierAliases>,
}

/// An input that clients send.
#[derive(Clone, Debug)]
pub struct Input {
    /// The client's name for it.
    pub alias: String,
    /// `TensorInfo.name`: the feed name in messages.
    pub tensor_name: String,
    /// The dtype that the client has to send.
    pub dtype: DataType,
    /// The value used if the client does not send the input (`SignatureDef.defaults`).
    pub default: Option<Tensor>,
    /// The model or its map has the default, so REST clients can omit the input, too. In TensorFlow
    /// Serving, REST requests have to send all inputs.
    pub is_optional: bool,
    /// The graph has the default, and it can run without this input.
    pub graph_has_default: bool,
    /// Dimension 0 counts the rows of the request, as far as the map shows.
    pub has_rows: bool,
}

/// The source of a graph input.
#[derive(Clone, Debug)]
pub enum Feed {
    /// The signature's input with this index.
    Input(usize),
    /// A feature of the example input with this index into [`Signature::examples`].
    Feature(usize, FeatureTensor),
}

/// An output that clients get.
#[derive(Clone, Debug)]
pub struct Output {
    /// The client's name for it.
    pub alias: String,
    /// Its source.
    pub source: OutputSource,
    /// For Classify, if no output has the classes: the classes that the columns of this output, the scores,
    /// stand for.
    pub classes: Option<Arc<Classes>>,
    /// Dimension 0 counts the rows of the request, as far as the map shows.
    pub has_rows: bool,
}

/// The classes that the scores belong to.
#[derive(Clone, Debug, PartialEq)]
pub struct Classes {
    /// One for each score of an example.
    pub labels: Vec<Bytes>,
    /// The number of highest scores to return, in descending order; 0: all, in the tensor's order.
    pub top_k: usize,
}

/// The source of an output.
#[derive(Clone, Debug)]
pub enum OutputSource {
    /// The graph's output with this index.
    Graph(usize),
    /// The signature's input with this index, passed through.
    Input(usize),
    /// The tensor of the signature's input with this index. TensorFlow does not fetch it because it is fed.
    Fed(usize),
}

impl Signature {
    /// The aliases of the outputs that a request can ask for.
    pub fn answerable_outputs(&self) -> Vec<String> {
        let outputs = self.outputs.iter();
        let answerable = outputs.filter(|it| !matches!(it.source, OutputSource::Fed(_)));
        answerable.map(|it| it.alias.clone()).collect()
    }

    /// The name of an output's tensor (`TensorInfo.name`); empty if it does not have one.
    pub fn output_tensor_name(&self, alias: &str) -> &str {
        self.definition.outputs.get(alias).map_or("", tensor_name)
    }
}
