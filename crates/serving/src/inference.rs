//! The rules of the calls. Both transports use this module, so each rule exists once.
//!
//! A call is two steps over one servable handle: [`InferenceService::resolve`], then one of the
//! methods below. REST needs the signature between the two to decode numbers; because both steps
//! use the same handle, a version switch cannot happen between them.
//!
//! Not here: wire formats (`wire`), sockets and status numbers (`api`).

mod classify;
mod examples;
mod logged;
mod metadata;
mod multi_inference;
mod predict;
mod regress;

#[cfg(test)]
mod testing;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use crate::monitoring::{Direction, Metrics};
use crate::servable::{ExpansionBudget, Servable, ServableHandle, ServableLookup, ServableState};
use crate::telemetry::{Stage, note_stage};
use base::error::{Result, ServingError};
use base::id::{ModelSpec, ServableId, VersionChoice};
use base::tensor::Tensor;
use base::vocabulary::{Api, Protocol};
use mapper::signature::{
    CLASSIFY_METHOD_NAME, DEFAULT_SIGNATURE_NAME, REGRESS_METHOD_NAME, SignatureDef,
};

pub use self::classify::{Class, ClassificationResponse, ClassificationResult};
pub use self::examples::{Examples, ExamplesRequest};
pub use self::logged::{LoggedCall, RequestLogger};
pub use self::metadata::{ModelMetadata, SIGNATURE_DEF_FIELD};
pub use self::multi_inference::{
    InferenceOutcome, InferenceResult, InferenceTask, MultiInferenceRequest, MultiInferenceResponse,
};
pub use self::predict::{PredictRequest, PredictResponse};
pub use self::regress::RegressionResponse;
pub use mapper::signature::{RequestInputs, RequestTensor};

/// The flags that concern the calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct InferenceOptions {
    /// `--enable_signature_method_name_check`: a signature answers only the call that its
    /// `method_name` names.
    pub check_method_name: bool,
    /// The total limit in bytes, over all requests, for tensors that clients did not send in full.
    /// `None`: no limit.
    pub max_expanded_bytes: Option<u64>,
}

/// The error with which every call that a signature's `method_name` names is refused, independent of the
/// client's request. `None` if such calls are not refused.
pub fn refusal(definition: &SignatureDef) -> Option<ServingError> {
    let options = InferenceOptions::default();
    let outputs = match definition.method_name.as_str() {
        CLASSIFY_METHOD_NAME => classify::classification_outputs(definition, &options),
        REGRESS_METHOD_NAME => regress::regression_outputs(definition, &options),
        _ => return None,
    };
    outputs.err()
}

/// The calls that clients can make, independent of transport.
#[derive(Clone)]
pub struct InferenceService {
    servables: Arc<dyn ServableLookup>,
    metrics: Arc<Metrics>,
    protocol: Protocol,
    options: InferenceOptions,
    /// Shared by all protocols.
    expansion: Arc<ExpansionBudget>,
    logger: Option<Arc<dyn RequestLogger>>,
}

impl InferenceService {
    /// A service that uses these servables.
    pub fn new(servables: Arc<dyn ServableLookup>, metrics: Arc<Metrics>) -> Self {
        Self {
            servables,
            metrics,
            protocol: Protocol::Grpc,
            options: InferenceOptions::default(),
            expansion: Arc::new(ExpansionBudget::unbounded()),
            logger: None,
        }
    }

    /// The same service for calls that come in by this protocol. Metrics use it as a label.
    pub fn for_protocol(self, protocol: Protocol) -> Self {
        Self { protocol, ..self }
    }

    /// The same service with options other than the defaults.
    pub fn with_options(self, options: InferenceOptions) -> Self {
        let expansion = options.max_expanded_bytes.map(ExpansionBudget::new);
        Self {
            options,
            expansion: expansion.map_or(self.expansion, Arc::new),
            ..self
        }
    }

