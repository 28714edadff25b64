//! The lifecycle as the rest of the server sees it: applies model configurations, finds servables,
//! returns states (`model_servers/server_core.cc`).
//!
//! Not here: reading configurations (`config`), the RPC that receives one (`api`).

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tracing::info;

use super::labels::assign_labels;
use super::lookup::LookupTable;
use super::manager::{Manager, Parts};
use super::source::{Haste, Source, SourceParts, VersionPolicy, WatchedModel, no_version_error};
use super::state_monitor::{Expectation, StateMonitor};
use super::validate::{
    check_names_and_paths, check_platforms_kept, check_platforms_known, check_transition,
};
use super::{LifecycleOptions, Loader, PollWait};
use crate::servable::{ServableHandle, ServableLookup, ServableState};
use base::error::{Code, Result, ServingError};
use base::id::ModelSpec;
use base::vocabulary::ManagerState;
use proto::tensorflow::serving::model_server_config::Config;
use proto::tensorflow::serving::{ModelConfig, ModelConfigList, ModelServerConfig};
use storage::local::{LocalStorage, Storage, local_path};

/// All models of a server: loads, watches and finds them.
///
/// Its threads stop with [`shutdown`](Self::shutdown), or when it is dropped.
pub struct ServerCore {
    options: LifecycleOptions,
    table: Arc<LookupTable>,
    monitor: Arc<StateMonitor>,
    source: Source,
    manager: Arc<Manager>,
    /// Serialises changes. Not held while a change waits for its models, because another change can
    /// remove them.
    current: Mutex<Current>,
    /// Applies the models' `logging_config`.
    request_logging: OnceLock<Box<RequestLogging>>,
}

/// The current configuration, even if applying it failed half-way.
#[derive(Default)]
struct Current {
    config: Option<Config>,
    /// The number of changes so far.
    changes: u64,
}

/// Applies the `logging_config` of all models, or of none if one fails.
type RequestLogging = dyn Fn(&[ModelConfig]) -> Result<()> + Send + Sync;

/// How a change of the configuration treats new models.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// Waits for each, however long it takes until a version appears.
    UntilPresent,
    /// Waits for each that has a version.
    IfPresent,
    /// Waits for none.
    No,
}

impl ServerCore {
    /// A server without models, on the local file system.
    pub fn new(options: LifecycleOptions, loader: Arc<dyn Loader>) -> Self {
        Self::with_storage(options, loader, Arc::new(LocalStorage))
    }

    /// A server without models that finds versions in `storage`.
    pub fn with_storage(
        options: LifecycleOptions,
        loader: Arc<dyn Loader>,
        storage: Arc<dyn Storage>,
    ) -> Self {
        let table = Arc::<LookupTable>::default();
        let monitor = Arc::<StateMonitor>::default();
        let manager = Arc::new(Manager::new(Parts {
            options: options.clone(),
            loader,
            storage: Arc::clone(&storage),
            table: Arc::clone(&table),
            monitor: Arc::clone(&monitor),
        }));
        let source = Source::new(SourceParts {
            storage,
            sink: Arc::<Manager>::clone(&manager),
            serves: {
                let monitor = Arc::clone(&monitor);
                Box::new(move |model, version| monitor.is_available(model, version))
            },
            poll_wait: options.file_system_poll_wait,
            companion_wait: options.companion_files_wait,
        });
        Self {
            options,
            table,
            monitor,
            source,
            manager,
            current: Mutex::default(),
            request_logging: OnceLock::new(),
        }
    }

    /// Notifies `observer` of every change of a version's state from now on, in order. Call it once,
    /// before the start; `observer` must be quick and must not call back.
    pub fn observe_states(&self, observer: impl Fn(&ServableState) + Send + Sync + 'static) {
        self.monitor.observe(Box::new(observer));
    }

    /// Sets the function that applies the `logging_config` of all models at the end of every change of
    /// the configuration. Call it once, before the start; otherwise models must not have any.
    pub fn apply_request_logging(
        &self,
        apply: impl Fn(&[ModelConfig]) -> Result<()> + Send + Sync + 'static,
    ) {
        // A second call changes nothing.
        let _ = self.request_logging.set(Box::new(apply));
    }

    /// Applies the initial configuration, and blocks until every model has a version that is
    /// available or failed. If a base path has no version, it blocks for ever.
    ///
    /// # Errors
    ///
    /// As [`reload`](Self::reload), with `servable(s) did not become available`.
    pub fn start(&self, config: ModelServerConfig) -> Result<()> {
        self.begin(config, Wait::UntilPresent)?.finish()
    }

