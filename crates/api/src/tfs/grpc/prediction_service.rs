//! `tensorflow.serving.PredictionService`: the handlers; `predict` decodes and encodes for `Predict`.

use std::sync::Arc;
use std::time::Instant;

use tonic::{Request, Response, Status};

use super::deadline;
use super::status::to_status;
use crate::access::request_metrics::{AnsweredBy, Observation};
use base::error::Result;
use base::id::ServableId;
use base::vocabulary::{Api, Protocol};
use net::blocking::off_worker;
use net::concurrency_limit::ConcurrencyLimit;
use proto::tensorflow::serving as pb;
use proto::tensorflow::serving::internal::SerializedInput;
use proto::tensorflow::serving::prediction_service_server::PredictionService;
use serving::inference::{
    ClassificationResponse, InferenceService, ModelMetadata, MultiInferenceResponse,
    PredictRequest, RegressionResponse,
};
use serving::monitoring::{Direction, Metrics};
use wire::tfs::predict::{PredictCall, PredictReply};
use wire::tfs::{classification, examples, metadata, multi_inference, regression};

/// The handlers.
pub(super) struct PredictionServiceImpl {
    inference: InferenceService,
    metrics: Arc<Metrics>,
    serialize_as_tensor_content: bool,
    gate: ConcurrencyLimit,
}

impl PredictionServiceImpl {
    pub(super) fn new(
        inference: InferenceService,
        metrics: Arc<Metrics>,
        serialize_as_tensor_content: bool,
        gate: ConcurrencyLimit,
    ) -> Self {
        Self {
            inference,
            metrics,
            serialize_as_tensor_content,
            gate,
        }
    }

    pub(super) fn inference(&self) -> &InferenceService {
        &self.inference
    }

    /// `Predict`. `decoding` is the start and the end of decoding the call.
    pub(super) async fn predict(
        &self,
        call: PredictCall,
        decoding: (Instant, Instant),
        deadline: Option<Instant>,
    ) -> Result<PredictReply, Status> {
        let model = call.spec().map_or("", |(spec, _)| spec.name.as_str());
        let mut observation =
            Observation::start(&self.metrics, Protocol::Grpc, Api::Predict, model);
        let run = self.run_predict(call, decoding, deadline, &mut observation);
        let outcome = run.await;
        observation.end(outcome.as_ref().map(|it| {
            let response = &it.response;
            of_signature(&response.servable, &response.signature_name)
        }));
        outcome.map_err(|error| to_status(&error))
    }

    async fn run_predict(
        &self,
        call: PredictCall,
        decoding: (Instant, Instant),
        deadline: Option<Instant>,
        observation: &mut Observation,
    ) -> Result<PredictReply> {
        let _permit = self.gate.enter(deadline).await?;
        let (spec, signature_name) = call.spec()?;
        let servable = self.inference.resolve(spec)?;
        observation.reached(&servable, Some(signature_name));
        let request = PredictRequest {
            signature_name: signature_name.to_owned(),
            inputs: call.inputs,
            output_filter: call.output_filter,
            deadline,
        };
        let response = self.inference.predict(&servable, request).await?;
        let (id, signature_name) = (&response.servable, &response.signature_name);
        self.inference
            .record_codec(id, signature_name, Direction::Decode, decoding);
        Ok(PredictReply {
            response,
            as_tensor_content: self.serialize_as_tensor_content,
        })
    }

    async fn run_classify(
        &self,
        request: pb::ClassificationRequest,
        deadline: Option<Instant>,
        observation: &mut Observation,
    ) -> Result<ClassificationResponse> {
        let _permit = self.gate.enter(deadline).await?;
        let (spec, request) = classification::from_proto(request, deadline)?;
        let servable = self.inference.resolve(&spec)?;
        observation.reached(&servable, Some(&request.signature_name));
        self.inference.classify(&servable, request).await
    }

    async fn run_regress(
        &self,
        request: pb::RegressionRequest,
        deadline: Option<Instant>,
        observation: &mut Observation,
    ) -> Result<RegressionResponse> {
        let _permit = self.gate.enter(deadline).await?;
        let (spec, request) = regression::from_proto(request, deadline)?;
        let servable = self.inference.resolve(&spec)?;
        observation.reached(&servable, Some(&request.signature_name));
        self.inference.regress(&servable, request).await
    }

