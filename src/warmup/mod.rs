//! Runs a servable before requests do, so that the first of them is not slow
//! (`servables/tensorflow/saved_model_warmup.cc`).
//!
//! A version that brings recorded requests gets those, and fails to load where one fails. For any
//! other version one run of each signature is made up, which never fails a load.
//!
//! Not here: when a load calls this (`lifecycle::WarmingLoader`, put around a loader by `server`).

mod replay;
mod synthesis;

use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Handle;
use tracing::info;

use crate::error::{Result, ServingError};
use crate::id::{ModelSpec, ServableRequest};
use crate::inference::{InferenceOptions, InferenceService};
use crate::monitoring::Metrics;
use crate::servable::{ServableHandle, ServableLookup, ServableState};

/// Where a version keeps its recorded requests.
const WARMUP_FILE: &str = "assets.extra/tf_serving_warmup_requests";

/// What the flags say about warming up.
#[derive(Clone, Copy, Debug)]
pub struct WarmupOptions {
    /// `--enable_model_warmup`; nothing happens without.
    pub is_enabled: bool,
    /// How often each recorded request runs (`--num_request_iterations_for_warmup`); 0 is taken
    /// as 1.
    pub num_request_iterations: u32,
    /// `--synthesize_warmup`: makes up a request for versions that have none recorded.
    pub synthesizes: bool,
}

impl Default for WarmupOptions {
    fn default() -> Self {
        Self {
            is_enabled: true,
            num_request_iterations: 1,
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
    /// A warmup whose calls mean what those of clients mean (`inference`), and that runs them on
    /// the server's `runtime`.
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

    /// Warms `servable` up, whose version directory is `directory`. Blocks: not for async threads.
    ///
    /// # Errors
    ///
    /// Those of the recorded requests and of reading them.
    pub fn warm_up(&self, servable: &ServableHandle, directory: &Path) -> Result<()> {
        if !self.options.is_enabled {
            return Ok(());
        }
        let file = directory.join(WARMUP_FILE);
        if file.exists() {
            return self.replay(servable, directory, &file);
        }
        info!("No warmup data file found at {}", file.display());
        if self.options.synthesizes {
            self.runtime.block_on(synthesis::run_once(servable));
        }
        Ok(())
    }
}

/// Warmup calls come with their servable; which model they name does not matter.
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
