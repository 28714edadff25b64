//! One function for each kind of request: decode, call, encode.

use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;

use super::route::{Route, missing_name};
use super::{RestOptions, off_worker, predict, protobuf};
use crate::access::auth::Caller;
use crate::access::request_metrics::Observation;
use base::error::{Code, Result, ServingError};
use base::id::{ModelSpec, ServableId};
use base::vocabulary::Api;
use serving::inference::{ExamplesRequest, InferenceService, SIGNATURE_DEF_FIELD};
use serving::servable::{ServableHandle, ServableState};
use wire::tfs::{examples, json};

const JSON: &str = "application/json";

/// An answer: a code, which becomes the HTTP status, and a document.
pub(super) struct HttpReply {
    pub(super) code: Code,
    pub(super) content_type: &'static str,
    pub(super) body: Bytes,
    /// The servable that answered, and its signature.
    pub(super) answered_by: Option<(ServableId, Option<String>)>,
    /// The server was too busy: the client is asked to retry.
    pub(super) may_pass_later: bool,
}

impl HttpReply {
    pub(super) fn error(error: &ServingError) -> Self {
        Self {
            code: error.code(),
            content_type: JSON,
            body: json::error_body(&error.to_string()).into(),
            answered_by: None,
            may_pass_later: matches!(error, ServingError::Overloaded { .. }),
        }
    }

    pub(super) fn ok(body: Vec<u8>, servable: ServableId, signature: Option<String>) -> Self {
        Self {
            answered_by: Some((servable, signature)),
            ..Self::states(body)
        }
    }

    /// A document about states, which needs no servable.
    fn states(body: impl Into<Bytes>) -> Self {
        Self {
            code: Code::Ok,
            content_type: JSON,
            body: body.into(),
            answered_by: None,
            may_pass_later: false,
        }
    }
}

/// The API of a request, for metrics.
pub(super) fn api_of(route: &Route) -> Api {
    match route {
        Route::Predict(_) => Api::Predict,
        Route::Classify(_) => Api::Classify,
        Route::Regress(_) => Api::Regress,
        Route::Metadata(_) => Api::Metadata,
        Route::Status(_) => Api::Status,
        Route::Models => Api::Other,
    }
}

/// Checks whether the caller is allowed to make this request.
///
/// # Errors
///
/// `PERMISSION_DENIED`.
pub(super) fn check_allowed(route: &Route, caller: &Caller) -> Result<()> {
    match route {
        // The list contains only the models that the caller is allowed to see.
        Route::Models => caller.may_any(Api::Status),
        route => caller.may(api_of(route), route.model()),
    }
}

/// The headers of a request, and its sender.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) headers: &'a HeaderMap,
    pub(super) caller: &'a Caller,
}

/// Answers a request that has a route.
pub(super) async fn handle(
    inference: &InferenceService,
    options: &RestOptions,
    deadline: Option<Instant>,
    route: Route,
    call: Call<'_>,
    body: Bytes,
    observation: &mut Observation,
) -> HttpReply {
    let result = match route {
        Route::Predict(spec) if protobuf::is_protobuf(call.headers) => {
            let as_tensor_content = options.serialize_as_tensor_content;
            protobuf::predict(
                inference,
                deadline,
                &spec,
                body,
                as_tensor_content,
                observation,
            )
            .await
        }
        Route::Predict(spec) => {
            predict::predict(inference, deadline, &spec, body, observation).await
        }
        Route::Classify(spec) => classify(inference, deadline, &spec, &body, observation).await,
        Route::Regress(spec) => regress(inference, deadline, &spec, &body, observation).await,
        Route::Metadata(spec) => metadata(inference, &spec),
        Route::Status(spec) => status(inference, &spec),
        Route::Models if options.model_listing => {
            Ok(HttpReply::states(model_list(inference, call.caller)))
        }
        Route::Models => Err(missing_name()),
    };
    result.unwrap_or_else(|error| HttpReply::error(&error))
}

async fn classify(
    inference: &InferenceService,
    deadline: Option<Instant>,
    spec: &ModelSpec,
    body: &Bytes,
    observation: &mut Observation,
) -> Result<HttpReply> {
    let (servable, request) = examples_request(inference, deadline, spec, body, observation)?;
    let response = inference.classify(&servable, request).await?;
    let examples = response.result.examples();
    let body = json::encode_classifications(
        examples.map(|classes| classes.map(|class| (class.label, class.score))),
    )?;
    Ok(HttpReply::ok(
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
    observation: &mut Observation,
) -> Result<HttpReply> {
    let (servable, request) = examples_request(inference, deadline, spec, body, observation)?;
    let response = inference.regress(&servable, request).await?;
    let body = json::encode_regressions(&response.values)?;
    Ok(HttpReply::ok(
        body,
        response.servable,
        Some(response.signature_name),
    ))
}

/// Examples are read before the model is looked up, as in TensorFlow Serving.
fn examples_request(
    inference: &InferenceService,
    deadline: Option<Instant>,
    spec: &ModelSpec,
    body: &Bytes,
    observation: &mut Observation,
) -> Result<(ServableHandle, ExamplesRequest)> {
    let decoded = off_worker(body.len(), || json::decode_examples(body))?;
    let servable = inference.resolve(spec)?;
    observation.reached(&servable, Some(&decoded.signature_name));
    let request = ExamplesRequest {
        signature_name: decoded.signature_name,
        examples: examples::from_proto(Some(decoded.input)),
        deadline,
    };
    Ok((servable, request))
}

fn metadata(inference: &InferenceService, spec: &ModelSpec) -> Result<HttpReply> {
    let metadata = inference.model_metadata(spec, &[SIGNATURE_DEF_FIELD.to_owned()])?;
    let servable = metadata.servable;
    let body =
        json::encode_model_metadata(&servable.name, servable.version, metadata.signature_defs)?;
    Ok(HttpReply::ok(body, servable, None))
}

fn status(inference: &InferenceService, spec: &ModelSpec) -> Result<HttpReply> {
    let versions = version_statuses(inference.model_status(spec)?);
    Ok(HttpReply::states(json::encode_model_status(&versions)))
}

/// The document that lists all models.
pub fn model_list(inference: &InferenceService, caller: &Caller) -> Bytes {
    let models: Vec<json::ModelStatus> = inference
        .models()
        .into_iter()
        .filter(|(name, _)| caller.may(Api::Status, name).is_ok())
        .map(|(name, states)| json::ModelStatus {
            name,
            versions: version_statuses(states),
        })
        .collect();
    json::encode_model_list(&models).into()
}

fn version_statuses(states: Vec<ServableState>) -> Vec<json::VersionStatus> {
    states
        .into_iter()
        .map(|state| json::VersionStatus {
            version: state.id.version,
            state: state.state.name(),
            error_code: state.code,
            error_message: state.message,
        })
        .collect()
}
