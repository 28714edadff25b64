//! Where models and recordings lie: in the repository, and beside a developer's clone.

use std::env;
use std::path::{Path, PathBuf};

/// `tests/data`.
pub(crate) fn data() -> PathBuf {
    root().join("tests/data")
}

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder of the material beside the clone, in `../shared` or where `SHARED` says. It is not
/// part of the repository; tests that find it missing say so and do with less.
pub(crate) fn shared(folder: &str) -> Option<PathBuf> {
    let shared = env::var_os("SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    let folder = shared.join(folder).canonicalize().ok()?;
    folder.is_dir().then_some(folder)
}
