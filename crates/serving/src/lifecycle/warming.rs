//! A loader that warms up the servables of another loader.
//!
//! Not here: the warmup itself (`warmup`).

use std::path::Path;
use std::sync::Arc;

use super::Loader;
use crate::servable::{Servable, ServableHandle};
use base::error::{Result, ServingError};
use base::id::ServableId;

/// Runs `warm_up` on every servable before it is returned. If it fails, the load fails.
pub struct WarmingLoader<F> {
    inner: Arc<dyn Loader>,
    warm_up: F,
}

impl<F> WarmingLoader<F>
where
    F: Fn(&ServableHandle, &Path) -> Result<()> + Send + Sync,
{
    /// Wraps `inner`. `warm_up` also gets the version's directory, and must not keep a handle.
    pub fn new(inner: Arc<dyn Loader>, warm_up: F) -> Self {
        Self { inner, warm_up }
    }
}

impl<F> Loader for WarmingLoader<F>
where
    F: Fn(&ServableHandle, &Path) -> Result<()> + Send + Sync,
{
    fn load(&self, id: &ServableId, directory: &Path) -> Result<Servable> {
        let handle = ServableHandle::new(self.inner.load(id, directory)?);
        (self.warm_up)(&handle, directory)?;
        handle
            .into_inner()
            .ok_or_else(|| ServingError::internal("the warmup kept hold of the servable"))
    }
}
