//! Stacks the loaders: each adds one step to the loading of a version.
//!
//! Not here: the loaders themselves (`lifecycle`).

use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::ServerOptions;
use crate::config;
use crate::warmup::{WARMUP_FILE, Warmup, WarmupOptions};
use base::error::{Code, Result};
use mapper::version_dir::{OnnxLoader, SavedModelOptions, VersionDirectory, not_records};
use runtime::BackendOptions;
use runtime::placement::Placements;
use serving::batching::{BatchScheduler, BatchingOptions, QueueLimits};
use serving::inference::InferenceOptions;
use serving::lifecycle::{
    BatchingLoader, Loader, LowPriorityLoader, MeasuredBackend, MeasuringLoader, MemoryLimitLoader,
    RunMeasuringLoader, ServableLoader, WarmingLoader,
};
use serving::monitoring::{Metrics, resident_memory_bytes};

/// The complete loader: files are read, mapped and loaded, then batched and warmed up.
pub(super) fn loader(options: &ServerOptions, metrics: &Arc<Metrics>) -> Result<Arc<dyn Loader>> {
    let backend = MeasuredBackend::new(options.backend.open()?, Arc::clone(metrics));
    let backend = Arc::new(backend);
    let versions = OnnxLoader::new(backend).with_saved_model_options(options.saved_model.clone());
    let counts = Arc::clone(metrics.run_placements());
    let placements = Arc::new(Placements::new(options.learn_run_placement, counts));
    let loader = ServableLoader::new(versions, Arc::clone(&placements));
    let loader = Arc::new(LowPriorityLoader::new(Arc::new(loader)));
    let mut loader: Arc<dyn Loader> =
        Arc::new(RunMeasuringLoader::new(loader, Arc::clone(metrics)));
    if let Some(batching) = options.batching.clone() {
        let scheduler = Arc::new(BatchScheduler::try_new(&batching)?);
        let per_version = options.batching_per_version;
        let parameters = move |directory: &Path| match per_version {
            true => Ok(version_batching(directory)?.map(|version| BatchingOptions {
                adaptive: batching.adaptive,
                ..version
            })),
            false => Ok(Some(batching.clone())),
        };
        let metrics = Arc::clone(metrics);
        loader = Arc::new(BatchingLoader::new(
            loader, scheduler, metrics, placements, parameters,
        ));
    }
    let (metrics, measured) = (Arc::clone(metrics), Arc::clone(metrics));
    let warmup = Warmup::new(
        options.warmup,
        options.inference,
        metrics,
        Handle::current(),
    );
    let mut loader = warming(loader, warmup);
    if let Some(limit) = options.model_memory_limit {
        let limited = MemoryLimitLoader::new(loader, limit, resident_memory_bytes);
        loader = Arc::new(limited);
    }
    Ok(Arc::new(MeasuringLoader::new(loader, measured)))
}

/// The loader for the command `check`: as in the server without flags, but without metrics. No warmup
/// request is synthesized, because the command runs the signatures itself. `runtime` runs recorded
/// requests.
///
/// # Errors
///
/// Those of opening the backend.
pub fn check_loader(
    backend: &BackendOptions,
    saved_model: SavedModelOptions,
    runtime: Handle,
) -> Result<Arc<dyn Loader>> {
    let versions = OnnxLoader::new(backend.open()?).with_saved_model_options(saved_model);
    let loader = ServableLoader::new(versions, Arc::default());
    let options = WarmupOptions {
        synthesizes: false,
        ..WarmupOptions::default()
    };
    let metrics = Arc::new(Metrics::default());
    let warmup = Warmup::new(options, InferenceOptions::default(), metrics, runtime);
    Ok(warming(Arc::new(loader), warmup))
}

/// Checks the version's own batching parameters, if it has any.
///
/// # Errors
///
/// Those that fail a load with `--enable_per_model_batching_parameters`.
pub fn check_version_batching(directory: &Path) -> Result<()> {
    match version_batching(directory)? {
        Some(options) => QueueLimits::try_new(&options).map(drop),
        None => Ok(()),
    }
}

fn version_batching(directory: &Path) -> Result<Option<BatchingOptions>> {
    config::version_batching_options(directory, |name, max_bytes| {
        VersionDirectory::open(directory)?.read_small(name, max_bytes)
    })
}

fn warming(loader: Arc<dyn Loader>, warmup: Warmup) -> Arc<dyn Loader> {
    let warm_up = move |servable: &_, directory: &Path| {
        let version = VersionDirectory::open(directory)?;
        let warmed = warmup.warm_up(servable, directory, |name| version.open_file(name));
        warmed.map_err(|error| match error.code() {
            Code::DataLoss => not_records(&version, WARMUP_FILE, error),
            _ => error,
        })
    };
    Arc::new(WarmingLoader::new(loader, warm_up))
}
