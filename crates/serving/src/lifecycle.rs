//! From directories to servables: which versions there are, which are wanted, how one is loaded.
//!
//! A *source* watches base paths and says which versions are aspired; the *manager* decides the
//! order of loads and unloads; a [`Loader`] makes a servable out of a version directory.
//! [`ServerCore`] puts them together and applies configurations.
//!
//! Not here: what a request does with a servable (`servable`, `inference`), reading configuration
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
pub use self::options::{LifecycleOptions, PollWait};
pub use self::server_core::{Reload, ServerCore};
pub use self::warming::WarmingLoader;

/// Makes servables out of version directories.
pub trait Loader: Send + Sync {
    /// Sets aside what a load takes beside its time. Called before [`load`](Self::load), on the same
    /// thread; what it returns is dropped after it. `given_up` is raised when the load is not waited
    /// for any more: others must not wait for what it holds. Waits for no other load.
    ///
    /// # Errors
    ///
    /// [`NoRoom`], where the load must not begin now.
    fn reserve(
        &self,
        _id: &ServableId,
        _directory: &Path,
        _given_up: &Arc<Signal>,
    ) -> Result<Reservation, NoRoom> {
        Ok(Reservation::default())
    }

    /// Loads the version in `directory`, completely: once it returns, nothing is read from there.
    /// Called on a loading thread; may take minutes. A failed load leaves nothing behind and may
    /// be tried again.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` where there is no model, `INVALID_ARGUMENT` where there is a broken one; the
    /// text names the file.
    fn load(&self, id: &ServableId, directory: &Path) -> Result<Servable>;
}

/// What a load holds until it ends, which its drop gives back.
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
    /// It would fit without other loads that will end.
    ForNow,
    /// It would not fit, whichever other load ends.
    Refused(ServingError),
}

impl From<ServingError> for NoRoom {
    fn from(error: ServingError) -> Self {
        Self::Refused(error)
    }
}
