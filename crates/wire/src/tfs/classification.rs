//! `ClassificationRequest` and `ClassificationResponse`.

use std::time::Instant;

use super::{examples, model_spec};
use base::error::Result;
use base::id::ModelSpec;
use proto::tensorflow::serving as pb;
use serving::inference::{Class, ClassificationResponse, ClassificationResult, ExamplesRequest};

/// The model spec, and the request to its model.
///
/// # Errors
///
/// `INVALID_ARGUMENT` if the request has no model spec.
pub fn from_proto(
    request: pb::ClassificationRequest,
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
pub fn to_proto(response: ClassificationResponse) -> pb::ClassificationResponse {
    let ClassificationResponse {
        servable,
        signature_name,
        result,
    } = response;
    pb::ClassificationResponse {
        model_spec: Some(model_spec::to_proto(&servable, signature_name)),
        result: Some(result_to_proto(&result)),
    }
}

/// The classes of every example as a message. In protobuf a label is text, so bytes that are not UTF-8 are
/// replaced, where TensorFlow Serving sends a message that clients cannot read.
pub(super) fn result_to_proto(result: &ClassificationResult) -> pb::ClassificationResult {
    let class = |class: Class<'_>| pb::Class {
        label: String::from_utf8_lossy(class.label).into_owned(),
        score: class.score,
    };
    let classifications = result
        .examples()
        .map(|classes| pb::Classifications {
            classes: classes.map(class).collect(),
        })
        .collect();
    pb::ClassificationResult { classifications }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use prost::Message;

    use super::*;
    use base::id::ServableId;
    use base::tensor::Tensor;

    fn decode<M: Message + Default>(message: &str) -> M {
        M::decode(STANDARD.decode(message).unwrap().as_slice()).unwrap()
    }

    /// Recorded exchange grpc/076_cls_ctx.
    #[test]
    fn request_keeps_examples_serialized() {
        let message = "CgQKAmV4EigSJgoRCg8KDQoBeBIIEgYKBAAAgD8SEQoPCg0KAXkSCBIGCgQAAKBA";
        let (spec, request) = from_proto(decode(message), None).unwrap();
        assert_eq!(spec.name, "ex");
        assert_eq!(request.signature_name, "");
        let example = |key: &str, value: [u8; 4]| {
            let header = b"\x0a\x0f\x0a\x0d\x0a\x01";
            [header, key.as_bytes(), b"\x12\x08\x12\x06\x0a\x04", &value].concat()
        };
        assert_eq!(
            request.examples.examples,
            [example("x", 1f32.to_le_bytes())]
        );
        let context: &Bytes = request.examples.context.as_ref().unwrap();
        assert_eq!(*context, example("y", 5f32.to_le_bytes()));
    }

    /// Recorded exchanges grpc/083 to grpc/085: no input, no examples, context only.
    #[test]
    fn inputs_without_examples_are_empty() {
        for input in [&b""[..], b"\x12\x02\x0a\x00", b"\x12\x05\x12\x03\x12\x01c"] {
            let message = [b"\x0a\x04\x0a\x02ex", input].concat();
            let message = pb::ClassificationRequest::decode(message.as_slice()).unwrap();
            let (_, request) = from_proto(message, None).unwrap();
            assert!(request.examples.examples.is_empty());
        }
    }

    /// Recorded exchange grpc/092_cls_no_spec.
    #[test]
    fn request_needs_a_model_spec() {
        let error = from_proto(pb::ClassificationRequest::default(), None).unwrap_err();
        assert_eq!(error.to_string(), "Missing ModelSpec");
    }

    /// Recorded exchange grpc/076_cls_ctx.
    #[test]
    fn response_has_labels_and_scores() {
        let labels = ["cat", "dog", "\"b\""].map(|it| Bytes::from_static(it.as_bytes()));
        let classes = Tensor::from_strings(&[1, 3], labels.to_vec());
        let scores = Tensor::from_vec(&[1, 3], vec![0.1f32, 0.5, f32::INFINITY]);
        let response = to_proto(ClassificationResponse {
            servable: ServableId::new("ex", 1),
            signature_name: "serving_default".to_owned(),
            result: ClassificationResult::try_new(classes, scores, 1).unwrap(),
        });
        let recorded = "CiYKJAoKCgNjYXQVzczMPQoKCgNkb2cVAAAAPwoKCgMiYiIVAACAfxIZCgJleBICCAEaD3Nl\
                        cnZpbmdfZGVmYXVsdA==";
        assert_eq!(response, decode(recorded));
    }
}
