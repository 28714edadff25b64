//! The files of a version directory, and which of them may be read.
//!
//! A model directory is not trusted: only regular files are read. Models, signatures and maps may
//! be links to files inside the base path, as Kubernetes lays out mounted volumes (`..data`);
//! external data, whose names the ONNX file chooses, never leaves the version directory.

use std::io::Read;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;

use crate::error::{Result, ServingError};

/// A version directory.
pub(super) struct VersionDirectory {
    /// As configured, for messages.
    path: PathBuf,
    /// With all links resolved.
    root: PathBuf,
    /// The base path, with all links resolved.
    base: PathBuf,
}

impl VersionDirectory {
    /// Opens `path`, `<base path>/<version>`.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` where it is no directory.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |error: std::io::Error| {
            ServingError::not_found(format!("cannot read {}: {error}", path.display()))
        };
        let root = path.canonicalize().map_err(failed)?;
        if !root.is_dir() {
            let text = format!("{} is not a directory", path.display());
            return Err(ServingError::not_found(text));
        }
        let base = match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new(".").canonicalize(),
            Some(parent) => parent.canonicalize(),
            None => Ok(root.clone()),
        };
        let base = base.map_err(failed)?;
        // The parent of a version directory is never so wide that a link may lead anywhere.
        let base = if base.parent().is_none() {
            root.clone()
        } else {
            base
        };
        Ok(Self {
            path: path.to_owned(),
            root,
            base,
        })
    }

    /// The directory as configured.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the `*.onnx` files, sorted.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` where the directory cannot be listed.
    pub(super) fn onnx_files(&self) -> Result<Vec<String>> {
        let entries = std::fs::read_dir(&self.root).map_err(|error| self.unreadable("", &error))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| self.unreadable("", &error))?;
            let name = entry.file_name();
            // A file that other tools hide, such as macOS's `._model.onnx`, is no model.
            if let Some(name) = name.to_str()
                && name.ends_with(".onnx")
                && !name.starts_with('.')
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Whether there is a file of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.root.join(name).is_file()
    }

    /// The contents of a file beside the model.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` where it cannot be read, `INVALID_ARGUMENT` where it is no regular file or
    /// leads out of the base path.
    pub(super) fn read(&self, name: &str) -> Result<Bytes> {
        let (path, size) = self.resolve(name, &[&self.root, &self.base])?;
        let mut contents = Vec::new();
        self.fill(name, &path, size, &mut contents)?;
        Ok(contents.into())
    }

    /// The contents of a file with external data, which the ONNX file names.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); the file has to be inside the version directory.
    pub(super) fn read_external_data(&self, name: &str) -> Result<Bytes> {
        let (path, size) = self.resolve(name, &[&self.root])?;
        let mut contents = Vec::new();
        self.fill(name, &path, size, &mut contents)?;
        Ok(contents.into())
    }

    /// The file behind a name, and its size.
    fn resolve(&self, name: &str, allowed: &[&PathBuf]) -> Result<(PathBuf, u64)> {
        let refused = |reason: &str| {
            let file = self.path.join(name);
            ServingError::invalid_argument(format!("{}: {reason}", file.display()))
        };
        let mut components = Path::new(name).components();
        let is_plain = |it| matches!(it, Component::Normal(_) | Component::CurDir);
        if name.is_empty() || name.contains('\0') || !components.all(is_plain) {
            let text = format!(
                "'{name}' is not a path inside the version directory {}",
                self.path.display()
            );
            return Err(ServingError::invalid_argument(text));
        }
        let path = self.root.join(name);
        let path = path
            .canonicalize()
            .map_err(|error| self.unreadable(name, &error))?;
        if !allowed.iter().any(|folder| path.starts_with(folder)) {
            return Err(refused("it leads out of the directory it may be in"));
        }
        // Asked before the file is opened: opening a pipe would wait for its other end.
        let metadata = path
            .metadata()
            .map_err(|error| self.unreadable(name, &error))?;
        if !metadata.is_file() {
            return Err(refused("it is not a regular file"));
        }
        Ok((path, metadata.len()))
    }

    fn fill(&self, name: &str, path: &Path, size: u64, contents: &mut Vec<u8>) -> Result<()> {
        let too_large = |_| {
            let file = self.path.join(name);
            let text = format!("{} does not fit into memory", file.display());
            ServingError::new(crate::error::Code::ResourceExhausted, text)
        };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        contents.try_reserve_exact(size).map_err(too_large)?;
        let file = std::fs::File::open(path).map_err(|error| self.unreadable(name, &error))?;
        // A file that grows while it is read is read up to where it ended.
        file.take(size as u64)
            .read_to_end(contents)
            .map_err(|error| self.unreadable(name, &error))?;
        Ok(())
    }

    fn unreadable(&self, name: &str, error: &std::io::Error) -> ServingError {
        let file = self.path.join(name);
        ServingError::not_found(format!("cannot read {}: {error}", file.display()))
    }
}
