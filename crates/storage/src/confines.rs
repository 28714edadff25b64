//! Where the files of a version are allowed to be: in its directory, with links resolved, or in its
//! base path, because Kubernetes lays out mounted volumes like that (`..data`).
//!
//! A version directory that is itself a link can lead anywhere, because its creator decides which
//! directory is the version. But links inside it must not lead out again.
//!
//! Not here: opening files (`version_directory`), examining them (`files`).

use std::io::Result;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The folders that contain a version's files.
pub(super) struct Confines {
    /// The version directory, with all links resolved.
    pub(super) root: PathBuf,
    /// The base path, with all links resolved.
    pub(super) base: PathBuf,
}

impl Confines {
    /// The folders of `<base path>/<version>`, or of the base path itself if the model is directly in
    /// it.
    ///
    /// # Errors
    ///
    /// The errors of the file system.
    pub(super) fn of(path: &Path) -> Result<Self> {
        let root = path.canonicalize()?;
        let is_version = |name: &str| name.parse::<u64>().is_ok();
        let name = path.file_name().and_then(|name| name.to_str());
        let base = match path.parent() {
            _ if is_flat(path) || !name.is_some_and(is_version) => root.clone(),
            Some(parent) if parent.as_os_str().is_empty() => Path::new(".").canonicalize()?,
            Some(parent) => parent.canonicalize()?,
            None => root.clone(),
        };
        // A base path of `/` would allow links to anywhere, so it is narrowed to the version directory.
        let base = match base.parent() {
            Some(_) => base,
            None => root.clone(),
        };
        Ok(Self { root, base })
    }

    /// Whether a path without links is in one of the folders.
    pub(super) fn hold(&self, path: &Path) -> bool {
        path.starts_with(&self.root) || path.starts_with(&self.base)
    }
}

/// The directory of a version that is directly in its base path. The path ends in `.`, because the name
/// of a base path can look like a version: `/models/42`.
pub fn flat(base_path: &Path) -> PathBuf {
    base_path.join(".")
}

/// The directory without the suffix that [`flat`] adds, for messages.
pub fn shown(directory: &Path) -> PathBuf {
    directory.components().collect()
}

fn is_flat(directory: &Path) -> bool {
    directory.as_os_str().as_bytes().ends_with(b"/.")
}
