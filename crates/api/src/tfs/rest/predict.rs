//! `:predict` with a JSON body, as in TensorFlow Serving.

use std::cell::OnceCell;
use std::time::Instant;

use bytes::Bytes;

use super::reply::Reply;
use crate::access::CallContext;
use crate::http_reply::JSON;
use base::error::{Result, ServingError};
use base::id::ModelSpec;
use net::blocking::off_worker;
use serving::inference::{InferenceService, PredictRequest, RequestTensor};
use serving::monitoring::Direction;
use serving::servable::ServableHandle;
use wire::tfs::json;

/// Answers one Predict call.
pub(super) async fn predict(
    inference: &InferenceService,
    context: &mut CallContext,
    spec: &ModelSpec,
    body: Bytes,
) -> Result<Reply> {
    let started = Instant::now();
    let (decoded, servable) = decode(inference, context, spec, body)?;
    let decoding = (started, Instant::now());
    let inputs = decoded
        .inputs
        .into_iter()
        .map(|(alias, tensor)| (alias, RequestTensor::Valid(tensor)))
        .collect();
    let request = PredictRequest {
        signature_name: decoded.signature_name,
        inputs,
        output_filter: decoded.output_filter,
        deadline: context.deadline,
    };
    let response = inference.predict(&servable, request).await?;
    let started = Instant::now();
    let size = response
        .outputs
        .iter()
        .map(|(_, tensor)| tensor.len() * 8)
        .sum();
    let body = off_worker(size, || {
        json::encode_predict(&response.outputs, decoded.format)
    })?;
    let (id, signature_name) = (&response.servable, &response.signature_name);
    inference.record_codec(id, signature_name, Direction::Decode, decoding);
    inference.record_codec(
        id,
        signature_name,
        Direction::Encode,
        (started, Instant::now()),
    );
    Ok(Reply::of_servable(
        JSON,
        body,
        response.servable,
        Some(response.signature_name),
    ))
}

/// Looks up the model while it decodes: the signature determines the dtypes of the numbers in the body.
fn decode(
    inference: &InferenceService,
    context: &mut CallContext,
    spec: &ModelSpec,
    body: Bytes,
) -> Result<(json::PredictBody, ServableHandle)> {
    // The reader can ask more than once; all answers come from one servable.
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
            context.reached(servable, Some(signature_name));
            json_inputs(servable, signature_name)
        })
    })?;
    let servable = resolved
        .into_inner()
        .ok_or_else(|| ServingError::internal("no signature was looked up"))?;
    Ok((decoded, servable))
}

/// The facts about a signature that the JSON reader needs.
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
            is_optional: input.is_optional,
            kept: signature.kept_aliases(&input.alias),
        })
        .collect())
}
