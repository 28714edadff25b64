//! `MultiInferenceRequest` and `MultiInferenceResponse`.

use std::time::Instant;

use super::{classification, examples, model_spec, regression};
use base::id::ModelSpec;
use proto::tensorflow::serving as pb;
use proto::tensorflow::serving::inference_result::Result as ResultMessage;
use serving::inference::{
    InferenceOutcome, InferenceTask, MultiInferenceRequest, MultiInferenceResponse,
};

/// The model spec, and the request to its model. The model is that of the first task; without a task or its
/// model spec the name is empty, which is reported on resolving it.
pub fn from_proto(
    request: pb::MultiInferenceRequest,
    deadline: Option<Instant>,
) -> (ModelSpec, MultiInferenceRequest) {
    let first = request.tasks.first().and_then(|it| it.model_spec.clone());
    let (spec, _) = model_spec::from_proto_or_default(first);
    let task = |task: pb::InferenceTask| {
        let (model, signature_name) = model_spec::from_proto_or_default(task.model_spec);
        InferenceTask {
            model_name: model.name,
            signature_name,
            method_name: task.method_name,
        }
    };
    let request = MultiInferenceRequest {
        tasks: request.tasks.into_iter().map(task).collect(),
        examples: examples::from_proto(request.input),
        deadline,
    };
    (spec, request)
}

/// The response as a message.
pub fn to_proto(response: MultiInferenceResponse) -> pb::MultiInferenceResponse {
    let MultiInferenceResponse { servable, results } = response;
    let results = results
        .into_iter()
        .map(|result| pb::InferenceResult {
            model_spec: Some(model_spec::to_proto(&servable, result.signature_name)),
            result: Some(match result.outcome {
                InferenceOutcome::Classification(result) => {
                    ResultMessage::ClassificationResult(classification::result_to_proto(&result))
                }
                InferenceOutcome::Regression(values) => {
                    ResultMessage::RegressionResult(regression::result_to_proto(values))
                }
            }),
        })
        .collect();
    pb::MultiInferenceResponse { results }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use prost::Message;

    use super::*;
    use base::id::ServableId;
    use base::tensor::Tensor;
    use serving::inference::{ClassificationResult, InferenceResult};

    fn decode<M: Message + Default>(message: &str) -> M {
        M::decode(STANDARD.decode(message).unwrap().as_slice()).unwrap()
    }

    /// Recorded exchange grpc/102_mi_ok.
    #[test]
    fn request_has_tasks_and_shared_examples() {
        let message = "Cj0KHwoNaGFsZl9wbHVzX3R3bxoOcmVncmVzc194X3RvX3kSGnRlbnNvcmZsb3cvc2Vydmlu\
                       Zy9yZWdyZXNzCj8KIAoNaGFsZl9wbHVzX3R3bxoPY2xhc3NpZnlfeF90b195Eht0ZW5zb3Jm\
                       bG93L3NlcnZpbmcvY2xhc3NpZnkSKAomChEKDwoNCgF4EggSBgoEAACAPwoRCg8KDQoBeBII\
                       EgYKBAAAAEA=";
        let (spec, request) = from_proto(decode(message), None);
        assert_eq!((spec.name.as_str(), spec.version), ("half_plus_two", None));
        assert_eq!(request.examples.examples.len(), 2);
        let tasks: Vec<_> = request
            .tasks
            .iter()
            .map(|it| (&*it.model_name, &*it.signature_name, &*it.method_name))
            .collect();
        let regress = ("regress_x_to_y", "tensorflow/serving/regress");
        let classify = ("classify_x_to_y", "tensorflow/serving/classify");
        let of_model = |(signature, method)| ("half_plus_two", signature, method);
        assert_eq!(tasks, [regress, classify].map(of_model));
    }

    /// Recorded exchange grpc/104_mi_no_tasks: resolving refuses the empty name.
    #[test]
    fn request_without_tasks_names_no_model() {
        let (spec, _) = from_proto(pb::MultiInferenceRequest::default(), None);
        assert_eq!((spec.name.as_str(), spec.version), ("", None));
    }

    /// Recorded exchange grpc/102_mi_ok.
    #[test]
    fn response_has_results_with_their_signatures() {
        let scores = Tensor::from_vec(&[2, 1], vec![2.5f32, 3.0]);
        let classes = ClassificationResult::try_new(None, scores, 2).unwrap();
        let result = |name: &str, outcome| InferenceResult {
            signature_name: name.to_owned(),
            outcome,
        };
        let response = to_proto(MultiInferenceResponse {
            servable: ServableId::new("half_plus_two", 123),
            results: vec![
                result(
                    "regress_x_to_y",
                    InferenceOutcome::Regression(vec![2.5, 3.0]),
                ),
                result("classify_x_to_y", InferenceOutcome::Classification(classes)),
            ],
        });
        let recorded = "CjUKIwoNaGFsZl9wbHVzX3R3bxICCHsaDnJlZ3Jlc3NfeF90b195Gg4KBQ0AACBACgUNAABA\
                        QAo6CiQKDWhhbGZfcGx1c190d28SAgh7Gg9jbGFzc2lmeV94X3RvX3kSEgoHCgUVAAAgQAoH\
                        CgUVAABAQA==";
        assert_eq!(response, decode(recorded));
    }
}
