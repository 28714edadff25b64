//! From directories to servables: which versions there are, which are wanted, how one is loaded.
//!
//! A *source* watches base paths and says which versions are aspired; the *manager* decides the
//! order of loads and unloads; a [`Loader`] makes a servable out of a version directory.
//!
//! Not here: what a request does with a servable (`servable`, `inference`).

pub mod loader;

use std::path::Path;

use crate::error::Result;
use crate::id::ServableId;
use crate::servable::Servable;

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
