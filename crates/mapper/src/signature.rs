//! Maps a model's signatures onto the tensors of its ONNX graph.
//!
//! Clients name inputs and outputs by *alias*, the graph by *graph name*. This module owns that mapping: it
//! checks a request against a signature, feeds the graph's inputs in their order, and names the outputs
//! that the graph returns. It is pure: no IO, no async, no locks.
//!
//! Not here: reading files (`mapper::version_dir`), running graphs (`runtime`), JSON and protobuf
//! forms of requests (`wire`).

mod call;
mod contradiction;
mod declaration;
mod default_value;
mod definition_text;
mod derive;
mod description;
mod diagnosis;
mod earlier_aliases;
mod example_input;
mod matching;
mod overlay;
mod renaming;
mod saved_model;
mod saved_parse;
mod session;
mod tensor_value;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use self::call::Sent;
use base::error::{Result, ServingError};
use base::tensor::{DataType, Tensor};

pub use proto::tensorflow::SignatureDef;

pub use self::call::NamedCall;
pub use self::contradiction::Contradiction;
pub use self::declaration::{
    Declaration, Interface, Layer, Port, declare, feature_default, feature_shape, shape_proto,
    wanted,
};
pub use self::default_value::{arranged_shape, contradicts};
pub use self::definition_text::definition_text;
pub use self::derive::derive;
pub use self::description::Description;
pub use self::diagnosis::{does_not_fit, shape_text};
pub use self::earlier_aliases::{Aliases, EarlierAliases};
pub use self::example_input::{ExampleInput, FeatureTensor};
pub use self::matching::{Matching, Rule, Wanted, is_convertible, known_shape, tensor_name};
pub use self::overlay::layered;
pub use self::renaming::{AliasChange, Settled, Side, Unsettled, settle};
pub use self::saved_model::SavedModel;
pub use self::saved_parse::{SavedDense, SavedParseNode};
pub use self::session::{FedTensor, check_run};
pub use self::tensor_value::to_proto;

/// The signature used when a request does not name one.
pub const DEFAULT_SIGNATURE_NAME: &str = "serving_default";

/// The file of a version directory that defines its signatures.
pub const MAP_FILE: &str = "signature_map.pbtxt";
/// `method_name` of predict signatures.
pub const PREDICT_METHOD_NAME: &str = "tensorflow/serving/predict";
/// `method_name` of classify signatures.
pub const CLASSIFY_METHOD_NAME: &str = "tensorflow/serving/classify";
/// `method_name` of regress signatures.
pub const REGRESS_METHOD_NAME: &str = "tensorflow/serving/regress";

/// The inputs of a request, by alias.
pub type RequestInputs = BTreeMap<String, RequestTensor>;

/// An input as the client sent it. TensorFlow Serving makes other checks first, so a decoding error is
/// reported only after these.
#[derive(Clone, Debug)]
pub enum RequestTensor {
    /// A tensor.
    Valid(Tensor),
    /// The dtype and shape of a tensor whose dtype TensorFlow has and this server does not serve.
    Unserved(DataType, Vec<usize>),
    /// Bytes that do not decode to a tensor.
    Malformed,
}

/// One named way to call a model. Counterpart of TensorFlow's `SignatureDef`.
#[derive(Clone, Debug)]
pub struct Signature {
    /// Its key in the model.
    pub name: String,
    /// For example [`PREDICT_METHOD_NAME`].
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

/// A request that matches its signature: the tensors to feed, the outputs to fetch, and the mapping from
/// these to the response.
#[derive(Debug)]
pub struct BoundCall {
    /// One tensor for each graph input, in the graph's order; empty if nothing is fetched.
    pub feeds: Vec<Tensor>,
    /// Indices of the graph outputs to fetch, each once.
    pub fetches: Vec<usize>,
    /// How many more bytes the parsed examples take than the serialized ones.
    pub expanded_bytes: usize,
    /// For each requested output: its index into [`Signature::outputs`], and its tensor if that is known
    /// without a run.
    outputs: Vec<(usize, Option<Tensor>)>,
}

impl Signature {
    /// Checks a request against this signature and arranges it for the graph:
    /// [`name_call`](Self::name_call) and [`NamedCall::bind`].
    ///
    /// # Errors
    ///
    /// Those of both.
    pub fn bind(&self, inputs: RequestInputs, output_filter: &[String]) -> Result<BoundCall> {
        self.name_call(inputs, output_filter)?.bind()
    }

