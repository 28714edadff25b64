//! `Regress`: the rules of `servables/tensorflow/regressor.cc`.

use super::examples::INPUTS;
use super::{ExamplesRequest, InferenceOptions, InferenceService};
use crate::servable::ServableHandle;
use base::error::{Result, ServingError};
use base::id::ServableId;
use base::tensor::{Tensor, shape_text};
use base::vocabulary::Api;
use mapper::signature::{REGRESS_METHOD_NAME, SignatureDef, definition_text};

const OUTPUTS: &str = "outputs";

/// The response to a `Regress`.
#[derive(Clone, Debug)]
pub struct RegressionResponse {
    /// The version that answered.
    pub servable: ServableId,
    /// The signature that was used.
    pub signature_name: String,
    /// The value of every example.
    pub values: Vec<f32>,
}

impl InferenceService {
    /// Regresses examples by one signature of one servable.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` if the signature is missing or not one for regression, if the request
    /// has no examples, or if the graph's output is not a valid result; those of
    /// [`Servable::run`](crate::servable::Servable::run).
    pub async fn regress(
        &self,
        servable: &ServableHandle,
        request: ExamplesRequest,
    ) -> Result<RegressionResponse> {
        let (signature_name, definition) = super::definition(servable, &request.signature_name)
            .map_err(|name| super::no_signature(&name))?;
        let outputs = regression_outputs(&definition, &self.options)?;
        let (inputs, _expansion) = request.examples.to_inputs(&self.expansion)?;
        let sampled = self.sampled(&servable.id, &request);
        let fetched = self
            .run(
                Api::Regress,
                servable,
                &signature_name,
                inputs,
                &outputs,
                request.deadline,
            )
            .await?;
        let response = RegressionResponse {
            servable: servable.id.clone(),
            signature_name,
            values: regression_values(&fetched, request.examples.examples.len())?,
        };
        self.log(sampled, &response);
        Ok(response)
    }
}

/// Checks that a signature can regress, and returns the aliases to fetch (`PreProcessRegression`).
pub(super) fn regression_outputs(
    definition: &SignatureDef,
    options: &InferenceOptions,
) -> Result<Vec<String>> {
    if options.check_method_name && definition.method_name != REGRESS_METHOD_NAME {
        return Err(ServingError::invalid_argument(format!(
            "Expected regression signature method_name to be {REGRESS_METHOD_NAME}. Was: {}",
            definition.method_name
        )));
    }
    if definition.inputs.len() != 1 {
        return Err(ServingError::invalid_argument("Expected one input Tensor."));
    }
    if definition.outputs.len() != 1 {
        return Err(ServingError::invalid_argument(
            "Expected one output Tensor.",
        ));
    }
    for (what, alias, tensors) in [
        ("inputs", INPUTS, &definition.inputs),
        ("outputs", OUTPUTS, &definition.outputs),
    ] {
        if !tensors.contains_key(alias) {
            return Err(ServingError::invalid_argument(format!(
                "No regression {what} found in SignatureDef: {}",
                definition_text(definition)
            )));
        }
    }
    Ok(vec![OUTPUTS.to_owned()])
}

/// Checks the graph's outputs and returns the values (`PostProcessRegressionResult`).
pub(super) fn regression_values(
    fetched: &[(String, Tensor)],
    num_examples: usize,
) -> Result<Vec<f32>> {
    let [(_, output)] = fetched else {
        return Err(ServingError::invalid_argument(
            "Expected output_tensors and output_tensor_names to have the same size.",
        ));
    };
    let (&[batch] | &[batch, 1]) = output.shape() else {
        return Err(ServingError::invalid_argument(format!(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {}",
            shape_text(output.shape())
        )));
    };
    if batch != num_examples {
        return Err(ServingError::invalid_argument(format!(
            "Input batch size did not match output batch size: {num_examples} vs. {batch}"
        )));
    }
    match output.as_slice::<f32>() {
        Some(values) => Ok(values.to_vec()),
        None => Err(ServingError::invalid_argument(format!(
            "Expected output Tensor of DT_FLOAT.  Got: {}",
            output.dtype().proto_name()
        ))),
    }
}

#[cfg(test)]
mod tests;
