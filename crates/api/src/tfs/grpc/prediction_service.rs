//! `tensorflow.serving.PredictionService`: the handlers, except for `Predict` (`predict`).
//!
//! Each takes a message that was received and decoded, and returns the response message. Not here:
//! permissions (`access`), the semantics (`serving::inference`).

use tokio::sync::OwnedSemaphorePermit;

use crate::access::{AnsweredBy, CallContext};
use base::error::Result;
use net::blocking::off_worker;
use net::concurrency_limit::ConcurrencyLimit;
use proto::tensorflow::serving as pb;
use proto::tensorflow::serving::internal::SerializedInput;
use serving::inference::{
    ClassificationResponse, InferenceService, MultiInferenceResponse, RegressionResponse,
};
use wire::tfs::{classification, examples, metadata, multi_inference, regression};

/// The handlers.
pub(super) struct PredictionHandlers {
    inference: InferenceService,
    serialize_as_tensor_content: bool,
    turns: ConcurrencyLimit,
}

/// The model that a message names; empty if it names none.
pub(super) fn model_name(spec: Option<&pb::ModelSpec>) -> &str {
    spec.map_or("", |spec| spec.name.as_str())
}

impl PredictionHandlers {
    /// Handlers that let `turns` runs happen at a time.
    pub(super) fn new(
        inference: InferenceService,
        serialize_as_tensor_content: bool,
        turns: ConcurrencyLimit,
    ) -> Self {
        Self {
            inference,
            serialize_as_tensor_content,
            turns,
        }
    }

    pub(super) fn inference(&self) -> &InferenceService {
        &self.inference
    }

    pub(super) fn serializes_as_tensor_content(&self) -> bool {
        self.serialize_as_tensor_content
    }

    /// Waits for the call's turn to run.
    pub(super) async fn turn(&self, context: &CallContext) -> Result<Option<OwnedSemaphorePermit>> {
        self.turns.enter(context.deadline).await
    }

    pub(super) async fn classify(
        &self,
        context: &mut CallContext,
        request: pb::ClassificationRequest,
    ) -> Result<pb::ClassificationResponse> {
        let model = model_name(request.model_spec.as_ref());
        begin(context, &[model], &request.input)?;
        let outcome = self.run_classify(context, request).await;
        context.end(outcome.as_ref().map(|it| AnsweredBy {
            servable: &it.servable,
            signature: Some(&it.signature_name),
        }));
        outcome.map(classification::to_proto)
    }

    async fn run_classify(
        &self,
        context: &mut CallContext,
        request: pb::ClassificationRequest,
    ) -> Result<ClassificationResponse> {
        let _turn = self.turn(context).await?;
        let (spec, request) = classification::from_proto(request, context.deadline)?;
        let servable = self.inference.resolve(&spec)?;
        context.reached(&servable, Some(&request.signature_name));
        self.inference.classify(&servable, request).await
    }

    pub(super) async fn regress(
        &self,
        context: &mut CallContext,
        request: pb::RegressionRequest,
    ) -> Result<pb::RegressionResponse> {
        let model = model_name(request.model_spec.as_ref());
        begin(context, &[model], &request.input)?;
        let outcome = self.run_regress(context, request).await;
        context.end(outcome.as_ref().map(|it| AnsweredBy {
            servable: &it.servable,
            signature: Some(&it.signature_name),
        }));
        outcome.map(regression::to_proto)
    }

    async fn run_regress(
        &self,
        context: &mut CallContext,
        request: pb::RegressionRequest,
    ) -> Result<RegressionResponse> {
        let _turn = self.turn(context).await?;
        let (spec, request) = regression::from_proto(request, context.deadline)?;
        let servable = self.inference.resolve(&spec)?;
        context.reached(&servable, Some(&request.signature_name));
        self.inference.regress(&servable, request).await
    }

    pub(super) async fn multi_inference(
        &self,
        context: &mut CallContext,
        request: pb::MultiInferenceRequest,
    ) -> Result<pb::MultiInferenceResponse> {
        let tasks = request.tasks.iter();
        let models: Vec<&str> = tasks
            .map(|task| model_name(task.model_spec.as_ref()))
            .collect();
        begin(context, &models, &request.input)?;
        let outcome = self.run_multi_inference(context, request).await;
        context.end(outcome.as_ref().map(|it| AnsweredBy {
            servable: &it.servable,
            signature: None,
        }));
        outcome.map(multi_inference::to_proto)
    }

    async fn run_multi_inference(
        &self,
        context: &mut CallContext,
        request: pb::MultiInferenceRequest,
    ) -> Result<MultiInferenceResponse> {
        let _turn = self.turn(context).await?;
        let (spec, request) = multi_inference::from_proto(request, context.deadline);
        let servable = self.inference.resolve(&spec)?;
        context.reached(&servable, None);
        self.inference.multi_inference(&servable, request).await
    }

    pub(super) fn get_model_metadata(
        &self,
        context: &mut CallContext,
        request: pb::GetModelMetadataRequest,
    ) -> Result<pb::GetModelMetadataResponse> {
        let model = model_name(request.model_spec.as_ref());
        begin(context, &[model], &None)?;
        let outcome = metadata::from_proto(request)
            .and_then(|(spec, fields)| self.inference.model_metadata(&spec, &fields));
        context.end(outcome.as_ref().map(|it| AnsweredBy {
            servable: &it.servable,
            signature: None,
        }));
        outcome.map(metadata::to_proto)
    }
}

/// Checks the models and the examples that a message contains. The call counts from then on, under the
/// first of the models: in gRPC, a request with a malformed example does not reach a handler.
///
/// # Errors
///
/// `PERMISSION_DENIED`; `INTERNAL` for a malformed example.
fn begin(
    context: &mut CallContext,
    models: &[&str],
    input: &Option<SerializedInput>,
) -> Result<()> {
    context.authorize(models.iter().copied())?;
    let bytes = examples::bytes(input);
    off_worker(bytes, || examples::check(input))?;
    context.begin(models.first().copied().unwrap_or_default());
    Ok(())
}
