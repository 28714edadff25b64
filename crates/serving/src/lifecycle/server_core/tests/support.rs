//! Starts a core over a temporary directory, and waits for the expected states.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::lifecycle::fake::FakeLoader;
use crate::lifecycle::{LifecycleOptions, PollWait, ServerCore};
use crate::servable::{ServableHandle, ServableLookup};
use base::error::{Code, Result};
use base::id::{ModelSpec, ServableId, VersionChoice};
use base::vocabulary::ManagerState;
use proto::tensorflow::serving::file_system_storage_path_source_config::ServableVersionPolicy;
use proto::tensorflow::serving::file_system_storage_path_source_config::servable_version_policy::{
    All, Latest, PolicyChoice, Specific,
};
use proto::tensorflow::serving::model_server_config::Config;
use proto::tensorflow::serving::{ModelConfig, ModelConfigList, ModelServerConfig};
use storage::local::{LocalStorage, Storage};

/// Longer than any step takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A core, its loader, and the directory of its models.
pub(super) struct Fixture {
    pub(super) core: Arc<ServerCore>,
    pub(super) loader: Arc<FakeLoader>,
    pub(super) root: TempDir,
}

/// Options with which tests are fast: no retries, frequent polls.
pub(super) fn fast() -> LifecycleOptions {
    LifecycleOptions {
        max_num_load_retries: 0,
        load_retry_interval: Duration::ZERO,
        file_system_poll_wait: PollWait::Every(Duration::from_millis(10)),
        ..LifecycleOptions::default()
    }
}

impl Fixture {
    pub(super) fn new() -> Self {
        Self::with_options(fast())
    }

    pub(super) fn with_options(options: LifecycleOptions) -> Self {
        Self::with_storage(options, Arc::new(LocalStorage))
    }

    pub(super) fn with_storage(options: LifecycleOptions, storage: Arc<dyn Storage>) -> Self {
        let loader = FakeLoader::new();
        let for_core = Arc::<FakeLoader>::clone(&loader);
        Self {
            core: Arc::new(ServerCore::with_storage(options, for_core, storage)),
            loader,
            root: TempDir::new().unwrap(),
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Makes a version directory with a file in it, in one step.
    pub(super) fn add_version(&self, model: &str, version: &str) {
        let directory = self.path(model).join(version);
        let being_made = self.path(&format!("{model}.{version}.new"));
        fs::create_dir_all(self.path(model)).unwrap();
        fs::create_dir(&being_made).unwrap();
        fs::write(being_made.join("model.onnx"), version).unwrap();
        fs::rename(being_made, directory).unwrap();
    }

    /// Waits until the source has looked at the directories a few times, by adding new versions to a model
    /// whose version 1 serves.
    #[track_caller]
    pub(super) fn await_polls(&self, model: &str) {
        self.await_polls_of(model, 1);
    }

    /// As [`await_polls`](Self::await_polls), for the `time`th time.
    #[track_caller]
    pub(super) fn await_polls_of(&self, model: &str, time: usize) {
        let first = 3 * i64::try_from(time).unwrap() - 1;
        for version in first..first + 3 {
            self.add_version(model, &version.to_string());
            self.await_state(model, version, ManagerState::Available);
        }
    }

    pub(super) fn remove_version(&self, model: &str, version: &str) {
        // Renamed in one step, so that no load sees half of it.
        let gone = self.path(&format!("{model}.{version}.gone"));
        fs::rename(self.path(model).join(version), &gone).unwrap();
        fs::remove_dir_all(gone).unwrap();
    }

    /// A model's configuration under its own name.
    pub(super) fn model(&self, name: &str) -> ModelConfig {
        ModelConfig {
            name: name.to_owned(),
            base_path: self.path(name).to_str().unwrap().to_owned(),
            model_platform: "tensorflow".to_owned(),
            ..ModelConfig::default()
        }
    }

    pub(super) fn find(
        &self,
        model: &str,
        version: Option<VersionChoice>,
    ) -> Result<ServableHandle> {
        self.core.servable_handle(&ModelSpec {
            name: model.to_owned(),
            version,
        })
    }

    /// The version that answers if a request asks for none.
    pub(super) fn latest(&self, model: &str) -> Option<i64> {
        self.find(model, None).ok().map(|handle| handle.id.version)
    }

    pub(super) fn state(&self, model: &str, version: i64) -> Option<ManagerState> {
        let states = self.core.states(model);
        let state = states.iter().find(|state| state.id.version == version);
        state.map(|state| state.state)
    }

    #[track_caller]
    pub(super) fn await_state(&self, model: &str, version: i64, state: ManagerState) {
        eventually(&format!("{model} {version} is {state:?}"), || {
            self.state(model, version) == Some(state)
        });
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.core.shutdown();
    }
}

pub(super) fn id(model: &str, version: i64) -> ServableId {
    ServableId::new(model, version)
}

pub(super) fn list(models: impl IntoIterator<Item = ModelConfig>) -> ModelServerConfig {
    ModelServerConfig {
        config: Some(Config::ModelConfigList(ModelConfigList {
            config: models.into_iter().collect(),
        })),
    }
}

pub(super) trait ModelConfigExt {
    fn policy(self, choice: PolicyChoice) -> Self;
    fn label(self, label: &str, version: i64) -> Self;
}

impl ModelConfigExt for ModelConfig {
    fn policy(mut self, choice: PolicyChoice) -> Self {
        self.model_version_policy = Some(ServableVersionPolicy {
            policy_choice: Some(choice),
        });
        self
    }

    fn label(mut self, label: &str, version: i64) -> Self {
        self.version_labels.insert(label.to_owned(), version);
        self
    }
}

pub(super) fn all() -> PolicyChoice {
    PolicyChoice::All(All {})
}

pub(super) fn latest(num_versions: u32) -> PolicyChoice {
    PolicyChoice::Latest(Latest { num_versions })
}

pub(super) fn specific(versions: &[i64]) -> PolicyChoice {
    PolicyChoice::Specific(Specific {
        versions: versions.to_vec(),
    })
}

/// Checks how a configuration is refused.
#[track_caller]
pub(super) fn check_error(fixture: &Fixture, config: ModelServerConfig, code: Code, text: &str) {
    let error = fixture.core.reload(config).unwrap_err();
    assert_eq!((error.to_string().as_str(), error.code()), (text, code));
}

/// Waits until the condition holds.
#[track_caller]
pub(super) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
