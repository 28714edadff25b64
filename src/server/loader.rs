//! Stacks the loaders: each adds one thing to what loading a version means.
//!
//! Not here: the loaders themselves (`lifecycle`).

use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::ServerOptions;
use crate::config;
use crate::warmup::Warmup;
use base::error::Result;
use mapper::version_dir::{OnnxLoader, VersionDirectory};
use serving::batching::{BatchScheduler, BatchingOptions};
use serving::lifecycle::{
    BatchingLoader, Loader, LowPriorityLoader, MeasuredBackend, MeasuringLoader, MemoryLimitLoader,
    RunMeasuringLoader, WarmingLoader,
};
use serving::monitoring::{Metrics, resident_memory_bytes};

/// What makes servables: the files read, mapped and loaded, batched, and warmed up.
pub(super) fn loader(options: &ServerOptions, metrics: &Arc<Metrics>) -> Result<Arc<dyn Loader>> {
    let backend = MeasuredBackend::new(options.backend.open()?, Arc::clone(metrics));
    let backend = Arc::new(backend);
    let tags = options.saved_model_tags.clone();
    let loader = OnnxLoader::new(backend).with_saved_model_tags(tags);
    let loader = Arc::new(LowPriorityLoader::new(Arc::new(loader)));
    let mut loader: Arc<dyn Loader> =
        Arc::new(RunMeasuringLoader::new(loader, Arc::clone(metrics)));
    if let Some(batching) = options.batching.clone() {
        let scheduler = Arc::new(BatchScheduler::try_new(&batching)?);
        let per_version = options.batching_per_version;
        let parameters = move |directory: &Path| match per_version {
            true => {
                let version = config::version_batching_options(directory, |name, max_bytes| {
                    VersionDirectory::open(directory)?.read_small(name, max_bytes)
                });
                Ok(version?.map(|version| BatchingOptions {
                    adaptive: batching.adaptive,
                    ..version
                }))
            }
            false => Ok(Some(batching.clone())),
        };
        let metrics = Arc::clone(metrics);
        loader = Arc::new(BatchingLoader::new(loader, scheduler, metrics, parameters));
    }
    let (metrics, measured) = (Arc::clone(metrics), Arc::clone(metrics));
    let warmup = Warmup::new(
        options.warmup,
        options.inference,
        metrics,
        Handle::current(),
    );
    let warm_up = move |servable: &_, directory: &Path| {
        warmup.warm_up(servable, directory, |name| {
            VersionDirectory::open(directory)?.open_file(name)
        })
    };
    let mut loader: Arc<dyn Loader> = Arc::new(WarmingLoader::new(loader, warm_up));
    if let Some(limit) = options.model_memory_limit {
        let limited = MemoryLimitLoader::new(loader, limit, resident_memory_bytes);
        loader = Arc::new(limited);
    }
    Ok(Arc::new(MeasuringLoader::new(loader, measured)))
}
