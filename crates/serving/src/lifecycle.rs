//! From directories to servables: which versions exist, which are wanted, how one is loaded.
//!
//! A *source* watches base paths and reports which versions are aspired; the *manager* decides the
//! order of loads and unloads; a [`Loader`] makes a servable from a version directory.
//! [`ServerCore`] combines them and applies configurations.
//!
//! Not here: the use of a servable by a request (`servable`, `inference`), reading configuration
//! files and flags (`config`).

mod base_path_allowlist;
mod server_core;
mod validate;

mod check;
mod config_poller;
mod labels;
mod lookup;
mod state_monitor;

pub mod source;

mod manager;
mod patience;
mod policy;
mod signal;

mod batching;
mod fixed_rows;
mod low_priority;
mod measuring;
mod memory_limit;
mod onnx_loader;
mod warming;

mod options;

#[cfg(test)]
pub(crate) mod fake;

use std::any::Any;
use std::path::Path;
use std::sync::Arc;

use self::signal::Signal;
use crate::servable::Servable;
use base::error::{Result, ServingError};
use base::id::ServableId;

pub use self::base_path_allowlist::BasePathAllowlist;
pub use self::batching::BatchingLoader;
pub use self::check::{CheckReport, check};
pub use self::config_poller::ConfigPoller;
pub use self::low_priority::LowPriorityLoader;
pub use self::measuring::{MeasuredBackend, MeasuringLoader, RunMeasuringLoader};
pub use self::memory_limit::MemoryLimitLoader;
pub use self::onnx_loader::ServableLoader;
pub use self::options::{LifecycleOptions, PollWait};
pub use self::server_core::{Reload, ServerCore};
pub use self::warming::WarmingLoader;

/// Makes servables from version directories.
pub trait Loader: Send + Sync {
    /// Reserves the resources of a load. Called before [`load`](Self::load), on the same thread; the
    /// result is dropped after the load. `given_up` is raised when no one waits for the load any more:
    /// other loads must then not wait for its reservation. Does not wait for other loads.
    ///
    /// # Errors
    ///
    /// [`NoRoom`] if the load must not begin now.
    fn reserve(
        &self,
        _id: &ServableId,
        _directory: &Path,
        _given_up: &Arc<Signal>,
    ) -> Result<Reservation, NoRoom> {
        Ok(Reservation::default())
    }

    /// Loads the version in `directory` completely: after it returns, nothing is read from there.
    /// Called on a loading thread, and can take minutes. A failed load leaves nothing behind and can
    /// be tried again.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` if the model is missing, `INVALID_ARGUMENT` if it is broken; the text names the
    /// file.
    fn load(&self, id: &ServableId, directory: &Path) -> Result<Servable>;
}

/// The resources that a load holds until it ends. Dropping it releases them.
#[derive(Default)]
pub struct Reservation {
    _held: Option<Box<dyn Any + Send>>,
}

impl Reservation {
    fn new(held: impl Any + Send) -> Self {
        let held: Box<dyn Any + Send> = Box::new(held);
        Self { _held: Some(held) }
    }
}

/// Why a load must not begin.
pub enum NoRoom {
    /// The load does not fit now, but might fit after other loads have ended.
    ForNow,
    /// The load failed, or does not fit and no other load is expected to free memory.
    Refused(ServingError),
}

impl From<ServingError> for NoRoom {
    fn from(error: ServingError) -> Self {
        Self::Refused(error)
    }
}
