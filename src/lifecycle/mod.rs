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

mod config_poller;
mod labels;
mod lookup;
mod state_monitor;

pub mod source;

mod manager;
mod memory;
mod policy;
mod signal;

mod batching;
mod fixed_rows;
pub mod loader;
mod low_priority;
mod measuring;
mod memory_limit;
mod warming;

mod options;

#[cfg(test)]
pub(crate) mod fake;

use std::path::Path;

use crate::error::Result;
use crate::id::ServableId;
use crate::servable::Servable;

pub use self::base_path_allowlist::BasePathAllowlist;
pub use self::batching::BatchingLoader;
pub use self::config_poller::ConfigPoller;
pub use self::low_priority::LowPriorityLoader;
pub use self::measuring::{MeasuringLoader, RunMeasuringLoader};
pub use self::memory_limit::MemoryLimitLoader;
pub use self::options::{LifecycleOptions, PollWait};
pub use self::server_core::ServerCore;
pub use self::warming::WarmingLoader;

/// Makes servables out of version directories.
pub trait Loader: Send + Sync {
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
