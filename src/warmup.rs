//! Runs a servable before clients do, so that their first requests are not slow
//! (`servables/tensorflow/saved_model_warmup.cc`).
//!
//! If a version has recorded requests, those are run, and the load fails if one of them fails. For any
//! other version one request for each signature is synthesized, and a failure does not fail the load.
//!
//! Not here: when a load calls this (`serving::lifecycle::WarmingLoader`, put around a loader by `server`).

mod replay;
mod synthesis;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tracing::info;

use base::error::{Result, ServingError};
use base::id::{ModelSpec, ServableRequest};
use serving::inference::{InferenceOptions, InferenceService};
use serving::monitoring::Metrics;
use serving::servable::{ServableHandle, ServableLookup, ServableState};

/// Where a version has its recorded requests.
pub const WARMUP_FILE: &str = "assets.extra/tf_serving_warmup_requests";

/// The flags about warming up.
#[derive(Clone, Copy, Debug)]
pub struct WarmupOptions {
    /// `--enable_model_warmup`; without it nothing happens.
    pub is_enabled: bool,
    /// How often each recorded request runs (`--num_request_iterations_for_warmup`); 0 counts as 1.
    pub num_request_iterations: u32,
    /// The time limit for all requests together, after which the load fails
    /// (`--model_load_timeout_seconds`); `None` for no limit.
    pub timeout: Option<Duration>,
    /// `--synthesize_warmup`: makes up a request for versions without recorded ones.
    pub synthesizes: bool,
}

impl Default for WarmupOptions {
    fn default() -> Self {
        Self {
            is_enabled: true,
            num_request_iterations: 1,
            timeout: None,
            synthesizes: true,
        }
    }
}

/// Warms servables up.
pub struct Warmup {
    options: WarmupOptions,
    inference: InferenceService,
    metrics: Arc<Metrics>,
    runtime: Handle,
}

impl Warmup {
    /// A warmup whose calls are handled as those of clients (`inference`), and that runs them on the
    /// server's `runtime`.
    pub fn new(
        options: WarmupOptions,
        inference: InferenceOptions,
        metrics: Arc<Metrics>,
        runtime: Handle,
    ) -> Self {
        let service = InferenceService::new(Arc::new(NoServables), Arc::clone(&metrics));
        Self {
            options,
            inference: service.with_options(inference),
            metrics,
            runtime,
        }
    }

    /// Warms `servable` up, whose version directory is `directory`. `open` opens a file in there and
    /// returns its size, too; `None` if the file does not exist. Blocks: not for async threads.
    ///
    /// # Errors
    ///
    /// Those of the recorded requests and of reading them; `DEADLINE_EXCEEDED` if they take too long.
    pub fn warm_up(
        &self,
        servable: &ServableHandle,
        directory: &Path,
        open: impl FnOnce(&str) -> Result<Option<(File, u64)>>,
    ) -> Result<()> {
        if !self.options.is_enabled {
            return Ok(());
        }
        let path = directory.join(WARMUP_FILE);
        let file = match open(WARMUP_FILE) {
            Ok(Some(file)) => Ok(file),
            Err(error) => Err(error),
            Ok(None) => {
                info!("No warmup data file found at {}", path.display());
                if self.options.synthesizes {
                    self.runtime.block_on(synthesis::run_once(servable));
                }
                return Ok(());
            }
        };
        self.replay(servable, directory, &path, file)
    }
}

/// Warmup calls come with their servable, so the name of the model does not matter.
struct NoServables;

impl ServableLookup for NoServables {
    fn servable_handle(&self, spec: &ModelSpec) -> Result<ServableHandle> {
        let request = ServableRequest::Latest(spec.name.clone());
        Err(ServingError::ServableNotFound(request))
    }

    fn states(&self, _: &str) -> Vec<ServableState> {
        Vec::new()
    }

    fn models(&self) -> Vec<Arc<str>> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests;
