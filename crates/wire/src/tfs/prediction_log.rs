//! `PredictionLog`: a request and its answer, as stored in request logs and warmup files.
//!
//! The request is stored as the client sent it, but without the version, so that it can be replayed against
//! any version. The version that answered is in the metadata and in the response.

use bytes::Bytes;
use prost::Message;

use super::predict::PredictReply;
use super::{classification, examples, model_spec, multi_inference, regression};
use base::request::RequestTensor;
use codec::proto_wire::{Fields, Malformed, Value, delimited_len, put_delimited};
use codec::tensor_proto::{Encoder, Form};
use proto::tensorflow::serving as pb;
use proto::tensorflow::serving::prediction_log::LogType;
use serving::inference::{ExamplesRequest, LoggedCall, MultiInferenceRequest, PredictRequest};

/// The field of `PredictionLog` that holds a `PredictLog`.
const PREDICT_LOG: u32 = 6;
/// The fields that hold logs of other calls.
const OTHER_LOGS: [u32; 5] = [2, 3, 4, 5, 7];
/// The fields of a `PredictLog`.
const REQUEST: u32 = 1;
const RESPONSE: u32 = 2;

/// The call as a serialized message; the model spec of the servable that answered is added to `metadata`.
pub fn encode(call: LoggedCall, metadata: pb::LogMetadata) -> Vec<u8> {
    let model = call.servable().name.to_string();
    let log_metadata = pb::LogMetadata {
        model_spec: Some(model_spec::to_proto(call.servable(), call.signature_name())),
        ..metadata
    };
    let log_type = match call {
        LoggedCall::Predict(request, response) => {
            let log = pb::PredictionLog {
                log_metadata: Some(log_metadata),
                log_type: None,
            };
            let reply = PredictReply {
                response,
                as_tensor_content: false,
            };
            return with_predict(log, &encode_predict_request(&request, model), &reply);
        }
        LoggedCall::Classify(request, response) => {
            let (model_spec, input) = examples_request(request, model);
            LogType::ClassifyLog(pb::ClassifyLog {
                request: Some(pb::ClassificationRequest { model_spec, input }),
                response: Some(classification::to_proto(response)),
            })
        }
        LoggedCall::Regress(request, response) => {
            let (model_spec, input) = examples_request(request, model);
            LogType::RegressLog(pb::RegressLog {
                request: Some(pb::RegressionRequest { model_spec, input }),
                response: Some(regression::to_proto(response)),
            })
        }
        LoggedCall::MultiInference(request, response) => {
            LogType::MultiInferenceLog(pb::MultiInferenceLog {
                request: Some(multi_inference_request(request)),
                response: Some(multi_inference::to_proto(response)),
            })
        }
    };
    pb::PredictionLog {
        log_metadata: Some(log_metadata),
        log_type: Some(log_type),
    }
    .encode_to_vec()
}

/// The serialized `PredictRequest` in a serialized `PredictionLog` whose log is a `PredictLog`; empty
/// if it has none. It shares the message's memory unless the message has it in several parts, which
/// parsing would merge.
///
/// # Errors
///
/// [`Malformed`] for bytes that are not such a message.
pub fn predict_request_bytes(log: &Bytes) -> Result<Bytes, Malformed> {
    let mut parts = Vec::new();
    let mut fields = Fields::new(log);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (PREDICT_LOG, Value::Delimited(predict_log)) => {
                let mut fields = Fields::new(predict_log);
                while let Some((number, value)) = fields.next()? {
                    if let (REQUEST, Value::Delimited(request)) = (number, value) {
                        parts.push(request);
                    }
                }
            }
            // Of several logs the last counts.
            (number, Value::Delimited(_)) if OTHER_LOGS.contains(&number) => parts.clear(),
            _ => {}
        }
    }
    Ok(match parts.as_slice() {
        [request] => log.slice_ref(request),
        parts => parts.concat().into(),
    })
}

fn unversioned(name: String, signature_name: String) -> pb::ModelSpec {
    pb::ModelSpec {
        name,
        signature_name,
        version_choice: None,
    }
}

