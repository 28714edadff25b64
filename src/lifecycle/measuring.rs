//! A loader that counts and measures the loads of another one.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::Loader;
use crate::error::{Code, Result, ServingError};
use crate::id::ServableId;
use crate::monitoring::Metrics;
use crate::servable::Servable;

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
    fn load(&self, id: &ServableId, directory: &Path) -> Result<Servable> {
        let started = Instant::now();
        let loaded = self.inner.load(id, directory);
        let code = loaded.as_ref().err().map_or(Code::Ok, ServingError::code);
        self.metrics.record_load(id, code.name(), started.elapsed());
        loaded
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
