//! Metrics of the loads of a loader, of the runs of its servables, and of the graphs that a backend
//! builds.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::signal::Signal;
use super::{Loader, NoRoom, Reservation};
use crate::monitoring::Metrics;
use crate::servable::Servable;
use base::error::{Code, Result, ServingError};
use base::id::ServableId;
use base::tensor::Tensor;
use runtime::{Backend, Execution, Executor, Graph, GraphSource};
use storage::confines;

/// Measures every attempt to load, failed ones included.
pub struct MeasuringLoader {
    inner: Arc<dyn Loader>,
    metrics: Arc<Metrics>,
}

impl MeasuringLoader {
    /// Wraps `inner`.
    pub fn new(inner: Arc<dyn Loader>, metrics: Arc<Metrics>) -> Self {
        Self { inner, metrics }
    }
}

impl Loader for MeasuringLoader {
    fn reserve(
        &self,
        id: &ServableId,
        directory: &Path,
        given_up: &Arc<Signal>,
    ) -> Result<Reservation, NoRoom> {
        let started = Instant::now();
        let reserved = self.inner.reserve(id, directory, given_up);
        if let Err(NoRoom::Refused(error)) = &reserved {
            self.metrics
                .record_load(id, error.code().name(), started.elapsed());
        }
        reserved
    }

    fn load(&self, id: &ServableId, directory: &Path) -> Result<Servable> {
        let started = Instant::now();
        let loaded = self.inner.load(id, directory);
        let code = loaded.as_ref().err().map_or(Code::Ok, ServingError::code);
        self.metrics.record_load(id, code.name(), started.elapsed());
        loaded
    }
}

/// Measures the wait and the run of every request that is not batched, and how long the files of a
/// version take to load. It belongs below batching, which measures its own batches, and below warmup,
/// which TensorFlow does not count as loading.
pub struct RunMeasuringLoader {
    inner: Arc<dyn Loader>,
    metrics: Arc<Metrics>,
}

impl RunMeasuringLoader {
    /// Wraps `inner`.
    pub fn new(inner: Arc<dyn Loader>, metrics: Arc<Metrics>) -> Self {
        Self { inner, metrics }
    }
}

impl Loader for RunMeasuringLoader {
    fn load(&self, id: &ServableId, directory: &Path) -> Result<Servable> {
        let started = Instant::now();
        let loaded = self.inner.load(id, directory);
        let path = confines::shown(directory).display().to_string();
        self.metrics
            .record_files_load(&path, loaded.is_ok(), started.elapsed());
        Ok(loaded?.map_executors(|signature, inner| {
            Arc::new(MeasuredExecutor {
                inner,
                metrics: Arc::clone(&self.metrics),
                servable: id.clone(),
                signature: signature.name.clone(),
            })
        }))
    }
}

/// An executor whose successful runs are measured.
struct MeasuredExecutor {
    inner: Arc<dyn Executor>,
    metrics: Arc<Metrics>,
    servable: ServableId,
    signature: String,
}

impl Executor for MeasuredExecutor {
    fn graph(&self) -> &Arc<dyn Graph> {
        self.inner.graph()
    }

    fn check_inputs(&self, shapes: &mut dyn Iterator<Item = &[usize]>) -> Result<()> {
        self.inner.check_inputs(shapes)
    }

    fn execute(
        &self,
        feeds: Vec<Tensor>,
        fetches: Vec<usize>,
        deadline: Option<Instant>,
    ) -> Execution<'_> {
        Box::pin(async move {
            self.metrics.record_run_start();
            let executed = self.inner.execute(feeds, fetches, deadline).await?;
            let times = executed.times;
            let (metrics, id, signature) = (&self.metrics, &self.servable, &self.signature);
            metrics.record_queue(id, signature, times.started - times.enqueued);
            metrics.record_run(id, signature, times.ended - times.started);
            Ok(executed)
        })
    }
}

/// A backend that measures how long another one takes to build a graph.
pub struct MeasuredBackend {
    inner: Arc<dyn Backend>,
    metrics: Arc<Metrics>,
}

impl MeasuredBackend {
    /// Wraps `inner`.
    pub fn new(inner: Arc<dyn Backend>, metrics: Arc<Metrics>) -> Self {
        Self { inner, metrics }
    }
}

impl Backend for MeasuredBackend {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn version(&self) -> String {
        self.inner.version()
    }

    fn advice(&self, error: &ServingError, producer: &str) -> Option<String> {
        self.inner.advice(error, producer)
    }

    fn may_end_the_process(&self) -> bool {
        self.inner.may_end_the_process()
    }

    fn load(&self, source: GraphSource) -> Result<Arc<dyn Graph>> {
        let started = Instant::now();
        let graph = self.inner.load(source)?;
        self.metrics.record_build(started.elapsed());
        Ok(graph)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Refusing;

    impl Loader for Refusing {
        fn load(&self, _: &ServableId, _: &Path) -> Result<Servable> {
            Err(ServingError::not_found("no model"))
        }
    }

    #[test]
    fn failed_loads_are_counted_under_their_code() {
        let metrics = Arc::new(Metrics::new());
        let loader = MeasuringLoader::new(Arc::new(Refusing), Arc::clone(&metrics));
        let id = ServableId::new("m", 1);
        assert!(loader.load(&id, Path::new("nowhere")).is_err());
        let page = metrics.page();
        let line = page
            .lines()
            .find(|line| line.starts_with("onnx_model_server_model_loads_total{"));
        let line = line.unwrap();
        assert!(line.contains("NOT_FOUND") && line.ends_with(" 1"), "{line}");
    }
}
