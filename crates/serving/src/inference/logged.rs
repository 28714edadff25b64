//! The requests and responses that the request log records.
//!
//! Not here: which calls are recorded and where (`request_log`).

use bytes::Bytes;

use super::{
    ClassificationResponse, ExamplesRequest, InferenceService, MultiInferenceRequest,
    MultiInferenceResponse, PredictRequest, PredictResponse, RegressionResponse,
};
use base::id::ServableId;
use mapper::signature::RequestTensor;

/// Records some of the calls that succeed. Called on the request path, so it must not block.
pub trait RequestLogger: Send + Sync {
    /// Whether to record the call to this model that begins now.
    fn samples(&self, model: &str) -> bool;

    /// Records a call that was sampled and has succeeded.
    fn log(&self, call: LoggedCall);
}

/// A request and its response. Tensors are shared with the call itself, not copied.
#[derive(Debug)]
pub enum LoggedCall {
    /// `Predict`.
    Predict(PredictRequest, PredictResponse),
    /// `Classify`.
    Classify(ExamplesRequest, ClassificationResponse),
    /// `Regress`.
    Regress(ExamplesRequest, RegressionResponse),
    /// `MultiInference`.
    MultiInference(MultiInferenceRequest, MultiInferenceResponse),
}

impl From<(PredictRequest, PredictResponse)> for LoggedCall {
    fn from((request, response): (PredictRequest, PredictResponse)) -> Self {
        Self::Predict(request, response)
    }
}

impl From<(ExamplesRequest, ClassificationResponse)> for LoggedCall {
    fn from((request, response): (ExamplesRequest, ClassificationResponse)) -> Self {
        Self::Classify(request, response)
    }
}

impl From<(ExamplesRequest, RegressionResponse)> for LoggedCall {
    fn from((request, response): (ExamplesRequest, RegressionResponse)) -> Self {
        Self::Regress(request, response)
    }
}

impl From<(MultiInferenceRequest, MultiInferenceResponse)> for LoggedCall {
    fn from((request, response): (MultiInferenceRequest, MultiInferenceResponse)) -> Self {
        Self::MultiInference(request, response)
    }
}

impl LoggedCall {
    /// The version that answered.
    pub fn servable(&self) -> &ServableId {
        match self {
            Self::Predict(_, response) => &response.servable,
            Self::Classify(_, response) => &response.servable,
            Self::Regress(_, response) => &response.servable,
            Self::MultiInference(_, response) => &response.servable,
        }
    }

    /// The signature that answered; empty for a MultiInference, which has several.
    pub fn signature_name(&self) -> &str {
        match self {
            Self::Predict(_, response) => &response.signature_name,
            Self::Classify(_, response) => &response.signature_name,
            Self::Regress(_, response) => &response.signature_name,
            Self::MultiInference(..) => "",
        }
    }

    /// The approximate memory that the call keeps alive.
    pub fn memory_bytes(&self) -> usize {
        /// For the small parts.
        const BASE: usize = 1024;
        let large_parts = match self {
            Self::Predict(request, response) => {
                let inputs = request.inputs.values().map(|input| match input {
                    RequestTensor::Valid(tensor) => tensor.memory_bytes(),
                    RequestTensor::Unserved(..) | RequestTensor::Malformed => 0,
                });
                let outputs = response.outputs.iter();
                inputs.sum::<usize>()
                    + outputs
                        .map(|(_, tensor)| tensor.memory_bytes())
                        .sum::<usize>()
            }
            Self::Classify(request, response) => {
                examples_bytes(&request.examples) + response.result.memory_bytes()
            }
            Self::Regress(request, response) => {
                examples_bytes(&request.examples) + response.values.len() * size_of::<f32>()
            }
            Self::MultiInference(request, response) => {
                let results = response.results.iter().map(|it| it.outcome.memory_bytes());
                examples_bytes(&request.examples) + results.sum::<usize>()
            }
        };
        BASE + large_parts
    }
}

fn examples_bytes(examples: &super::Examples) -> usize {
    let context = examples.context.as_ref().map_or(0, Bytes::len);
    let each = examples.examples.iter();
    each.map(|it| it.len() + size_of::<Bytes>()).sum::<usize>() + context
}

impl InferenceService {
    /// A copy of the request, if the call is to be recorded.
    pub(super) fn sampled<R: Clone>(&self, servable: &ServableId, request: &R) -> Option<R> {
        let logger = self.logger.as_ref()?;
        logger.samples(&servable.name).then(|| request.clone())
    }

    /// Passes a call that was sampled to the logger.
    pub(super) fn log<R, A: Clone>(&self, sampled: Option<R>, response: &A)
    where
        (R, A): Into<LoggedCall>,
    {
        if let (Some(logger), Some(request)) = (&self.logger, sampled) {
            logger.log((request, response.clone()).into());
        }
    }
}
