//! A loader that warms up what another one loads.
//!
//! Not here: what warming up means (`warmup`).

use std::path::Path;
use std::sync::Arc;

use super::Loader;
use crate::servable::{Servable, ServableHandle};
use base::error::{Result, ServingError};
use base::id::ServableId;

/// Runs `warm_up` on every servable before it is handed out; its failure is the load's.
pub struct WarmingLoader<F> {
    inner: Arc<dyn Loader>,
    warm_up: F,
}

impl<F> WarmingLoader<F>
where
    F: Fn(&ServableHandle, &Path) -> Result<()> + Send + Sync,
{
    /// Wraps `inner`. `warm_up` gets the version's directory as well and keeps no handle.
    pub fn new(inner: Arc<dyn Loader>, warm_up: F) -> Self {
        Self { inner, warm_up }
    }
}

impl<F> Loader for WarmingLoader<F>
where
    F: Fn(&ServableHandle, &Path) -> Result<()> + Send + Sync,
{
    fn load(&self, id: &ServableId, directory: &Path) -> Result<Servable> {
        let handle = Arc::new(self.inner.load(id, directory)?);
        (self.warm_up)(&handle, directory)?;
        Arc::into_inner(handle)
            .ok_or_else(|| ServingError::internal("the warmup kept hold of the servable"))
    }
}
