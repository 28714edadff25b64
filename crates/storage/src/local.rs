//! Where version directories are: the file system trait for the source and the loads, and the local
//! file system behind it.
//!
//! Not here: the properties of a version's files (`files`), which names are versions
//! (`source::versions`), reading a model (`mapper::version_dir`).

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::file_error::describe;
use super::version_directory::VersionDirectory;
use base::error::{Code, Result, ServingError};

pub use super::files::{Files, Fingerprint};

/// The most names that a base path can have; beyond that it is an error rather than a memory problem.
const MAX_CHILDREN: usize = 1_000_000;

/// A file system as the source sees it. Every call can block and can fail at any time.
pub trait Storage: Send + Sync {
    /// Names of the direct children of a directory, in any order. Names that are not Unicode can be
    /// missing.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` with `<path> not found` if the directory does not exist; otherwise the error of the
    /// file system.
    fn children(&self, directory: &Path) -> Result<Vec<String>>;

    /// Whether something of this name exists.
    ///
    /// # Errors
    ///
    /// The error of the file system, if it cannot tell.
    fn exists(&self, path: &Path) -> Result<bool>;

    /// Names, sizes and times of the files under `path`, or of the file itself.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` if there is nothing; `RESOURCE_EXHAUSTED` if there are too many files.
    fn files(&self, path: &Path) -> Result<Files>;

    /// The contents of a regular file in a version directory, if it has no more than `max_bytes` and
    /// can be read.
    fn small_file(&self, directory: &Path, name: &str, max_bytes: u64) -> Option<Bytes> {
        let _ = (directory, name, max_bytes);
        None
    }
}

/// The file system of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalStorage;

/// The local directory of a configured base path.
///
/// # Errors
///
/// `UNIMPLEMENTED`, naming the scheme, for anything but a plain path or a `file://` URI.
pub fn local_path(base_path: &str) -> Result<PathBuf> {
    match base_path.split_once("://") {
        Some(("file", path)) if path.starts_with('/') => Ok(PathBuf::from(path)),
        Some((scheme, _)) if is_scheme(scheme) => Err(ServingError::unimplemented(format!(
            "File system scheme '{scheme}' not implemented (file: '{base_path}')"
        ))),
        _ => Ok(PathBuf::from(base_path)),
    }
}

/// Whether a base path is absolute or begins with a URI scheme (`UriIsRelativePath`).
pub fn is_absolute_or_uri(base_path: &str) -> bool {
    base_path.starts_with('/')
        || base_path
            .split_once("://")
            .is_some_and(|(scheme, _)| is_scheme(scheme))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

impl Storage for LocalStorage {
    fn children(&self, directory: &Path) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory).map_err(|error| describe(directory, error))? {
            let entry = entry.map_err(|error| describe(directory, error))?;
            if let Ok(name) = entry.file_name().into_string() {
                names.push(name);
            }
            if names.len() > MAX_CHILDREN {
                return Err(ServingError::new(
                    Code::ResourceExhausted,
                    format!(
                        "{} has more than {MAX_CHILDREN} entries",
                        directory.display()
                    ),
                ));
            }
        }
        Ok(names)
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        path.try_exists().map_err(|error| describe(path, error))
    }

    fn files(&self, path: &Path) -> Result<Files> {
        Files::read(path)
    }

    fn small_file(&self, directory: &Path, name: &str, max_bytes: u64) -> Option<Bytes> {
        let directory = VersionDirectory::open(directory).ok()?;
        directory.read_small(name, max_bytes).ok()?
    }
}

#[cfg(test)]
mod tests;
