//! Where the files of a version may be: in its directory, with links resolved, or in its base path, as
//! Kubernetes lays out mounted volumes (`..data`).
//!
//! A version directory that is itself a link may lead anywhere: who makes it decides which directory is
//! the version. What lies in it may not lead out again.
//!
//! Not here: opening files (`loader::directory`), looking at them (`source::files`).

use std::io::Result;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The folders that hold a version's files.
pub(super) struct Confines {
    /// The version directory, with all links resolved.
    pub(super) root: PathBuf,
    /// The base path, with all links resolved.
    pub(super) base: PathBuf,
}

impl Confines {
    /// Those of `<base path>/<version>`, or of the base path itself where a model lies right in it.
    ///
    /// # Errors
    ///
    /// What the file system says.
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
        // The parent of a version directory is never so wide that a link may lead anywhere.
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

/// The directory of a version that lies right in its base path. It says so, since a base path may be
/// called as a version is: `/models/42`.
pub fn flat(base_path: &Path) -> PathBuf {
    base_path.join(".")
}

/// The directory without what [`flat`] has put there, for messages.
pub fn shown(directory: &Path) -> PathBuf {
    directory.components().collect()
}

fn is_flat(directory: &Path) -> bool {
    directory.as_os_str().as_bytes().ends_with(b"/.")
}
