//! The states of models as JSON documents, which the REST port and the admin port share.
//!
//! Not here: the form of the documents (`wire::tfs::json`).

use bytes::Bytes;

use crate::access::auth::Caller;
use base::vocabulary::Api;
use serving::inference::InferenceService;
use serving::servable::ServableState;
use wire::tfs::json;

/// The document that lists all models that the caller is allowed to see.
pub(crate) fn model_list(inference: &InferenceService, caller: &Caller) -> Bytes {
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

/// The states of one model's versions.
pub(crate) fn version_statuses(states: Vec<ServableState>) -> Vec<json::VersionStatus> {
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
