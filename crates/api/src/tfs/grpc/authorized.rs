//! Access control of methods and models, in front of the services.
//!
//! A call is checked twice. [`Guard::admit`] knows only its headers and method, and runs before the message
//! is read; [`Authorized`] knows the models that the message names.
//!
//! Not here: the rules (`api::access::auth`).

use std::collections::BTreeSet;
use std::sync::Arc;

use http::{Extensions, Request as HttpRequest};
use tonic::{Request, Response, Status};

use super::api_of;
use super::services::Access;
use super::status::to_status;
use crate::access::auth::{Auth, Caller};
use crate::access::request_metrics::Observation;
use base::error::{Result, ServingError};
use base::vocabulary::{Api, Protocol};
use net::peer::Peer;
use proto::tensorflow::serving as pb;
use proto::tensorflow::serving::model_server_config::Config;
use proto::tensorflow::serving::model_service_server::ModelService;
use proto::tensorflow::serving::prediction_service_server::PredictionService;
use serving::inference::InferenceService;
use serving::monitoring::Metrics;

/// The data for the checks. Refusals are counted here, because no service sees them.
#[derive(Clone)]
pub(super) struct Guard {
    auth: Auth,
    inference: InferenceService,
    metrics: Arc<Metrics>,
}

/// A service whose calls are checked first.
pub(super) struct Authorized<S> {
    service: Arc<S>,
    guard: Guard,
}

impl Guard {
    pub(super) fn new(auth: Auth, inference: InferenceService, metrics: Arc<Metrics>) -> Self {
        Self {
            auth,
            inference,
            metrics,
        }
    }

    /// Wraps a service with the check of models.
    pub(super) fn authorize<S>(&self, service: Arc<S>) -> Authorized<S> {
        Authorized {
            service,
            guard: self.clone(),
        }
    }

    /// Identifies the caller, and notes it in the request. Does not read the message.
    ///
    /// # Errors
    ///
    /// `UNAUTHENTICATED`; `PERMISSION_DENIED` for callers who are not allowed to use the method for any
    /// model.
    pub(super) async fn admit<B>(
        &self,
        request: &mut HttpRequest<B>,
        access: Access,
    ) -> Result<(), Status> {
        if access == Access::Anybody {
            return Ok(());
        }
        let api = api_of(request.uri().path()).unwrap_or(Api::Other);
        let peer = request.extensions().get::<Peer>().cloned();
        let peer = peer.unwrap_or_default();
        let caller = self.auth.authenticate(request.headers_mut(), &peer).await;
        let admitted = caller.and_then(|caller| caller.may_any(api).map(|()| caller));
        let caller = admitted.map_err(|error| self.refuse(api, "", &error))?;
        request.extensions_mut().insert(caller);
        Ok(())
    }

    /// Checks the models that a message names.
    pub(super) fn check<'a>(
        &self,
        extensions: &Extensions,
        api: Api,
        models: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), Status> {
        let caller = extensions.get::<Caller>();
        let caller = caller.ok_or_else(|| Status::internal("the caller is not known"))?;
        for model in models {
            caller
                .may(api, model)
                .map_err(|error| self.refuse(api, model, &error))?;
        }
        Ok(())
    }

    fn refuse(&self, api: Api, model: &str, error: &ServingError) -> Status {
        Observation::start(&self.metrics, Protocol::Grpc, api, model).end(Err(error));
        to_status(error)
    }
}

/// The model that a message names; empty if it names none.
fn name(spec: Option<&pb::ModelSpec>) -> &str {
    spec.map_or("", |spec| spec.name.as_str())
}

#[tonic::async_trait]
impl<S: PredictionService> PredictionService for Authorized<S> {
    async fn classify(
        &self,
        request: Request<pb::ClassificationRequest>,
    ) -> Result<Response<pb::ClassificationResponse>, Status> {
        let model = name(request.get_ref().model_spec.as_ref());
        self.guard
            .check(request.extensions(), Api::Classify, [model])?;
        self.service.classify(request).await
    }

    async fn regress(
        &self,
        request: Request<pb::RegressionRequest>,
    ) -> Result<Response<pb::RegressionResponse>, Status> {
        let model = name(request.get_ref().model_spec.as_ref());
        self.guard
            .check(request.extensions(), Api::Regress, [model])?;
        self.service.regress(request).await
    }

    async fn multi_inference(
        &self,
        request: Request<pb::MultiInferenceRequest>,
    ) -> Result<Response<pb::MultiInferenceResponse>, Status> {
        let tasks = &request.get_ref().tasks;
        let models = tasks.iter().map(|task| name(task.model_spec.as_ref()));
        let extensions = request.extensions();
        self.guard.check(extensions, Api::MultiInference, models)?;
        self.service.multi_inference(request).await
    }

    async fn get_model_metadata(
        &self,
        request: Request<pb::GetModelMetadataRequest>,
    ) -> Result<Response<pb::GetModelMetadataResponse>, Status> {
        let model = name(request.get_ref().model_spec.as_ref());
        self.guard
            .check(request.extensions(), Api::Metadata, [model])?;
        self.service.get_model_metadata(request).await
    }
}

#[tonic::async_trait]
impl<S: ModelService> ModelService for Authorized<S> {
    async fn get_model_status(
        &self,
        request: Request<pb::GetModelStatusRequest>,
    ) -> Result<Response<pb::GetModelStatusResponse>, Status> {
        let model = name(request.get_ref().model_spec.as_ref());
        self.guard
            .check(request.extensions(), Api::Status, [model])?;
        self.service.get_model_status(request).await
    }

    /// The new list replaces the old one, so the caller needs permission for the models of both.
    async fn handle_reload_config_request(
        &self,
        request: Request<pb::ReloadConfigRequest>,
    ) -> Result<Response<pb::ReloadConfigResponse>, Status> {
        let config = request.get_ref().config.as_ref();
        let new = match config.and_then(|config| config.config.as_ref()) {
            Some(Config::ModelConfigList(list)) => &list.config[..],
            _ => &[],
        };
        let old = self.guard.inference.models();
        let mut models: BTreeSet<&str> = old.iter().map(|(name, _)| &**name).collect();
        models.extend(new.iter().map(|model| model.name.as_str()));
        self.guard
            .check(request.extensions(), Api::Reload, models)?;
        self.service.handle_reload_config_request(request).await
    }
}
