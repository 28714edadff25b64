//! The operator's settings for the lifecycle of models.

use std::num::NonZeroUsize;
use std::thread::available_parallelism;
use std::time::Duration;

/// The lifecycle's settings; `Default` has those of a server without flags.
#[derive(Clone, Debug)]
pub struct LifecycleOptions {
    /// The maximum number of retries of a failed load (`--max_num_load_retries`).
    pub max_num_load_retries: u32,
    /// The pause before each retry (`--load_retry_interval_micros`).
    pub load_retry_interval: Duration,
    /// The time after which a load is given up (`--model_load_timeout_seconds`); `None` for no
    /// limit.
    pub model_load_timeout: Option<Duration>,
    /// How many versions load at a time after start-up (`--num_load_threads`); 0 counts as 1.
    pub num_load_threads: usize,
    /// How many versions are destroyed at a time (`--num_unload_threads`); 0 counts as 1.
    pub num_unload_threads: usize,
    /// How many versions load at a time during start-up: 4 for each CPU, as in TensorFlow Serving.
    pub num_initial_load_threads: usize,
    /// When to look for new versions (`--file_system_poll_wait_seconds`).
    pub file_system_poll_wait: PollWait,
    /// How long a new version waits for files that the serving version has
    /// (`--companion_files_wait_seconds`).
    pub companion_files_wait: Duration,
    /// Allows new labels for versions that are not available
    /// (`--allow_version_labels_for_unavailable_models`).
    pub allow_version_labels_for_unavailable_models: bool,
}

impl Default for LifecycleOptions {
    fn default() -> Self {
        let cpus = available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            max_num_load_retries: 5,
            load_retry_interval: Duration::from_secs(60),
            // 100 GB in that time are 56 MB/s, and no working storage is slower.
            model_load_timeout: Some(Duration::from_secs(30 * 60)),
            num_load_threads: 0,
            num_unload_threads: 0,
            num_initial_load_threads: 4 * cpus,
            file_system_poll_wait: PollWait::Every(Duration::from_secs(1)),
            companion_files_wait: Duration::from_secs(10),
            allow_version_labels_for_unavailable_models: false,
        }
    }
}

/// When the source looks at the base paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollWait {
    /// With each change of the configuration, and periodically at this interval.
    Every(Duration),
    /// With each change of the configuration only.
    Once,
    /// Never: no versions are found.
    Never,
}

impl PollWait {
    /// The meaning of a value of `--file_system_poll_wait_seconds`.
    pub fn from_seconds(seconds: i64) -> Self {
        match u64::try_from(seconds) {
            Err(_) => Self::Never,
            Ok(0) => Self::Once,
            Ok(seconds) => Self::Every(Duration::from_secs(seconds)),
        }
    }
}