    /// The same service with a request log.
    pub fn with_logger(self, logger: Arc<dyn RequestLogger>) -> Self {
        Self {
            logger: Some(logger),
            ..self
        }
    }

    /// The servable that answers for `spec`.
    ///
    /// # Errors
    ///
    /// As [`ServableLookup::servable_handle`].
    pub fn resolve(&self, spec: &ModelSpec) -> Result<ServableHandle> {
        self.servables.servable_handle(spec)
    }

    /// Runs a signature and measures the run as TensorFlow Serving does (`runtime_latency`).
    async fn run(
        &self,
        api: Api,
        servable: &Servable,
        signature_name: &str,
        inputs: RequestInputs,
        output_filter: &[String],
        deadline: Option<Instant>,
    ) -> Result<Vec<(String, Tensor)>> {
        let _in_flight = self
            .metrics
            .start_request(&servable.id, signature_name, self.protocol);
        let started = Instant::now();
        let (outputs, times) = servable
            .run(
                signature_name,
                inputs,
                output_filter,
                deadline,
                &self.expansion,
            )
            .await?;
        self.metrics
            .record_runtime_latency(&servable.id.name, api, started.elapsed());
        if let Some(times) = times {
            note_stage(Stage::Queue, times.enqueued, times.started);
            note_stage(Stage::Run, times.started, times.ended);
        }
        Ok(outputs)
    }

    /// Records how long a transport took to decode a request or to encode its response.
    pub fn record_codec(
        &self,
        servable: &ServableId,
        signature_name: &str,
        direction: Direction,
        (from, to): (Instant, Instant),
    ) {
        let elapsed = to.saturating_duration_since(from);
        self.metrics
            .record_codec(servable, signature_name, self.protocol, direction, elapsed);
        let stage = match direction {
            Direction::Decode => Stage::Decode,
            Direction::Encode => Stage::Encode,
        };
        note_stage(stage, from, to);
    }

    /// The states of all versions, or of the version that `spec` gives by number, in descending order.
    /// A label is ignored, as in TensorFlow Serving (`get_model_status_impl.cc`).
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` if no such version exists.
    pub fn model_status(&self, spec: &ModelSpec) -> Result<Vec<ServableState>> {
        let model = &spec.name;
        let mut states = self.servables.states(model);
        let version = match spec.version {
            Some(VersionChoice::Version(version)) => Some(version),
            _ => None,
        };
        if let Some(version) = version {
            states.retain(|state| state.id.version == version);
        }
        if states.is_empty() {
            return Err(ServingError::not_found(match version {
                Some(version) => format!("Could not find version {version} of model {model}"),
                None => format!("Could not find any versions of model {model}"),
            }));
        }
        Ok(states)
    }

    /// All models by name, each with the states of its versions in descending order.
    pub fn models(&self) -> Vec<(Arc<str>, Vec<ServableState>)> {
        let models = self.servables.models().into_iter();
        models
            .map(|model| {
                let states = self.servables.states(&model);
                (model, states)
            })
            .collect()
    }
}

/// The effective name and the definition of the signature that a request names, whether it can be
/// run or is metadata only. Only the name if the model has no such signature.
fn definition<'a>(
    servable: &'a Servable,
    signature_name: &str,
) -> Result<(String, Cow<'a, SignatureDef>), String> {
    let name = if signature_name.is_empty() {
        DEFAULT_SIGNATURE_NAME
    } else {
        signature_name
    };
    let found = match servable.signature(name) {
        Ok(signature) => Some(Cow::Borrowed(&signature.definition)),
        Err(_) => servable.definitions().remove(name).map(Cow::Owned),
    };
    match found {
        Some(definition) => Ok((name.to_owned(), definition)),
        None => Err(name.to_owned()),
    }
}

/// The error of `Classify` and `Regress` for a signature that the model does not have.
fn no_signature(name: &str) -> ServingError {
    ServingError::invalid_argument(format!("No signature was found with the name: {name}"))
}