fn examples_request(
    request: ExamplesRequest,
    model: String,
) -> (Option<pb::ModelSpec>, Option<pb::internal::SerializedInput>) {
    let spec = unversioned(model, request.signature_name);
    (Some(spec), Some(examples::to_proto(request.examples)))
}

fn multi_inference_request(request: MultiInferenceRequest) -> pb::MultiInferenceRequest {
    let tasks = request.tasks.into_iter().map(|task| pb::InferenceTask {
        model_spec: Some(unversioned(task.model_name, task.signature_name)),
        method_name: task.method_name,
    });
    pb::MultiInferenceRequest {
        tasks: tasks.collect(),
        input: Some(examples::to_proto(request.examples)),
    }
}

/// `log` followed by a `PredictLog`. Tensors are written once, without intermediate messages.
fn with_predict(log: pb::PredictionLog, request: &[u8], reply: &PredictReply) -> Vec<u8> {
    let mut response = Vec::new();
    reply.encode(&mut response, Vec::reserve);
    let mut message = log.encode_to_vec();
    let len = delimited_len(REQUEST, request.len()) + delimited_len(RESPONSE, response.len());
    message.reserve(delimited_len(PREDICT_LOG, len));
    put_delimited(&mut message, PREDICT_LOG, len);
    put_delimited(&mut message, REQUEST, request.len());
    message.extend_from_slice(request);
    put_delimited(&mut message, RESPONSE, response.len());
    message.extend_from_slice(&response);
    message
}

