//! The requests and responses that the request log records.
//!
//! Not here: which calls are recorded and where (`request_log`).

use bytes::Bytes;

use super::{
    ClassificationResponse, ExamplesRequest, InferenceService, MultiInferenceRequest,
    MultiInferenceResponse, PredictRequest, PredictResponse, RegressionResponse,
};
use base::id::ServableId;
use base::tensor::Tensor;
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
                    RequestTensor::Valid(tensor) => tensor_bytes(tensor),
                    RequestTensor::Unserved(..) | RequestTensor::Malformed => 0,
                });
                let outputs = response.outputs.iter();
                inputs.sum::<usize>()
                    + outputs
                        .map(|(_, tensor)| tensor_bytes(tensor))
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

/// The memory of a tensor, including the overhead of each string.
pub(super) fn tensor_bytes(tensor: &Tensor) -> usize {
    match tensor.strings() {
        Some(strings) => strings_bytes(strings),
        None => tensor.bytes().map_or(0, Bytes::len),
    }
}

fn strings_bytes(strings: &[Bytes]) -> usize {
    strings.iter().map(|it| it.len() + size_of::<Bytes>()).sum()
}

fn examples_bytes(examples: &super::Examples) -> usize {
    strings_bytes(&examples.examples) + examples.context.as_ref().map_or(0, Bytes::len)
}

impl InferenceService {
    /// A copy of the request, if the call is to be recorded.
    pub(super) fn sampled<R: Clone>(&self, servable: &ServableId, request: &R) -> Option<R> {
        let logger = self.logger.as_ref()?;
        logger.samples(&servable.name).then(|| request.clone())
    }

    /// Passes a call that was sampled to the logger.
    pub(super) fn log(&self, call: Option<LoggedCall>) {
        if let (Some(logger), Some(call)) = (&self.logger, call) {
            logger.log(call);
        }
    }
}
