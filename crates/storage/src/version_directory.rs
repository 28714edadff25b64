//! The files of a version directory, and which of them can be read. All of them are opened here.
//!
//! A model directory is not trusted: only regular files are read. Models, signatures, maps, batching
//! parameters and recorded requests can be links to files inside the base path, because Kubernetes lays
//! out mounted volumes like that (`..data`). External data, whose names the ONNX file chooses, never
//! leaves the version directory.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;

use super::foreign::{Foreign, Sample, of_contents};
use crate::confines;
use crate::confines::Confines;
use base::error::{Code, Result, ServingError};

/// The largest protobuf message: no model and no `saved_model.pb` is larger.
pub const MAX_MESSAGE_BYTES: u64 = i32::MAX as u64;

/// A version directory.
pub struct VersionDirectory {
    /// As configured, for messages.
    path: PathBuf,
    /// With all links resolved.
    root: PathBuf,
    /// The base path, with all links resolved.
    base: PathBuf,
}

impl VersionDirectory {
    /// Opens `path`: `<base path>/<version>`, or the base path itself if the model is directly in it.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` if it is not a directory, `PERMISSION_DENIED` if it cannot be searched.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |error: std::io::Error| unreadable(path, error);
        let Confines { root, base } = Confines::of(path).map_err(failed)?;
        if !root.is_dir() {
            let text = format!("{} is not a directory", path.display());
            return Err(ServingError::not_found(text));
        }
        // Without the right to search the directory, every file seems to exist but to be unreadable.
        root.join(".").metadata().map_err(failed)?;
        Ok(Self {
            path: confines::shown(path),
            root,
            base,
        })
    }

    /// The directory as configured.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the `*.onnx` files, sorted.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` or `PERMISSION_DENIED` if the directory cannot be listed.
    pub fn onnx_files(&self) -> Result<Vec<String>> {
        let entries =
            std::fs::read_dir(&self.root).map_err(|error| self.unreadable(Path::new(""), error))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| self.unreadable(Path::new(""), error))?;
            let name = entry.file_name();
            // A file that other tools hide, such as macOS's `._model.onnx`, is not a model.
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

    /// Whether something of this name exists, even if it cannot be read.
    pub fn has(&self, name: &str) -> bool {
        let is_missing =
            |kind: ErrorKind| matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory);
        let found = self.root.join(name).symlink_metadata();
        !found.is_err_and(|error| is_missing(error.kind()))
    }

    /// Opens a file next to the model; returns its size, too. `None` if nothing has this name.
    ///
    /// # Errors
    ///
    /// As `read`.
    pub fn open_file(&self, name: &str) -> Result<Option<(File, u64)>> {
        let open = || self.open_within(Path::new(name), &[&self.root, &self.base]);
        self.has(name).then(open).transpose()
    }

    /// The contents of a file next to the model. `None` if nothing has this name.
    ///
    /// # Errors
    ///
    /// As `read`; `INVALID_ARGUMENT` for a file of more than `max_bytes`.
    pub fn read_small(&self, name: &str, max_bytes: u64) -> Result<Option<Bytes>> {
        let Some((file, size)) = self.open_file(name)? else {
            return Ok(None);
        };
        self.bounded_contents(Path::new(name), file, size, max_bytes)
            .map(Some)
    }

    /// The contents of a file next to the model.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` or `PERMISSION_DENIED` if it cannot be read, `INVALID_ARGUMENT` if it is not a
    /// regular file, leads out of the base path, or has more than `max_bytes`.
    pub fn read(&self, name: &str, max_bytes: u64) -> Result<Bytes> {
        let name = Path::new(name);
        let (file, size) = self.open_within(name, &[&self.root, &self.base])?;
        self.bounded_contents(name, file, size, max_bytes)
    }

    /// The size of a file next to the model. `None` if nothing has this name.
    ///
    /// # Errors
    ///
    /// As `read`.
    pub fn size(&self, name: &str) -> Result<Option<u64>> {
        Ok(self.open_file(name)?.map(|(_, size)| size))
    }

    /// A part of a file next to the model, without reading the rest. `None` if nothing has this name.
    ///
    /// # Errors
    ///
    /// As `read`; `INVALID_ARGUMENT` for a part that does not lie within the file.
    pub fn read_range(&self, name: &str, offset: u64, length: u64) -> Result<Option<Bytes>> {
        let Some((mut file, size)) = self.open_file(name)? else {
            return Ok(None);
        };
        let name = Path::new(name);
        let end = offset.checked_add(length);
        if end.is_none_or(|it| it > size) {
            let text = format!("it has {size} bytes, fewer than are to be read from it");
            return Err(self.refused(name, &text));
        }
        file.seek(SeekFrom::Start(offset))
            .map_err(|error| self.unreadable(name, error))?;
        let contents = self.contents(name, file, length)?;
        match contents.len() as u64 == length {
            true => Ok(Some(contents)),
            false => Err(self.refused(name, "it became shorter while it was read")),
        }
    }

    /// The contents of a file with external data, which the ONNX file names.
    ///
    /// # Errors
    ///
    /// As `read`; the file has to be inside the version directory.
    pub fn read_external_data(&self, name: &Path) -> Result<Bytes> {
        let (file, size) = self.open_within(name, &[&self.root])?;
        self.contents(name, file, size)
    }

    /// Opens the file behind a name, which must be in one of these folders; returns its size, too.
    fn open_within(&self, name: &Path, allowed: &[&PathBuf]) -> Result<(File, u64)> {
        let path = self.resolve(name, allowed)?;
        self.open_resolved(name, &path, allowed)
    }

    /// The file behind a name.
    fn resolve(&self, name: &Path, allowed: &[&PathBuf]) -> Result<PathBuf> {
        let mut components = name.components();
        let is_plain = |it| matches!(it, Component::Normal(_) | Component::CurDir);
        let bytes = name.as_os_str().as_encoded_bytes();
        if bytes.is_empty() || bytes.contains(&0) || !components.all(is_plain) {
            let text = format!(
                "'{}' is not a path inside the version directory {}",
                name.display(),
                self.path.display()
            );
            return Err(ServingError::invalid_argument(text));
        }
        let path = self.root.join(name);
        let path = path
            .canonicalize()
            .map_err(|error| self.unreadable(name, error))?;
        self.check_within(name, &path, allowed)?;
        // Checked before the file is opened, because opening a device can have effects.
        let metadata = path
            .metadata()
            .map_err(|error| self.unreadable(name, error))?;
        if metadata.is_dir() {
            return Err(self.refused(name, DIRECTORY));
        }
        if !metadata.is_file() {
            return Err(self.refused(name, IRREGULAR));
        }
        Ok(path)
    }

    /// Opens a file whose path was checked before. By now another file can be there.
    fn open_resolved(&self, name: &Path, path: &Path, allowed: &[&PathBuf]) -> Result<(File, u64)> {
        let mut options = OpenOptions::new();
        // Opening a pipe would block until something writes to it, and a link can lead anywhere.
        options
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_NOCTTY);
        let file = options
            .open(path)
            .map_err(|error| self.unreadable(name, error))?;
        let metadata = file
            .metadata()
            .map_err(|error| self.unreadable(name, error))?;
        if !metadata.is_file() {
            return Err(self.refused(name, IRREGULAR));
        }
        if let Some(opened) = path_of(&file) {
            self.check_within(name, &opened, allowed)?;
        }
        Ok((file, metadata.len()))
    }

    fn check_within(&self, name: &Path, path: &Path, allowed: &[&PathBuf]) -> Result<()> {
        match allowed.iter().any(|folder| path.starts_with(folder)) {
            true => Ok(()),
            false => Err(self.refused(name, "it leads out of its directory")),
        }
    }

    fn bounded_contents(
        &self,
        name: &Path,
        file: File,
        size: u64,
        max_bytes: u64,
    ) -> Result<Bytes> {
        if size > max_bytes {
            let text = format!("it is larger than {max_bytes} bytes");
            return Err(self.refused(name, &text));
        }
        let contents = self.contents(name, file, size)?;
        // For models there are more specific errors.
        if max_bytes < MAX_MESSAGE_BYTES {
            check_small_file(&self.path.join(name), &contents)?;
        }
        Ok(contents)
    }

    fn contents(&self, name: &Path, file: File, size: u64) -> Result<Bytes> {
        let too_large = |_| {
            let file = self.path.join(name);
            let text = format!("{} does not fit into memory", file.display());
            ServingError::new(Code::ResourceExhausted, text)
        };
        let mut contents = Vec::new();
        let capacity = usize::try_from(size).unwrap_or(usize::MAX);
        contents.try_reserve_exact(capacity).map_err(too_large)?;
        // If a file grows while it is read, only its original size is read.
        file.take(size)
            .read_to_end(&mut contents)
            .map_err(|error| self.unreadable(name, error))?;
        Ok(contents.into())
    }

    fn refused(&self, name: &Path, reason: &str) -> ServingError {
        let file = self.path.join(name);
        ServingError::invalid_argument(format!("{}: {reason}", file.display()))
    }

    fn unreadable(&self, name: &Path, error: std::io::Error) -> ServingError {
        match name.as_os_str().is_empty() {
            true => unreadable(&self.path, error),
            false => unreadable(&self.path.join(name), error),
        }
    }
}

