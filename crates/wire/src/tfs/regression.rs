//! `RegressionRequest` and `RegressionResponse`.

use std::time::Instant;

use super::{examples, model_spec};
use base::error::Result;
use base::id::ModelSpec;
use proto::tensorflow::serving as pb;
use serving::inference::{ExamplesRequest, RegressionResponse};

/// The model spec, and the request to its model.
///
/// # Errors
///
/// `INVALID_ARGUMENT` if the request has no model spec.
pub fn from_proto(
    request: pb::RegressionRequest,
    deadline: Option<Instant>,
) -> Result<(ModelSpec, ExamplesRequest)> {
    let (spec, signature_name) = model_spec::from_proto(request.model_spec)?;
    let request = ExamplesRequest {
        signature_name,
        examples: examples::from_proto(request.input),
        deadline,
    };
    Ok((spec, request))
}

/// The response as a message.
pub fn to_proto(response: RegressionResponse) -> pb::RegressionResponse {
    let RegressionResponse {
        servable,
        signature_name,
        values,
    } = response;
    pb::RegressionResponse {
        model_spec: Some(model_spec::to_proto(&servable, signature_name)),
        result: Some(result_to_proto(values)),
    }
}

/// The value of every example as a message.
pub(super) fn result_to_proto(values: Vec<f32>) -> pb::RegressionResult {
    let regressions = values
        .into_iter()
        .map(|value| pb::Regression { value })
        .collect();
    pb::RegressionResult { regressions }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use prost::Message;

    use super::*;
    use base::id::ServableId;

    fn decode<M: Message + Default>(message: &str) -> M {
        M::decode(STANDARD.decode(message).unwrap().as_slice()).unwrap()
    }

    /// Recorded exchange grpc/093_reg.
    #[test]
    fn request_and_response_are_the_recorded_ones() {
        let message = "Cg0KAmV4GgdyZWdyZXNzEigKJgoRCg8KDQoBeBIIEgYKBAAAgD8KEQoPCg0KAXgSCBIGCgQA\
                       AABA";
        let (spec, request) = from_proto(decode(message), None).unwrap();
        assert_eq!(spec.name, "ex");
        assert_eq!(request.signature_name, "regress");
        assert_eq!(request.examples.examples.len(), 2);
        assert_eq!(request.examples.context, None);

        let response = to_proto(RegressionResponse {
            servable: ServableId::new("ex", 1),
            signature_name: "regress".to_owned(),
            values: vec![12.0, 14.0],
        });
        let recorded = "Cg4KBQ0AAEBBCgUNAABgQRIRCgJleBICCAEaB3JlZ3Jlc3M=";
        assert_eq!(response, decode(recorded));
    }
}