    /// Finds a request's inputs and outputs in this signature.
    ///
    /// An empty `output_filter` means all outputs.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT`, with the texts and in the order of `predict_util.cc`: number of inputs, missing
    /// inputs, undecodable tensors, unknown inputs, the output filter.
    pub fn name_call(
        &self,
        inputs: RequestInputs,
        output_filter: &[String],
    ) -> Result<NamedCall<'_>> {
        Ok(NamedCall {
            signature: self,
            inputs: self.complete_inputs(self.with_new_aliases(inputs)?)?,
            outputs: self.select_outputs(output_filter)?,
        })
    }

    /// The aliases of the outputs that a request can ask for.
    pub fn answerable_outputs(&self) -> Vec<String> {
        let outputs = self.outputs.iter();
        let answerable = outputs.filter(|it| !matches!(it.source, OutputSource::Fed(_)));
        answerable.map(|it| it.alias.clone()).collect()
    }

    /// Parses the examples. Returns one tensor for each of the graph's inputs, and how many bytes larger
    /// the parsed examples are than the serialized ones.
    fn feed(&self, inputs: &[Tensor]) -> Result<(Vec<Tensor>, usize)> {
        let parsed = self
            .examples
            .iter()
            .map(|example| example.parse(&inputs[example.input]))
            .collect::<Result<Vec<_>>>()?;
        let expanded = self.examples.iter().zip(&parsed).map(|(example, parsed)| {
            let sent = inputs[example.input].strings().unwrap_or_default();
            let sent: usize = sent.iter().map(Bytes::len).sum();
            parsed.bytes().saturating_sub(sent)
        });
        let expanded = expanded.sum();
        let feeds = self.feeds.iter();
        let feeds = feeds.map(|feed| match feed {
            Feed::Input(index) => inputs[*index].clone(),
            Feed::Feature(example, feature) => feature.of(&parsed[*example]).clone(),
        });
        Ok((feeds.collect(), expanded))
    }

    /// The name of an output's tensor (`TensorInfo.name`); empty if it does not have one.
    pub fn output_tensor_name(&self, alias: &str) -> &str {
        self.definition.outputs.get(alias).map_or("", tensor_name)
    }

    /// Assigns aliases to the outputs that the graph returned for `call.fetches`. Sorted by alias.
    ///
    /// # Errors
    ///
    /// `UNKNOWN` if the graph returned a different number of outputs.
    pub fn unbind(&self, call: BoundCall, fetched: Vec<Tensor>) -> Result<Vec<(String, Tensor)>> {
        if fetched.len() != call.fetches.len() {
            return Err(ServingError::new(
                base::error::Code::Unknown,
                "Predict internal error",
            ));
        }
        let fetched_by_index = |wanted: usize| {
            let at = call.fetches.iter().position(|&fetch| fetch == wanted);
            fetched[at.expect("bind wants what it uses")].clone()
        };
        let mut by_alias: Vec<(String, Tensor)> = call
            .outputs
            .into_iter()
            .map(|(index, known)| {
                let output = &self.outputs[index];
                let tensor = known.unwrap_or_else(|| match output.source {
                    OutputSource::Graph(fetch) => fetched_by_index(fetch),
                    OutputSource::Input(_) | OutputSource::Fed(_) => {
                        unreachable!("bind resolved it")
                    }
                });
                (output.alias.clone(), tensor)
            })
            .collect();
        by_alias.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(by_alias)
    }

    /// Whether a request sends an input for which the graph has a default.
    pub fn replaces_defaults(&self, inputs: &RequestInputs) -> bool {
        let mut optional = self.inputs.iter().filter(|it| it.graph_has_default);
        optional.any(|it| self.sends(inputs, &it.alias))
    }