/// The error for a file or directory that cannot be read. If permissions are the reason, it says which
/// user needs them.
fn unreadable(path: &Path, error: std::io::Error) -> ServingError {
    let text = format!("cannot read {}: {error}", path.display());
    let described = match error.kind() {
        ErrorKind::PermissionDenied => ServingError::new(
            Code::PermissionDenied,
            format!("{text}. Give the user that the server runs as the right to read it"),
        ),
        _ => ServingError::not_found(text),
    };
    described.caused_by(error)
}

const IRREGULAR: &str = "it is not a regular file";
const DIRECTORY: &str =
    "it is not a regular file but a directory. The file itself has to be at this place";

/// The path of an open file, with all links resolved, if the system provides it.
#[cfg(target_os = "linux")]
fn path_of(file: &File) -> Option<PathBuf> {
    use std::os::fd::AsRawFd;

    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()
}

#[cfg(not(target_os = "linux"))]
fn path_of(_: &File) -> Option<PathBuf> {
    None
}

/// Refuses a small file of a version, such as a map or labels, that is of another kind by accident.
///
/// # Errors
///
/// `INVALID_ARGUMENT`, naming the actual kind.
fn check_small_file(origin: &Path, contents: &[u8]) -> Result<()> {
    match of_contents(&Sample::of(contents)) {
        Some(foreign) if foreign.stands_in() && foreign != Foreign::Empty => {
            Err(ServingError::invalid_argument(format!(
                "{} is not the real file but {foreign}",
                origin.display()
            )))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
