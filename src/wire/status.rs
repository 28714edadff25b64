//! `GetModelStatusResponse`.

use crate::proto::tensorflow::serving as pb;
use crate::servable::ServableState;

/// The states as a message, in the given order.
pub fn to_proto(states: Vec<ServableState>) -> pb::GetModelStatusResponse {
    let model_version_status = states
        .into_iter()
        .map(|state| pb::ModelVersionStatus {
            version: state.id.version,
            state: state.state as i32,
            status: Some(pb::StatusProto {
                error_code: state.code as i32,
                error_message: state.message,
            }),
        })
        .collect();
    pb::GetModelStatusResponse {
        model_version_status,
    }
}