    async fn run_multi_inference(
        &self,
        request: pb::MultiInferenceRequest,
        deadline: Option<Instant>,
        observation: &mut Observation,
    ) -> Result<MultiInferenceResponse> {
        let _permit = self.gate.enter(deadline).await?;
        let (spec, request) = multi_inference::from_proto(request, deadline);
        let servable = self.inference.resolve(&spec)?;
        observation.reached(&servable, None);
        self.inference.multi_inference(&servable, request).await
    }

    fn model_metadata(&self, request: pb::GetModelMetadataRequest) -> Result<ModelMetadata> {
        let (spec, fields) = metadata::from_proto(request)?;
        self.inference.model_metadata(&spec, &fields)
    }

    /// Counts the call, and converts its outcome to a gRPC response.
    fn finish<T, R>(
        &self,
        observation: Observation,
        outcome: Result<T>,
        answered_by: impl FnOnce(&T) -> AnsweredBy<'_>,
        encode: impl FnOnce(T) -> R,
    ) -> Result<Response<R>, Status> {
        observation.end(outcome.as_ref().map(answered_by));
        outcome
            .map(|answer| Response::new(encode(answer)))
            .map_err(|error| to_status(&error))
    }

    fn observe(&self, api: Api, spec: Option<&pb::ModelSpec>) -> Observation {
        let model = spec.map_or("", |spec| spec.name.as_str());
        Observation::start(&self.metrics, Protocol::Grpc, api, model)
    }
}

/// In gRPC, a request with a malformed example does not reach a handler, and is not counted.
fn check_examples(input: &Option<SerializedInput>) -> Result<(), Status> {
    let bytes = examples::bytes(input);
    off_worker(bytes, || examples::check(input)).map_err(|error| to_status(&error))
}

fn of_signature<'a>(servable: &'a ServableId, signature: &'a str) -> AnsweredBy<'a> {
    AnsweredBy {
        servable,
        signature: Some(signature),
    }
}

#[tonic::async_trait]
impl PredictionService for PredictionServiceImpl {
    async fn classify(
        &self,
        request: Request<pb::ClassificationRequest>,
    ) -> Result<Response<pb::ClassificationResponse>, Status> {
        let deadline = deadline(request.metadata().as_ref());
        let request = request.into_inner();
        check_examples(&request.input)?;
        let mut observation = self.observe(Api::Classify, request.model_spec.as_ref());
        let outcome = self.run_classify(request, deadline, &mut observation).await;
        self.finish(
            observation,
            outcome,
            |it| of_signature(&it.servable, &it.signature_name),
            classification::to_proto,
        )
    }

    async fn regress(
        &self,
        request: Request<pb::RegressionRequest>,
    ) -> Result<Response<pb::RegressionResponse>, Status> {
        let deadline = deadline(request.metadata().as_ref());
        let request = request.into_inner();
        check_examples(&request.input)?;
        let mut observation = self.observe(Api::Regress, request.model_spec.as_ref());
        let outcome = self.run_regress(request, deadline, &mut observation).await;
        self.finish(
            observation,
            outcome,
            |it| of_signature(&it.servable, &it.signature_name),
            regression::to_proto,
        )
    }

    async fn multi_inference(
        &self,
        request: Request<pb::MultiInferenceRequest>,
    ) -> Result<Response<pb::MultiInferenceResponse>, Status> {
        let deadline = deadline(request.metadata().as_ref());
        let request = request.into_inner();
        check_examples(&request.input)?;
        let spec = request
            .tasks
            .first()
            .and_then(|task| task.model_spec.as_ref());
        let mut observation = self.observe(Api::MultiInference, spec);
        let outcome = self
            .run_multi_inference(request, deadline, &mut observation)
            .await;
        self.finish(
            observation,
            outcome,
            |it| AnsweredBy {
                servable: &it.servable,
                signature: None,
            },
            multi_inference::to_proto,
        )
    }

    async fn get_model_metadata(
        &self,
        request: Request<pb::GetModelMetadataRequest>,
    ) -> Result<Response<pb::GetModelMetadataResponse>, Status> {
        let request = request.into_inner();
        let observation = self.observe(Api::Metadata, request.model_spec.as_ref());
        let outcome = self.model_metadata(request);
        self.finish(
            observation,
            outcome,
            |it| AnsweredBy {
                servable: &it.servable,
                signature: None,
            },
            metadata::to_proto,
        )
    }
}
