//! The Predict RPC with a client's tensors.

use std::collections::BTreeMap;

use proto::tensorflow::TensorProto;
use proto::tensorflow::serving::model_spec::VersionChoice;
use proto::tensorflow::serving::{ModelSpec, PredictRequest, PredictResponse};
use tonic::Status;

use super::grpc::GrpcClient;
use super::tensor::TestTensor;

pub(crate) const PREDICT: &str = "/tensorflow.serving.PredictionService/Predict";

/// A model by name, and a signature; `""` sends none.
pub(crate) fn model(name: &str, signature_name: &str) -> ModelSpec {
    ModelSpec {
        name: name.to_owned(),
        signature_name: signature_name.to_owned(),
        version_choice: None,
    }
}

/// One version of a model.
pub(crate) fn model_version(name: &str, version: i64, signature_name: &str) -> ModelSpec {
    ModelSpec {
        version_choice: Some(VersionChoice::Version(version)),
        ..model(name, signature_name)
    }
}

/// A request of one input.
pub(crate) fn request(model: ModelSpec, alias: &str, tensor: TensorProto) -> PredictRequest {
    PredictRequest {
        model_spec: Some(model),
        inputs: BTreeMap::from([(alias.to_owned(), tensor)]),
        ..PredictRequest::default()
    }
}

/// Calls Predict; the outputs by alias.
pub(crate) async fn call(
    client: &GrpcClient,
    request: &PredictRequest,
) -> Result<BTreeMap<String, TestTensor>, Status> {
    let response: PredictResponse = client.call_as(PREDICT, request).await?;
    let outputs = response.outputs.into_iter();
    let read = |proto: TensorProto| TestTensor::from_proto(&proto).expect("a tensor");
    Ok(outputs.map(|(alias, proto)| (alias, read(proto))).collect())
}
