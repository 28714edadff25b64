//! `Predict`.

use std::time::Instant;

use super::InferenceService;
use crate::servable::ServableHandle;
use base::error::{Result, ServingError};
use base::id::ServableId;
use base::tensor::Tensor;
use base::vocabulary::Api;
use mapper::signature::{
    CLASSIFY_METHOD_NAME, PREDICT_METHOD_NAME, REGRESS_METHOD_NAME, RequestInputs,
};

/// A request to predict, for a servable that is already resolved.
#[derive(Clone, Debug)]
pub struct PredictRequest {
    /// Empty for `serving_default`.
    pub signature_name: String,
    /// By alias.
    pub inputs: RequestInputs,
    /// Aliases of the requested outputs; empty for all.
    pub output_filter: Vec<String>,
    /// When the client stops waiting.
    pub deadline: Option<Instant>,
}

/// The response to a [`PredictRequest`].
#[derive(Clone, Debug)]
pub struct PredictResponse {
    /// The version that answered.
    pub servable: ServableId,
    /// The signature that was used.
    pub signature_name: String,
    /// Sorted by alias.
    pub outputs: Vec<(String, Tensor)>,
}

impl InferenceService {
    /// Runs one signature of one servable.
    ///
    /// # Errors
    ///
    /// `INTERNAL` for a method name that is refused because of the flag; those of
    /// [`Servable::run`](crate::servable::Servable::run).
    pub async fn predict(
        &self,
        servable: &ServableHandle,
        request: PredictRequest,
    ) -> Result<PredictResponse> {
        let signature = servable.signature(&request.signature_name)?;
        self.check_method_name(&signature.method_name)?;
        let signature_name = signature.name.clone();
        let sampled = self.sampled(&servable.id, &request);
        let outputs = self
            .run(
                Api::Predict,
                servable,
                &signature_name,
                request.inputs,
                &request.output_filter,
                request.deadline,
            )
            .await?;
        let response = PredictResponse {
            servable: servable.id.clone(),
            signature_name,
            outputs,
        };
        self.log(sampled, &response);
        Ok(response)
    }

    /// Predict accepts signatures of every method, unless the flag requires a known one
    /// (`PreProcessPrediction`, `predict_util.cc`).
    fn check_method_name(&self, method_name: &str) -> Result<()> {
        const KNOWN: [&str; 3] = [
            PREDICT_METHOD_NAME,
            CLASSIFY_METHOD_NAME,
            REGRESS_METHOD_NAME,
        ];
        if !self.options.check_method_name || KNOWN.contains(&method_name) {
            return Ok(());
        }
        Err(ServingError::internal(format!(
            "Expected prediction signature method_name to be one of {{{}}}. Was: {method_name}",
            KNOWN.join(", ")
        )))
    }
}
