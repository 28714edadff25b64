//! `GetModelStatusResponse`.

use proto::tensorflow::serving as pb;
use serving::servable::ServableState;

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

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use base::error::Code;
    use base::id::ServableId;
    use base::vocabulary::ManagerState;

    /// grpc.md section 8: a status is present even if it is OK, but has a text only if it is not.
    #[test]
    fn states_keep_their_order_and_errors() {
        let state = |version, state, code, message: &str| ServableState {
            id: ServableId::new("vers", version),
            state,
            code,
            message: message.to_owned(),
        };
        let response = to_proto(vec![
            state(3, ManagerState::Available, Code::Ok, ""),
            state(2, ManagerState::End, Code::NotFound, "no"),
        ]);
        assert_eq!(
            response.encode_to_vec(),
            b"\x0a\x06\x08\x03\x10\x1e\x1a\x00\x0a\x0c\x08\x02\x10\x32\x1a\x06\x08\x05\x12\x02no"
        );
    }
}
