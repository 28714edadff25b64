//! One function for each kind of request: decode, call, encode.

use bytes::Bytes;
use http::HeaderMap;

use super::options::RestOptions;
use super::reply::Reply;
use super::route::{Route, missing_name};
use super::{predict, protobuf};
use crate::access::CallContext;
use crate::admin::model_list::{model_list, version_statuses};
use crate::http_reply::JSON;
use base::error::Result;
use base::id::ModelSpec;
use base::vocabulary::Api;
use net::blocking::off_worker;
use serving::inference::{ExamplesRequest, InferenceService, SIGNATURE_DEF_FIELD};
use serving::servable::ServableHandle;
use wire::tfs::{examples, json};

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

/// Answers a request that has a route.
///
/// # Errors
///
/// Those of the call.
pub(super) async fn handle(
    inference: &InferenceService,
    options: &RestOptions,
    context: &mut CallContext,
    route: &Route,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Reply> {
    match route {
        Route::Predict(spec) if protobuf::is_protobuf(headers) => {
            let as_tensor_content = options.serialize_as_tensor_content;
            protobuf::predict(inference, context, spec, body, as_tensor_content).await
        }
        Route::Predict(spec) => predict::predict(inference, context, spec, body).await,
        Route::Classify(spec) => classify(inference, context, spec, &body).await,
        Route::Regress(spec) => regress(inference, context, spec, &body).await,
        Route::Metadata(spec) => metadata(inference, spec),
        Route::Status(spec) => status(inference, spec),
        Route::Models if options.model_listing => {
            Ok(Reply::states(model_list(inference, context.caller())))
        }
        Route::Models => Err(missing_name()),
    }
}

async fn classify(
    inference: &InferenceService,
    context: &mut CallContext,
    spec: &ModelSpec,
    body: &Bytes,
) -> Result<Reply> {
    let (servable, request) = examples_request(inference, context, spec, body)?;
    let response = inference.classify(&servable, request).await?;
    let examples = response.result.examples();
    let body = json::encode_classifications(
        examples.map(|classes| classes.map(|class| (class.label, class.score))),
    )?;
    Ok(Reply::of_servable(
        JSON,
        body,
        response.servable,
        Some(response.signature_name),
    ))
}

async fn regress(
    inference: &InferenceService,
    context: &mut CallContext,
    spec: &ModelSpec,
    body: &Bytes,
) -> Result<Reply> {
    let (servable, request) = examples_request(inference, context, spec, body)?;
    let response = inference.regress(&servable, request).await?;
    let body = json::encode_regressions(&response.values)?;
    Ok(Reply::of_servable(
        JSON,
        body,
        response.servable,
        Some(response.signature_name),
    ))
}

/// Examples are read before the model is looked up, as in TensorFlow Serving.
fn examples_request(
    inference: &InferenceService,
    context: &mut CallContext,
    spec: &ModelSpec,
    body: &Bytes,
) -> Result<(ServableHandle, ExamplesRequest)> {
    let decoded = off_worker(body.len(), || json::decode_examples(body))?;
    let servable = inference.resolve(spec)?;
    context.reached(&servable, Some(&decoded.signature_name));
    let request = ExamplesRequest {
        signature_name: decoded.signature_name,
        examples: examples::from_proto(Some(decoded.input)),
        deadline: context.deadline,
    };
    Ok((servable, request))
}

fn metadata(inference: &InferenceService, spec: &ModelSpec) -> Result<Reply> {
    let metadata = inference.model_metadata(spec, &[SIGNATURE_DEF_FIELD.to_owned()])?;
    let servable = metadata.servable;
    let body =
        json::encode_model_metadata(&servable.name, servable.version, metadata.signature_defs)?;
    Ok(Reply::of_servable(JSON, body, servable, None))
}

fn status(inference: &InferenceService, spec: &ModelSpec) -> Result<Reply> {
    let versions = version_statuses(inference.model_status(spec)?);
    Ok(Reply::states(json::encode_model_status(&versions)))
}
