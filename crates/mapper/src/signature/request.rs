//! Finds the inputs and outputs of a request in its signature, and names the outputs of a run.
//!
//! Not here: feeding the graph (`call`), earlier aliases (`earlier_aliases`).

use std::collections::BTreeSet;

use super::call::{BoundCall, NamedCall, Sent};
use super::mapping::{Input, OutputSource, Signature};
use base::error::{Result, ServingError};
use base::request::{RequestInputs, RequestTensor};
use base::tensor::Tensor;

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
            fetched[at.expect("bind wants every tensor that it uses")].clone()
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
