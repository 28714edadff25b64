//! A loader whose servables run requests in batches.
//!
//! Not here: batching itself (`batching`), which file has the parameters (`config`).

use std::path::Path;
use std::sync::Arc;

use super::Loader;
use crate::batching::{
    BatchMetrics, BatchScheduler, BatchingExecutor, BatchingOptions, QueueLimits,
};
use crate::error::Result;
use crate::id::ServableId;
use crate::monitoring::Metrics;
use crate::servable::Servable;
use crate::signature::{FeatureTensor, Feed, Signature};

/// Puts a batching executor into every signature that another loader loads. All share one
/// scheduler.
pub struct BatchingLoader<F> {
    inner: Arc<dyn Loader>,
    scheduler: Arc<BatchScheduler>,
    metrics: Arc<Metrics>,
    options: F,
}

impl<F> BatchingLoader<F>
where
    F: Fn(&Path) -> Result<Option<BatchingOptions>> + Send + Sync,
{
    /// Wraps `inner`. `options` says how the version in a directory is batched; `None` if not at
    /// all. Its failure is the load's.
    pub fn new(
        inner: Arc<dyn Loader>,
        scheduler: Arc<BatchScheduler>,
        metrics: Arc<Metrics>,
        options: F,
    ) -> Self {
        Self {
            inner,
            scheduler,
            metrics,
            options,
        }
    }
}

impl<F> Loader for BatchingLoader<F>
where
    F: Fn(&Path) -> Result<Option<BatchingOptions>> + Send + Sync,
{
    fn load(&self, id: &ServableId, directory: &Path) -> Result<Servable> {
        let Some(options) = (self.options)(directory)? else {
            return self.inner.load(id, directory);
        };
        let limits = QueueLimits::try_new(&options)?;
        let servable = self.inner.load(id, directory)?;
        Ok(servable.map_executors(|signature, executor| {
            if !is_fed_by_rows(signature) {
                tracing::info!(servable = %id, signature = signature.name, "not batched");
                return executor;
            }
            let metrics = Arc::clone(&self.metrics);
            BatchingExecutor::wrap(
                executor,
                signature.inputs.len(),
                limits.clone(),
                Arc::clone(&self.scheduler),
                BatchMetrics::new(metrics, id.clone(), signature.name.clone()),
            )
        }))
    }
}

/// Whether dimension 0 of all that the graph is fed with counts the request's rows. That of sparse
/// and ragged features does not: requests with them run by themselves.
fn is_fed_by_rows(signature: &Signature) -> bool {
    signature.feeds.iter().all(|feed| {
        matches!(
            feed,
            Feed::Input(_) | Feed::Feature(_, FeatureTensor::Dense(_))
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Code, ServingError};
    use crate::lifecycle::fake::FakeLoader;

    fn load(options: Result<Option<BatchingOptions>>) -> (Result<Servable>, usize) {
        let inner = FakeLoader::new();
        let scheduler = BatchScheduler::try_new(&BatchingOptions::default()).unwrap();
        let options = std::sync::Mutex::new(Some(options));
        let loader = BatchingLoader::new(
            Arc::clone(&inner) as Arc<dyn Loader>,
            Arc::new(scheduler),
            Arc::new(Metrics::new()),
            move |_: &Path| options.lock().unwrap().take().unwrap(),
        );
        let id = ServableId::new("m", 1);
        let loaded = loader.load(&id, Path::new("m/1"));
        (loaded, inner.loads(&id))
    }

    #[test]
    fn version_loads_with_and_without_options() {
        assert!(load(Ok(None)).0.is_ok());
        assert!(load(Ok(Some(BatchingOptions::default()))).0.is_ok());
    }

    /// `WrapSessionForBatchingConfigError` of `bundle_factory_util_test.cc`.
    #[test]
    fn wrong_options_fail_the_load() {
        let options = BatchingOptions {
            max_batch_size: 2,
            allowed_batch_sizes: vec![1, 3],
            ..BatchingOptions::default()
        };
        let (loaded, loads) = load(Ok(Some(options)));
        assert_eq!(loaded.err().unwrap().code(), Code::InvalidArgument);
        assert_eq!(loads, 0);
    }

    #[test]
    fn unreadable_options_fail_the_load() {
        let (loaded, _) = load(Err(ServingError::invalid_argument("no")));
        assert_eq!(loaded.err().unwrap().to_string(), "no");
    }
}
