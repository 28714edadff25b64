//! A request with resolved aliases, before it runs on the graph.
//!
//! Not here: the inputs and outputs that a request has to name (`request`).

use bytes::Bytes;

use super::mapping::{Feed, OutputSource, Signature};
use super::session::{FedTensor, check_run, fed_twice};
use base::error::{Result, ServingError};
use base::tensor::{DataType, Tensor};

/// A request whose inputs and outputs are those of its signature. Values have not been checked yet.
#[derive(Debug)]
pub struct NamedCall<'a> {
    pub(super) signature: &'a Signature,
    /// One for each of [`Signature::inputs`].
    pub(super) inputs: Vec<Sent>,
    /// Indices into [`Signature::outputs`].
    pub(super) outputs: Vec<usize>,
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
    pub(super) outputs: Vec<(usize, Option<Tensor>)>,
}

/// An input of a request, decoded.
#[derive(Debug)]
pub(super) enum Sent {
    Tensor(Tensor),
    /// Dtype and shape of a tensor whose dtype is not served.
    Unserved(DataType, Vec<usize>),
}

impl Sent {
    fn dtype(&self) -> DataType {
        match self {
            Self::Tensor(tensor) => tensor.dtype(),
            Self::Unserved(dtype, _) => *dtype,
        }
    }

    fn shape(&self) -> &[usize] {
        match self {
            Self::Tensor(tensor) => tensor.shape(),
            Self::Unserved(_, shape) => shape,
        }
    }
}

impl NamedCall<'_> {
    /// The shapes of the inputs, including defaults. Inputs for which the graph has a default are left out
    /// because the graph can run without them.
    pub fn input_shapes(&self) -> impl Iterator<Item = &[usize]> {
        let inputs = self.inputs.iter().zip(&self.signature.inputs);
        let fed = inputs.filter(|(_, input)| !input.graph_has_default);
        fed.map(|(sent, _)| sent.shape())
    }

    /// Arranges the request for the graph. As in TensorFlow, the graph checks the shapes.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` from [`check_run`], then from parsing examples.
    pub fn bind(self) -> Result<BoundCall> {
        self.check_run()?;
        let Self {
            signature,
            inputs,
            outputs,
        } = self;
        let inputs = inputs.into_iter().map(|it| match it {
            Sent::Tensor(tensor) => Ok(tensor),
            Sent::Unserved(dtype, _) => Err(ServingError::unimplemented(format!(
                "tensors of {dtype} are not served"
            ))),
        });
        let inputs = inputs.collect::<Result<Vec<_>>>()?;

        let mut fetches = Vec::new();
        let outputs = outputs
            .into_iter()
            .map(|index| match signature.outputs[index].source {
                OutputSource::Graph(fetch) => {
                    if !fetches.contains(&fetch) {
                        fetches.push(fetch);
                    }
                    (index, None)
                }
                OutputSource::Input(input) | OutputSource::Fed(input) => {
                    (index, Some(inputs[input].clone()))
                }
            })
            .collect();
        let (feeds, expanded_bytes) = if fetches.is_empty() {
            (Vec::new(), 0)
        } else {
            signature.feed(&inputs)?
        };
        Ok(BoundCall {
            feeds,
            expanded_bytes,
            fetches,
            outputs,
        })
    }

    fn check_run(&self) -> Result<()> {
        let signature = self.signature;
        if let Some(name) = &signature.fed_twice {
            return Err(fed_twice(name));
        }
        let mut fed = self.inputs.iter().zip(&signature.inputs);
        let is_fetched_fed = |&index: &usize| {
            let source = &signature.outputs[index].source;
            matches!(source, OutputSource::Fed(_))
        };
        if fed.all(|(sent, input)| sent.dtype() == input.dtype)
            && !self.outputs.iter().any(is_fetched_fed)
        {
            return Ok(());
        }
        let fed = self.inputs.iter().zip(&signature.inputs);
        let fed = fed.map(|(sent, input)| FedTensor {
            name: &input.tensor_name,
            declared: input.dtype,
            sent: sent.dtype(),
        });
        let fetched = self.outputs.iter().filter(|index| is_fetched_fed(index));
        let fetched =
            fetched.map(|&index| signature.output_tensor_name(&signature.outputs[index].alias));
        check_run(fed.collect(), fetched)
    }
}

impl Signature {
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
}
