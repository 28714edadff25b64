//! One function per kind of request: decode, call, encode.

use std::cell::OnceCell;
use std::time::Instant;

use bytes::Bytes;

use super::route::Route;
use super::{RestOptions, error_body};
use crate::error::{Code, Result, ServingError};
use crate::id::ModelSpec;
use crate::inference::{InferenceService, PredictRequest};
use crate::servable::ServableHandle;
use crate::signature::RequestTensor;
use crate::wire::json;

/// Bodies from this size on are decoded and encoded where blocking is allowed: at some 100 MB/s it
/// would keep other connections of the worker waiting.
const BLOCKING_BYTES: usize = 256 << 10;

/// What goes back: a code, which becomes the HTTP status, and a document.
pub(super) struct Answer {
    pub(super) code: Code,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn error(error: &ServingError) -> Self {
        Self {
            code: error.code(),
            body: error_body(error),
        }
    }
}

/// Answers a request that has a route.
pub(super) async fn handle(
    inference: &InferenceService,
    options: &RestOptions,
    route: Route,
    body: Bytes,
) -> Answer {
    let result = match route {
        Route::Predict(spec) => predict(inference, options, &spec, body).await,
        Route::Classify(_) => Err(ServingError::unimplemented("classify is not served yet")),
        Route::Regress(_) => Err(ServingError::unimplemented("regress is not served yet")),
        Route::Metadata(_) => Err(ServingError::unimplemented("metadata is not served yet")),
        Route::Status(spec) => status(inference, &spec),
    };
    match result {
        Ok(body) => Answer {
            code: Code::Ok,
            body: body.into(),
        },
        Err(error) => Answer::error(&error),
    }
}

async fn predict(
    inference: &InferenceService,
    options: &RestOptions,
    spec: &ModelSpec,
    body: Bytes,
) -> Result<Vec<u8>> {
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
        deadline: options.timeout.map(|timeout| Instant::now() + timeout),
    };
    let response = inference.predict(&servable, request).await?;
    let size = response
        .outputs
        .iter()
        .map(|(_, tensor)| tensor.len() * 8)
        .sum();
    off_worker(size, || {
        json::encode_predict(&response.outputs, decoded.format)
    })
}

/// What the JSON reader has to know of a signature.
fn json_inputs(servable: &ServableHandle, signature_name: &str) -> Result<Vec<json::InputSpec>> {
    let signature = servable
        .signature(signature_name)
        .map_err(|_| json::signature_not_found(signature_name))?;
    let inputs = signature.inputs.iter();
    Ok(inputs
        .map(|input| json::InputSpec {
            alias: input.alias.clone(),
            dtype: input.dtype,
        })
        .collect())
}

fn status(inference: &InferenceService, spec: &ModelSpec) -> Result<Vec<u8>> {
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
    Ok(json::encode_model_status(&versions))
}

/// Runs `work` in place, telling the runtime first where it may take long.
fn off_worker<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes < BLOCKING_BYTES {
        work()
    } else {
        tokio::task::block_in_place(work)
    }
}
