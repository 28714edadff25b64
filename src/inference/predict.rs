//! `Predict`.

use std::time::Instant;

use super::InferenceService;
use crate::error::Result;
use crate::id::ServableId;
use crate::servable::ServableHandle;
use crate::signature::RequestInputs;
use crate::tensor::Tensor;

/// What to predict, for a servable that is resolved already.
#[derive(Debug)]
pub struct PredictRequest {
    /// Empty for `serving_default`.
    pub signature_name: String,
    /// By alias.
    pub inputs: RequestInputs,
    /// Aliases of the wanted outputs; empty for all.
    pub output_filter: Vec<String>,
    /// When the client loses interest.
    pub deadline: Option<Instant>,
}

/// The answer to a [`PredictRequest`].
#[derive(Debug)]
pub struct PredictResponse {
    /// Which version answered.
    pub servable: ServableId,
    /// The signature in effect.
    pub signature_name: String,
    /// Sorted by alias.
    pub outputs: Vec<(String, Tensor)>,
}

impl InferenceService {
    /// Runs one signature of one servable.
    ///
    /// # Errors
    ///
    /// As [`Servable::run`](crate::servable::Servable::run).
    pub async fn predict(
        &self,
        servable: &ServableHandle,
        request: PredictRequest,
    ) -> Result<PredictResponse> {
        let signature_name = servable.signature(&request.signature_name)?.name.clone();
        let outputs = servable
            .run(
                &signature_name,
                request.inputs,
                &request.output_filter,
                request.deadline,
            )
            .await?;
        Ok(PredictResponse {
            servable: servable.id.clone(),
            signature_name,
            outputs,
        })
    }
}