/// A serialized `PredictRequest`.
fn encode_predict_request(request: &PredictRequest, model: String) -> Vec<u8> {
    const INPUTS: u32 = 2;
    let without_inputs = pb::PredictRequest {
        model_spec: Some(unversioned(model, request.signature_name.clone())),
        output_filter: request.output_filter.clone(),
        ..pb::PredictRequest::default()
    };
    let mut message = without_inputs.encode_to_vec();
    for (alias, input) in &request.inputs {
        // Calls with other tensors do not succeed.
        let RequestTensor::Valid(tensor) = input else {
            continue;
        };
        let tensor = Encoder::new(tensor, Form::TypedField);
        let entry = delimited_len(1, alias.len()) + delimited_len(2, tensor.encoded_len());
        message.reserve(delimited_len(INPUTS, entry));
        put_delimited(&mut message, INPUTS, entry);
        put_delimited(&mut message, 1, alias.len());
        message.extend_from_slice(alias.as_bytes());
        put_delimited(&mut message, 2, tensor.encoded_len());
        tensor.write(&mut message);
    }
    message
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use base::id::ServableId;
    use base::tensor::Tensor;
    use proto::tensorflow as tf;
    use serving::inference::{Examples, PredictResponse, RegressionResponse};

    fn metadata() -> pb::LogMetadata {
        pb::LogMetadata {
            timestamp_secs: 1_700_000_000,
            ..pb::LogMetadata::default()
        }
    }

    fn spec(version: Option<i64>, signature_name: &str) -> Option<pb::ModelSpec> {
        Some(pb::ModelSpec {
            name: "m".to_owned(),
            version_choice: version.map(pb::model_spec::VersionChoice::Version),
            signature_name: signature_name.to_owned(),
        })
    }

    fn tensor(dtype: tf::DataType, floats: &[f32], strings: &[&'static [u8]]) -> tf::TensorProto {
        let dim = tf::tensor_shape_proto::Dim {
            size: 2,
            ..Default::default()
        };
        tf::TensorProto {
            dtype: dtype.into(),
            tensor_shape: Some(tf::TensorShapeProto {
                dim: vec![dim],
                unknown_rank: false,
            }),
            float_val: floats.to_vec(),
            string_val: strings.iter().map(|it| (*it).into()).collect(),
            ..Default::default()
        }
    }

    // prost reads the message with the fields of prediction_log.proto.
    #[test]
    fn predict_log_has_request_and_response() {
        let x = Tensor::from_vec(&[2], vec![1.0f32, 2.0]).unwrap();
        let s = Tensor::from_strings(&[2], vec!["a".into(), "".into()]).unwrap();
        let inputs = BTreeMap::from([
            ("x".to_owned(), RequestTensor::Valid(x.clone())),
            ("s".to_owned(), RequestTensor::Valid(s)),
        ]);
        let request = PredictRequest {
            signature_name: String::new(),
            inputs,
            output_filter: vec!["y".to_owned()],
            deadline: None,
        };
        let response = PredictResponse {
            servable: ServableId::new("m", 7),
            signature_name: "serving_default".to_owned(),
            outputs: vec![("y".to_owned(), x)],
        };
        let bytes = encode(LoggedCall::Predict(request, response), metadata());

        let floats = || tensor(tf::DataType::DtFloat, &[1.0, 2.0], &[]);
        let strings = tensor(tf::DataType::DtString, &[], &[b"a", b""]);
        let expected = pb::PredictionLog {
            log_metadata: Some(pb::LogMetadata {
                model_spec: spec(Some(7), "serving_default"),
                ..metadata()
            }),
            log_type: Some(LogType::PredictLog(pb::PredictLog {
                request: Some(pb::PredictRequest {
                    model_spec: spec(None, ""),
                    inputs: [("x".to_owned(), floats()), ("s".to_owned(), strings)].into(),
                    output_filter: vec!["y".to_owned()],
                    ..Default::default()
                }),
                response: Some(pb::PredictResponse {
                    model_spec: spec(Some(7), "serving_default"),
                    outputs: [("y".to_owned(), floats())].into(),
                }),
            })),
        };
        assert_eq!(pb::PredictionLog::decode(&bytes[..]).unwrap(), expected);
    }

    /// The parts of these logs are in the order of their bytes.
    #[test]
    fn request_of_a_predict_log_is_taken_from_its_bytes() {
        let request = |filter: &str| {
            let request = pb::PredictRequest {
                output_filter: vec![filter.to_owned()],
                ..Default::default()
            };
            pb::PredictionLog {
                log_metadata: Some(metadata()),
                log_type: Some(LogType::PredictLog(pb::PredictLog {
                    request: Some(request),
                    response: Some(pb::PredictResponse::default()),
                })),
            }
            .encode_to_vec()
        };
        let other = pb::PredictionLog {
            log_metadata: None,
            log_type: Some(LogType::ClassifyLog(pb::ClassifyLog::default())),
        }
        .encode_to_vec();
        for (logs, is_shared) in [
            (vec![request("a")], true),
            (vec![request("a"), request("b")], false),
            (vec![request("a"), other, request("b")], true),
            (vec![b"\x32\x00".to_vec()], false),
        ] {
            let log = Bytes::from(logs.concat());
            // prost merges messages as every parser of protobuf does.
            let parsed = pb::PredictionLog::decode(log.clone()).unwrap();
            let Some(LogType::PredictLog(parsed)) = parsed.log_type else {
                panic!("{parsed:?}");
            };
            let bytes = predict_request_bytes(&log).unwrap();
            let request = pb::PredictRequest::decode(bytes.clone()).unwrap();
            assert_eq!(request, parsed.request.unwrap_or_default());
            assert_eq!(log.as_ptr_range().contains(&bytes.as_ptr()), is_shared);
        }
        let cut_off = Bytes::from_static(b"\x32\x03\x0a\x05");
        assert_eq!(predict_request_bytes(&cut_off), Err(Malformed));
    }

    #[test]
    fn regress_log_keeps_examples_and_context() {
        let request = ExamplesRequest {
            signature_name: "r".to_owned(),
            examples: Examples {
                examples: vec!["one".into(), "two".into()],
                context: Some("all".into()),
            },
            deadline: None,
        };
        let response = RegressionResponse {
            servable: ServableId::new("m", 7),
            signature_name: "r".to_owned(),
            values: vec![1.5, 2.5],
        };
        let call = LoggedCall::Regress(request.clone(), response.clone());
        let log = pb::PredictionLog::decode(&encode(call, metadata())[..]).unwrap();
        let Some(LogType::RegressLog(log)) = log.log_type else {
            panic!("{log:?}");
        };
        let sent = log.request.unwrap();
        assert_eq!(sent.model_spec, spec(None, "r"));
        assert_eq!(examples::from_proto(sent.input), request.examples);
        assert_eq!(log.response.unwrap(), regression::to_proto(response));
    }
}