    /// Applies the initial configuration without waiting for its models.
    ///
    /// # Errors
    ///
    /// Those of [`reload`](Self::reload) that come before the wait.
    pub fn start_without_waiting(&self, config: ModelServerConfig) -> Result<()> {
        self.begin(config, Wait::No)?.finish()
    }

    /// Applies a new configuration and blocks until every new model has a version that is available or
    /// failed, or until a later configuration removes the model.
    ///
    /// # Errors
    ///
    /// In this order, and with the texts of `ServerCore::ReloadConfig`: `FAILED_PRECONDITION` for
    /// another kind of configuration; `INVALID_ARGUMENT` for duplicate names, relative paths and
    /// changed platforms. From here on the configuration is the current one: `FAILED_PRECONDITION` for
    /// labels of versions that are not available; `INVALID_ARGUMENT` for unknown platforms; `UNKNOWN`
    /// if a new model did not become available; those of the request log for a `logging_config`, or
    /// `INVALID_ARGUMENT` without a request log. `CANCELLED` if the server shuts down meanwhile.
    pub fn reload(&self, config: ModelServerConfig) -> Result<()> {
        self.begin_reload(config)?.finish()
    }

    /// The first half of [`reload`](Self::reload): applies the configuration without waiting for its
    /// models.
    ///
    /// # Errors
    ///
    /// Those of [`reload`](Self::reload) that come before the wait.
    pub fn begin_reload(&self, config: ModelServerConfig) -> Result<Reload<'_>> {
        self.begin(config, Wait::IfPresent)
    }

    /// The configured models that have no available version, and the reason if it is known.
    pub fn models_without_version(&self) -> Vec<(String, Option<String>)> {
        let names = self.source.model_names().into_iter();
        let missing = names.filter_map(|name| {
            let states = self.monitor.states(&name);
            let is_available = states.iter().any(|it| it.state == ManagerState::Available);
            (!is_available).then(|| (name.to_string(), self.what_is_wrong(&name, &states)))
        });
        missing.collect()
    }

    /// The reason why no version of a model is available, if it is known.
    fn what_is_wrong(&self, name: &str, states: &[ServableState]) -> Option<String> {
        if let Some((version, error)) = self.monitor.failed_try(name) {
            return Some(format!("version {version}, to be tried again: {error}"));
        }
        let failed = states.iter().find(|it| it.code != Code::Ok);
        let failed =
            failed.map(|it| format!("version {}: {}: {}", it.id.version, it.code, it.message));
        failed.or_else(|| self.source.remark(name))
    }

    /// The configured models whose base path does not answer because a mount hangs.
    pub fn stalled_models(&self) -> Vec<String> {
        let names = self.source.stalled_models();
        names.iter().map(ToString::to_string).collect()
    }

    /// Stops all threads and ends all waits. Loaded servables stay until the core is dropped.
    pub fn shutdown(&self) {
        self.monitor.close();
        self.source.stop();
        self.manager.stop();
    }

    fn begin(&self, config: ModelServerConfig, wait: Wait) -> Result<Reload<'_>> {
        let mut current = self.lock_current();
        check_transition(current.config.as_ref(), config.config.as_ref())?;
        let Some(config) = config.config else {
            info!("Taking no action for empty config.");
            return Ok(Reload {
                core: self,
                in_force: None,
            });
        };
        let Config::ModelConfigList(ModelConfigList { config: models }) = &config else {
            return Err(ServingError::unimplemented(
                "ModelServer does not yet support custom model config.",
            ));
        };
        check_names_and_paths(models)?;
        if let Some(Config::ModelConfigList(old)) = current.config.as_ref() {
            check_platforms_kept(&old.config, models)?;
        }
        let models = models.clone();
        current.config = Some(config);
        current.changes += 1;

        self.apply_labels(&models, wait)?;
        info!("Adding/updating models.");
        check_platforms_known(&models)?;
        let expectation = self.watch(&models, wait)?;
        Ok(Reload {
            core: self,
            in_force: Some(InForce {
                change: current.changes,
                models,
                expectation,
                wait,
            }),
        })
    }

    fn lock_current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply_labels(&self, models: &[ModelConfig], wait: Wait) -> Result<()> {
        let labels = assign_labels(
            models,
            &self.table.labels(),
            &self.monitor,
            self.options.allow_version_labels_for_unavailable_models,
            wait != Wait::IfPresent,
        )?;
        self.table.set_labels(labels);
        Ok(())
    }

    /// Watches these models from now on and looks for their versions. Returns the expectation that the
    /// new models finish loading.
    fn watch(&self, models: &[ModelConfig], wait: Wait) -> Result<Expectation<'_>> {
        let watched = models
            .iter()
            .map(|model| {
                info!(" (Re-)adding model: {}", model.name);
                Ok(WatchedModel {
                    name: Arc::from(model.name.as_str()),
                    base_path: local_path(&model.base_path)?,
                    policy: VersionPolicy::from_config(model.model_version_policy.as_ref()),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let old_names = self.source.model_names();
        let new_names: Vec<_> = watched
            .iter()
            .map(|model| Arc::clone(&model.name))
            .filter(|name| !old_names.contains(name))
            .collect();

        let is_kept = |name: &&Arc<str>| watched.iter().any(|model| model.name == **name);
        for removed in old_names.iter().filter(|name| !is_kept(name)) {
            // Earlier changes no longer wait for this model.
            self.monitor.give_up(removed, &removed_while_loading());
        }
        // Created before the first version appears, so that none is missed.
        let expectation = self.monitor.expect(new_names);
        self.source.watch(watched);
        let is_start = wait != Wait::IfPresent;
        if is_start {
            self.manager.begin_start_up();
        }
        let polled = self.poll_now(&expectation, wait);
        if is_start {
            self.manager.end_start_up();
        }
        polled?;
        Ok(expectation)
    }

    /// Looks for versions. A reload does not wait for models that have no versions, or whose base path
    /// does not answer.
    fn poll_now(&self, expectation: &Expectation<'_>, wait: Wait) -> Result<()> {
        if self.options.file_system_poll_wait == PollWait::Never {
            if wait == Wait::IfPresent {
                expectation.give_up_all(&ServingError::not_found(
                    "the file system is never polled for versions",
                ));
            }
            return Ok(());
        }
        let haste = match wait {
            Wait::UntilPresent | Wait::No => Haste::Start,
            Wait::IfPresent => Haste::Reload,
        };
        let found = self.source.poll(haste)?;
        if wait == Wait::IfPresent {
            for (model, versions) in found {
                match versions {
                    Ok(0) => {
                        let remark = self.source.remark(&model.name);
                        let error = no_version_error(&model, remark.as_deref());
                        expectation.give_up(&model.name, &error);
                    }
                    Ok(_) => {}
                    Err(error) => expectation.give_up(&model.name, &error),
                }
            }
        }
        Ok(())
    }
}

/// An applied configuration, whose models can still be loading.
pub struct Reload<'a> {
    core: &'a ServerCore,
    /// `None` for an empty configuration.
    in_force: Option<InForce<'a>>,
}

struct InForce<'a> {
    /// The number of the change.
    change: u64,
    models: Vec<ModelConfig>,
    expectation: Expectation<'a>,
    wait: Wait,
}

