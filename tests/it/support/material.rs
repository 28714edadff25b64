//! The folders of models and recordings: in the repository, and next to a developer's clone.

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

/// A folder of the material next to the clone, in `../shared` or the folder in `SHARED`. It is not part
/// of the repository; tests that do not find it print that and test less.
pub(crate) fn shared(folder: &str) -> Option<PathBuf> {
    let shared = env::var_os("SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    let folder = shared.join(folder).canonicalize().ok()?;
    folder.is_dir().then_some(folder)
}
