//! `tensorflow.serving.PredictionService`.

use std::time::Instant;

use tonic::{Request, Response, Status};

use super::deadline;
use super::status::to_status;
use crate::error::{Result, ServingError};
use crate::inference::{InferenceService, PredictRequest};
use crate::proto::prediction_service::prediction_service_server::PredictionService;
use crate::proto::tensorflow::serving as pb;
use crate::wire::predict::{PredictCall, PredictReply};

/// The handlers.
pub(super) struct PredictionServiceImpl {
    inference: InferenceService,
    serialize_as_tensor_content: bool,
}

impl PredictionServiceImpl {
    pub(super) fn new(inference: InferenceService, serialize_as_tensor_content: bool) -> Self {
        Self {
            inference,
            serialize_as_tensor_content,
        }
    }

    async fn run_predict(
        &self,
        call: PredictCall,
        deadline: Option<Instant>,
    ) -> Result<PredictReply> {
        let (spec, signature_name) = call.spec()?;
        let servable = self.inference.resolve(spec)?;
        let request = PredictRequest {
            signature_name: signature_name.to_owned(),
            inputs: call.inputs,
            output_filter: call.output_filter,
            deadline,
        };
        let response = self.inference.predict(&servable, request).await?;
        Ok(PredictReply {
            response,
            as_tensor_content: self.serialize_as_tensor_content,
        })
    }
}

#[tonic::async_trait]
impl PredictionService for PredictionServiceImpl {
    async fn predict(
        &self,
        request: Request<PredictCall>,
    ) -> Result<Response<PredictReply>, Status> {
        let deadline = deadline(request.metadata().as_ref());
        let reply = self.run_predict(request.into_inner(), deadline).await;
        reply.map(Response::new).map_err(|error| to_status(&error))
    }

    async fn classify(
        &self,
        _: Request<pb::ClassificationRequest>,
    ) -> Result<Response<pb::ClassificationResponse>, Status> {
        Err(to_status(&ServingError::unimplemented(
            "Classify is not served yet",
        )))
    }

    async fn regress(
        &self,
        _: Request<pb::RegressionRequest>,
    ) -> Result<Response<pb::RegressionResponse>, Status> {
        Err(to_status(&ServingError::unimplemented(
            "Regress is not served yet",
        )))
    }

    async fn multi_inference(
        &self,
        _: Request<pb::MultiInferenceRequest>,
    ) -> Result<Response<pb::MultiInferenceResponse>, Status> {
        Err(to_status(&ServingError::unimplemented(
            "MultiInference is not served yet",
        )))
    }

    async fn get_model_metadata(
        &self,
        _: Request<pb::GetModelMetadataRequest>,
    ) -> Result<Response<pb::GetModelMetadataResponse>, Status> {
        Err(to_status(&ServingError::unimplemented(
            "GetModelMetadata is not served yet",
        )))
    }
}
