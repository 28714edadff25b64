//! `tensorflow.serving.ModelService`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use tonic::{Request, Response, Status};

use super::deadline;
use super::status::to_status;
use crate::access::request_metrics::Observation;
use base::error::{Code, Result, ServingError};
use base::panics;
use base::vocabulary::{Api, Protocol};
use net::concurrency_limit::ConcurrencyLimit;
use proto::tensorflow::serving as pb;
use serving::inference::InferenceService;
use serving::monitoring::Metrics;
use wire::tfs::{model_spec, status};

/// Puts a new model configuration into effect. Implemented by the server, on top of `lifecycle`.
pub trait ReloadConfig: Send + Sync {
    /// Replaces the configuration. Returns once every newly named model has a version that is available or
    /// has ended. Blocks for as long as loading takes. `in_force` is called once the next call need not
    /// wait for this one.
    ///
    /// # Errors
    ///
    /// Those of `ServerCore::ReloadConfig` (`model_servers/server_core.cc`).
    fn reload(
        &self,
        config: pb::ModelServerConfig,
        in_force: Box<dyn FnOnce() + Send>,
    ) -> Result<()>;
}

/// The handlers.
pub(super) struct ModelServiceImpl {
    inference: InferenceService,
    metrics: Arc<Metrics>,
    reloader: Arc<dyn ReloadConfig>,
    /// Reloads wait for each other here, where waiting needs no thread.
    gate: ConcurrencyLimit,
}

impl ModelServiceImpl {
    pub(super) fn new(
        inference: InferenceService,
        metrics: Arc<Metrics>,
        reloader: Arc<dyn ReloadConfig>,
    ) -> Self {
        Self {
            inference,
            metrics,
            reloader,
            gate: ConcurrencyLimit::new(Some(1)),
        }
    }

    fn observe(&self, api: Api, model: String) -> Observation {
        Observation::start(&self.metrics, Protocol::Grpc, api, model)
    }

    fn model_status(
        &self,
        request: pb::GetModelStatusRequest,
    ) -> Result<pb::GetModelStatusResponse> {
        let (spec, _) = model_spec::from_proto(request.model_spec)?;
        let states = self.inference.model_status(&spec)?;
        Ok(status::to_proto(states))
    }

    async fn reload(
        &self,
        request: pb::ReloadConfigRequest,
        deadline: Option<Instant>,
    ) -> Result<pb::ReloadConfigResponse> {
        let is_list = |config: &pb::ModelServerConfig| {
            matches!(
                config.config,
                Some(pb::model_server_config::Config::ModelConfigList(_))
            )
        };
        let Some(config) = request.config.filter(is_list) else {
            return Err(ServingError::invalid_argument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. \
                 Only ModelConfigList is currently supported",
            ));
        };
        let names: BTreeSet<String> = request.metric_names.into_iter().collect();
        let values = |metrics: &Metrics| -> Vec<i64> {
            names.iter().map(|name| metrics.first_value(name)).collect()
        };
        let permit = self.gate.enter(deadline).await?;
        let before = values(&self.metrics);
        let reloader = Arc::clone(&self.reloader);
        // A reload continues if its caller leaves. The next one can remove the models that this one waits
        // for.
        let in_force = Box::new(move || drop(permit));
        let reload = tokio::task::spawn_blocking(move || reloader.reload(config, in_force));
        reload
            .await
            .map_err(|_| panics::ended_abnormally("the reload"))??;
        let after = values(&self.metrics);
        let increases = before
            .into_iter()
            .zip(after)
            .map(|(before, after)| after - before);
        let metric = names
            .into_iter()
            .zip(increases)
            .map(|(name, increase)| pb::Metric {
                name,
                value_increase: Some(pb::metric::ValueIncrease::Int64ValueIncrease(increase)),
            });
        let metric = metric.collect();
        Ok(pb::ReloadConfigResponse {
            status: Some(pb::StatusProto::default()),
            metric,
        })
    }
}

#[tonic::async_trait]
impl pb::model_service_server::ModelService for ModelServiceImpl {
    async fn get_model_status(
        &self,
        request: Request<pb::GetModelStatusRequest>,
    ) -> Result<Response<pb::GetModelStatusResponse>, Status> {
        let request = request.into_inner();
        let model = request.model_spec.as_ref().map(|spec| spec.name.clone());
        let observation = self.observe(Api::Status, model.unwrap_or_default());
        finish(observation, self.model_status(request))
    }

    async fn handle_reload_config_request(
        &self,
        request: Request<pb::ReloadConfigRequest>,
    ) -> Result<Response<pb::ReloadConfigResponse>, Status> {
        let deadline = deadline(request.metadata().as_ref());
        let observation = self.observe(Api::Reload, String::new());
        finish(
            observation,
            self.reload(request.into_inner(), deadline).await,
        )
    }
}

/// Counts the call, and converts its outcome to a gRPC response.
fn finish<T>(observation: Observation, outcome: Result<T>) -> Result<Response<T>, Status> {
    let code = outcome.as_ref().err().map_or(Code::Ok, ServingError::code);
    observation.end_with_code(code, None);
    outcome
        .map(Response::new)
        .map_err(|error| to_status(&error))
}
