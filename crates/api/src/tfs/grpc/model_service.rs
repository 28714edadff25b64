//! `tensorflow.serving.ModelService`: the handlers.
//!
//! Not here: permissions (`access`), replacing the configuration (`serving::lifecycle`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::prediction_service::model_name;
use crate::access::CallContext;
use base::error::{Code, Result, ServingError};
use base::panics;
use net::concurrency_limit::ConcurrencyLimit;
use proto::tensorflow::serving as pb;
use proto::tensorflow::serving::model_server_config::Config;
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
pub(super) struct ModelHandlers {
    inference: InferenceService,
    metrics: Arc<Metrics>,
    reloader: Arc<dyn ReloadConfig>,
    /// Reloads wait for each other here, where waiting needs no thread.
    turns: ConcurrencyLimit,
}

impl ModelHandlers {
    pub(super) fn new(
        inference: InferenceService,
        metrics: Arc<Metrics>,
        reloader: Arc<dyn ReloadConfig>,
    ) -> Self {
        Self {
            inference,
            metrics,
            reloader,
            turns: ConcurrencyLimit::new(Some(1)),
        }
    }

    pub(super) fn get_model_status(
        &self,
        context: &mut CallContext,
        request: pb::GetModelStatusRequest,
    ) -> Result<pb::GetModelStatusResponse> {
        let model = model_name(request.model_spec.as_ref());
        context.authorize([model])?;
        context.begin(model);
        let outcome = self.model_status(request);
        context.end_with_code(code_of(&outcome), None);
        outcome
    }

    /// The new list replaces the old one, so the caller needs permission for the models of both.
    pub(super) async fn handle_reload_config_request(
        &self,
        context: &mut CallContext,
        request: pb::ReloadConfigRequest,
    ) -> Result<pb::ReloadConfigResponse> {
        let config = request.config.as_ref();
        let new = match config.and_then(|config| config.config.as_ref()) {
            Some(Config::ModelConfigList(list)) => &list.config[..],
            _ => &[],
        };
        let old = self.inference.models();
        let mut models: BTreeSet<&str> = old.iter().map(|(name, _)| &**name).collect();
        models.extend(new.iter().map(|model| model.name.as_str()));
        context.authorize(models)?;
        context.begin("");
        let outcome = self.reload(request, context.deadline).await;
        context.end_with_code(code_of(&outcome), None);
        outcome
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
            matches!(config.config, Some(Config::ModelConfigList(_)))
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
        let permit = self.turns.enter(deadline).await?;
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

fn code_of<T>(outcome: &Result<T>) -> Code {
    outcome.as_ref().err().map_or(Code::Ok, ServingError::code)
}