    /// One tensor for each of `self.inputs`, with defaults filled in.
    fn complete_inputs(&self, mut inputs: RequestInputs) -> Result<Vec<Sent>> {
        self.check_input_count(&inputs)?;
        let mut used = Vec::with_capacity(self.inputs.len());
        let mut complete = Vec::with_capacity(self.inputs.len());
        for input in &self.inputs {
            let sent = inputs.remove(&input.alias);
            if sent.is_some() {
                used.push(&input.alias);
            }
            let tensor = match (sent, &input.default) {
                (Some(RequestTensor::Valid(tensor)), _) => Sent::Tensor(tensor),
                (Some(RequestTensor::Unserved(dtype, shape)), _) => Sent::Unserved(dtype, shape),
                (Some(RequestTensor::Malformed), _) => {
                    return Err(ServingError::invalid_argument(format!(
                        "tensor parsing error: {}",
                        input.alias
                    )));
                }
                (None, Some(default)) => Sent::Tensor(default.clone()),
                (None, None) => {
                    let sent = used.into_iter().chain(inputs.keys()).collect();
                    return Err(self.missing_input(input, &sent));
                }
            };
            complete.push(tensor);
        }
        if !inputs.is_empty() {
            let used: BTreeSet<&String> = used.into_iter().collect();
            let sent: BTreeSet<&String> = used.iter().copied().chain(inputs.keys()).collect();
            return Err(ServingError::invalid_argument(format!(
                "Inputs contains invalid name. Used request inputs: {}, request input: {}",
                join(used),
                join(sent)
            )));
        }
        Ok(complete)
    }

    /// `VerifyRequestInputsSize`: too many inputs, or too few without defaults to fill the gap.
    fn check_input_count(&self, inputs: &RequestInputs) -> Result<()> {
        let has_defaults = self.inputs.iter().any(|input| input.default.is_some());
        let (sent, wanted) = (inputs.len(), self.inputs.len());
        if sent == wanted || (sent < wanted && has_defaults) {
            return Ok(());
        }
        let is_wanted = |alias: &str| self.inputs.iter().any(|input| input.alias == alias);
        let extra = inputs.keys().filter(|alias| !is_wanted(alias));
        let aliases = || self.inputs.iter().map(|input| &input.alias);
        let missing = aliases().filter(|alias| !inputs.contains_key(*alias));
        Err(ServingError::invalid_argument(format!(
            "input size does not match signature: {sent}!={wanted} len({{{}}}) != len({{{}}}). \
             Sent extra: {{{}}}. Missing but required: {{{}}}.",
            join(inputs.keys()),
            join(aliases()),
            join(extra),
            join(missing)
        )))
    }

    fn missing_input(&self, input: &Input, sent: &BTreeSet<&String>) -> ServingError {
        let defaults = self
            .inputs
            .iter()
            .filter(|input| input.default.is_some())
            .map(|input| &input.alias);
        ServingError::invalid_argument(format!(
            "Signature input alias: {}(feed name: {}) not found in request and no default value \
             provided. Inputs expected to be in the request {{{}}}, or default input alias set: {}",
            input.alias,
            input.tensor_name,
            join(sent.iter().copied()),
            join(defaults)
        ))
    }

    /// Indices of the outputs that a filter names; an empty filter means all.
    fn select_outputs(&self, filter: &[String]) -> Result<Vec<usize>> {
        if filter.is_empty() {
            return Ok((0..self.outputs.len()).collect());
        }
        let mut selected = Vec::with_capacity(filter.len());
        for alias in filter {
            let Some(index) = self
                .outputs
                .iter()
                .position(|output| output.alias == *alias)
            else {
                return Err(ServingError::invalid_argument(format!(
                    "output tensor alias not found in signature: {alias} Outputs expected to be \
                     in the set {{{}}}.",
                    join(self.outputs.iter().map(|output| &output.alias))
                )));
            };
            if selected.contains(&index) {
                return Err(ServingError::invalid_argument(format!(
                    "duplicate output tensor alias: {alias}"
                )));
            }
            selected.push(index);
        }
        Ok(selected)
    }
}

/// Joins with commas and without blanks, as messages print sets.
fn join<'a>(aliases: impl IntoIterator<Item = &'a String>) -> String {
    aliases
        .into_iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(",")
}
