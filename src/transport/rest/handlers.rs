//! One function per kind of request: decode, call, encode.

use std::cell::OnceCell;
use std::time::Instant;

use bytes::Bytes;

use super::route::Route;
use crate::error::{Code, Result, ServingError};
use crate::id::{ModelSpec, ServableId};
use crate::inference::{
    ExamplesRequest, InferenceService, PredictRequest, RequestTensor, SIGNATURE_DEF_FIELD,
};
use crate::monitoring::Api;
use crate::servable::ServableHandle;

use crate::wire::{examples, json};

/// Bodies from this size on are decoded and encoded where blocking is allowed: at some 100 MB/s it
/// would keep other connections of the worker waiting.
const BLOCKING_BYTES: usize = 256 << 10;

/// What goes back: a code, which becomes the HTTP status, and a document.
pub(super) struct Answer {
    pub(super) code: Code,
    pub(super) body: Bytes,
    /// Which servable answered, by which signature.
    pub(super) answered_by: Option<(ServableId, Option<String>)>,
}

impl Answer {
    pub(super) fn error(error: &ServingError) -> Self {
        Self {
            code: error.code(),
            body: json::error_body(&error.to_string()).into(),
            answered_by: None,
        }
    }

    pub(super) fn without_body(code: Code) -> Self {
        Self {
            code,
            body: Bytes::new(),
            answered_by: None,
        }
    }

    fn ok(body: Vec<u8>, servable: ServableId, signature: Option<String>) -> Self {
        Self {
            code: Code::Ok,
            body: body.into(),
            answered_by: Some((servable, signature)),
        }
    }
}

/// What a request asks for, as it is counted.
pub(super) fn api_of(route: &Route) -> Api {
    match route {
        Route::Predict(_) => Api::Predict,
        Route::Classify(_) => Api::Classify,
        Route::Regress(_) => Api::Regress,
        Route::Metadata(_) => Api::Metadata,
        Route::Status(_) => Api::Status,
    }
}

/// Answers a request that has a route.
pub(super) async fn handle(
    inference: &InferenceService,
    deadline: Option<Instant>,
    route: Route,
    body: Bytes,
) -> Answer {
    let result = match route {
        Route::Predict(spec) => predict(inference, deadline, &spec, body).await,
        Route::Classify(spec) => classify(inference, deadline, &spec, &body).await,
        Route::Regress(spec) => regress(inference, deadline, &spec, &body).await,
        Route::Metadata(spec) => metadata(inference, &spec),
        Route::Status(spec) => status(inference, &spec),
    };
    result.unwrap_or_else(|error| Answer::error(&error))
}

async fn predict(
    inference: &InferenceService,
    deadline: Option<Instant>,
    spec: &ModelSpec,
    body: Bytes,
) -> Result<Answer> {
    // The reader may ask more than once; all answers come from one servable.
    let resolved: OnceCell<ServableHandle> = OnceCell::new();
    let decoded = off_worker(body.len(), || {
        json::decode_predict(&body, |signature_name| {
            let servable = match resolved.get() {
                Some(servable) => servable,
                None => {
                    let servable = inference.resolve(spec)?;
                    resolved.get_or_init(|| servable)
                }
            };
            json_inputs(servable, signature_name)
        })
    })?;
    drop(body);
    let servable = resolved
        .into_inner()
        .ok_or_else(|| ServingError::internal("no signature was looked up"))?;
    let inputs = decoded
        .inputs
        .into_iter()
        .map(|(alias, tensor)| (alias, RequestTensor::Valid(tensor)))
        .collect();
    let request = PredictRequest {
        signature_name: decoded.signature_name,
        inputs,
        output_filter: decoded.output_filter,
        deadline,
    };
    let response = inference.predict(&servable, request).await?;
    let size = response
        .outputs
        .iter()
        .map(|(_, tensor)| tensor.len() * 8)
        .sum();
    let body = off_worker(size, || {
        json::encode_predict(&response.outputs, decoded.format)
    })?;
    Ok(Answer::ok(
        body,
        response.servable,
        Some(response.signature_name),
    ))
}

/// What the JSON reader has to know of a signature.
fn json_inputs(servable: &ServableHandle, signature_name: &str) -> Result<Vec<json::InputSpec>> {
    let signature = servable
        .signature(signature_name)
        .map_err(|error| match error {
            ServingError::SignatureNotFound { name } => json::signature_not_found(&name),
            error => error,
        })?;
    let inputs = signature.inputs.iter();
    Ok(inputs
        .map(|input| json::InputSpec {
            alias: input.alias.clone(),
            dtype: input.dtype,
        })
        .collect())
}

async fn classify(
    inference: &InferenceService,
    deadline: Option<Instant>,
    spec: &ModelSpec,
    body: &Bytes,
) -> Result<Answer> {
    let (servable, request) = examples_request(inference, deadline, spec, body)?;
    let response = inference.classify(&servable, request).await?;
    let examples = response.result.examples();
    let body = json::encode_classifications(
        examples.map(|classes| classes.map(|class| (class.label, class.score))),
    )?;
    Ok(Answer::ok(
        body,
        response.servable,
        Some(response.signature_name),
    ))
}

async fn regress(
    inference: &InferenceService,
    deadline: Option<Instant>,
    spec: &ModelSpec,
    body: &Bytes,
) -> Result<Answer> {
    let (servable, request) = examples_request(inference, deadline, spec, body)?;
    let response = inference.regress(&servable, request).await?;
    let body = json::encode_regressions(&response.values)?;
    Ok(Answer::ok(
        body,
        response.servable,
        Some(response.signature_name),
    ))
}

/// Examples are read before the model is looked up, as in the original.
fn examples_request(
    inference: &InferenceService,
    deadline: Option<Instant>,
    spec: &ModelSpec,
    body: &Bytes,
) -> Result<(ServableHandle, ExamplesRequest)> {
    let decoded = off_worker(body.len(), || json::decode_examples(body))?;
    let servable = inference.resolve(spec)?;
    let request = ExamplesRequest {
        signature_name: decoded.signature_name,
        examples: examples::from_proto(Some(decoded.input)),
        deadline,
    };
    Ok((servable, request))
}

fn metadata(inference: &InferenceService, spec: &ModelSpec) -> Result<Answer> {
    let metadata = inference.model_metadata(spec, &[SIGNATURE_DEF_FIELD.to_owned()])?;
    let servable = metadata.servable;
    let body =
        json::encode_model_metadata(&servable.name, servable.version, metadata.signature_defs)?;
    Ok(Answer::ok(body, servable, None))
}

fn status(inference: &InferenceService, spec: &ModelSpec) -> Result<Answer> {
    let versions: Vec<json::VersionStatus> = inference
        .model_status(spec)?
        .into_iter()
        .map(|state| json::VersionStatus {
            version: state.id.version,
            state: state.state.name(),
            error_code: state.code,
            error_message: state.message,
        })
        .collect();
    let body = json::encode_model_status(&versions).into();
    Ok(Answer {
        code: Code::Ok,
        body,
        answered_by: None,
    })
}

/// Runs `work` in place, telling the runtime first where it may take long.
fn off_worker<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes < BLOCKING_BYTES {
        work()
    } else {
        tokio::task::block_in_place(work)
    }
}