impl Reload<'_> {
    /// Whether [`finish`](Self::finish) would return immediately.
    pub fn is_decided(&self) -> bool {
        let in_force = self.in_force.as_ref();
        in_force.is_none_or(|it| it.wait == Wait::No || it.expectation.is_decided())
    }

    /// Blocks until every new model of the configuration has a version that is available or failed,
    /// then applies the `logging_config`s.
    ///
    /// # Errors
    ///
    /// Those of [`ServerCore::reload`] that occur during and after the wait.
    pub fn finish(self) -> Result<()> {
        let Some(in_force) = self.in_force else {
            return Ok(());
        };
        match in_force.wait {
            Wait::UntilPresent => in_force.expectation.wait("servable")?,
            Wait::IfPresent => in_force.expectation.wait("model")?,
            Wait::No => {}
        }
        info!("Finished adding/updating models");
        let (core, models) = (self.core, in_force.models);
        let current = core.lock_current();
        if current.changes != in_force.change {
            // A later configuration decides about logging.
            return Ok(());
        }
        match core.request_logging.get() {
            Some(apply) => apply(&models),
            None if models.iter().any(|model| model.logging_config.is_some()) => Err(
                ServingError::invalid_argument("No request-logger-creator provided."),
            ),
            None => Ok(()),
        }
    }
}

fn removed_while_loading() -> ServingError {
    let text = "a later configuration does not name the model any more";
    ServingError::new(Code::Cancelled, text)
}

impl ServableLookup for ServerCore {
    fn servable_handle(&self, spec: &ModelSpec) -> Result<ServableHandle> {
        self.table.find(spec)
    }

    fn states(&self, model: &str) -> Vec<ServableState> {
        self.monitor.states(model)
    }

    fn models(&self) -> Vec<Arc<str>> {
        self.monitor.models()
    }
}

impl Drop for ServerCore {
    fn drop(&mut self) {
        self.shutdown();
    }
}

#[cfg(test)]
mod tests;
