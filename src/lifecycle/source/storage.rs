//! Where version directories live: the trait the source and the loads look through, and the
//! local file system behind it.
//!
//! Not here: which names are versions (`source::versions`), reading a model's files
//! (`lifecycle::loader`).

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Code, Result, ServingError};

/// Most names a base path may hold; a directory beyond is an error rather than a memory problem.
const MAX_CHILDREN: usize = 1_000_000;
/// Most files that a fingerprint looks at.
const MAX_FINGERPRINT_FILES: usize = 100_000;
/// How deep a fingerprint looks; deeper files do not count. Also ends loops of symbolic links.
const MAX_FINGERPRINT_DEPTH: usize = 8;

/// Stands for the names, sizes and times of all files under a directory. Two that are equal mean
/// that nobody touched the files in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// Stands for a directory that cannot be read; the load says why.
    pub const UNREADABLE: Self = Self(0);
}

/// A file system as the source sees it. Every call may block and may fail at any time.
pub trait Storage: Send + Sync {
    /// Names of the direct children of a directory, in any order. Names that are not Unicode may
    /// be left out.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` where the directory does not exist, with `<path> not found`; what the file
    /// system says otherwise.
    fn children(&self, directory: &Path) -> Result<Vec<String>>;

    /// Whether something of this name exists.
    ///
    /// # Errors
    ///
    /// What the file system says, where it cannot tell.
    fn exists(&self, path: &Path) -> Result<bool>;

    /// Names, sizes and times of the files under `path` (or of the file itself), as one number.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` where there is nothing; `RESOURCE_EXHAUSTED` where there is too much.
    fn fingerprint(&self, path: &Path) -> Result<Fingerprint>;
}

/// The file system of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalStorage;

/// The directory on this machine that a configured base path means.
///
/// # Errors
///
/// `UNIMPLEMENTED`, naming the scheme, for anything but a plain path or a `file://` URI.
pub(crate) fn local_path(base_path: &str) -> Result<PathBuf> {
    match base_path.split_once("://") {
        Some(("file", path)) if path.starts_with('/') => Ok(PathBuf::from(path)),
        Some((scheme, _)) if is_scheme(scheme) => Err(ServingError::unimplemented(format!(
            "File system scheme '{scheme}' not implemented (file: '{base_path}')"
        ))),
        _ => Ok(PathBuf::from(base_path)),
    }
}

/// Whether a base path is absolute or has a URI scheme in front (`UriIsRelativePath`).
pub(crate) fn is_absolute_or_uri(base_path: &str) -> bool {
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
        for entry in fs::read_dir(directory).map_err(|error| describe(directory, &error))? {
            let entry = entry.map_err(|error| describe(directory, &error))?;
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
        path.try_exists().map_err(|error| describe(path, &error))
    }

    fn fingerprint(&self, path: &Path) -> Result<Fingerprint> {
        let mut files = Vec::new();
        collect_files(path, 0, &mut files)?;
        // Directories list their children in any order.
        files.sort();
        let mut hasher = DefaultHasher::new();
        files.hash(&mut hasher);
        Ok(Fingerprint(hasher.finish()))
    }
}

/// What a fingerprint knows of one file or directory.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
struct FileTraits {
    path: PathBuf,
    bytes: u64,
    modified: (i64, i64),
    /// Also moves when a file gets other permissions, or is replaced by one with an old date.
    changed: (i64, i64),
}

fn collect_files(path: &Path, depth: usize, files: &mut Vec<FileTraits>) -> Result<()> {
    if files.len() >= MAX_FINGERPRINT_FILES {
        return Err(ServingError::new(
            Code::ResourceExhausted,
            format!("more than {MAX_FINGERPRINT_FILES} files under a version directory"),
        ));
    }
    let metadata = fs::metadata(path).map_err(|error| describe(path, &error))?;
    files.push(traits(path, &metadata));
    if !metadata.is_dir() || depth == MAX_FINGERPRINT_DEPTH {
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(|error| describe(path, &error))? {
        let child = entry.map_err(|error| describe(path, &error))?.path();
        match collect_files(&child, depth + 1, files) {
            // It went away between the listing and the look: its directory's time tells.
            Err(error) if error.code() == Code::NotFound => {}
            collected => collected?,
        }
    }
    Ok(())
}

/// The bytes of all files under a version directory.
///
/// # Errors
///
/// Those of [`Storage::fingerprint`].
pub(crate) fn file_bytes(directory: &Path) -> Result<u64> {
    let mut files = Vec::new();
    collect_files(directory, 0, &mut files)?;
    // A volume that Kubernetes mounts shows the same file at several places.
    let distinct: BTreeMap<PathBuf, u64> = files
        .into_iter()
        .filter_map(|file| Some((file.path.canonicalize().ok()?, file.bytes)))
        .filter(|(path, _)| path.is_file())
        .collect();
    Ok(distinct.values().fold(0, |sum, it| sum.saturating_add(*it)))
}

#[cfg(unix)]
fn traits(path: &Path, metadata: &fs::Metadata) -> FileTraits {
    use std::os::unix::fs::MetadataExt;
    FileTraits {
        path: path.to_owned(),
        bytes: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    }
}

#[cfg(not(unix))]
fn traits(path: &Path, metadata: &fs::Metadata) -> FileTraits {
    let since_epoch = metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
        .unwrap_or_default();
    let modified = (
        since_epoch.as_secs() as i64,
        i64::from(since_epoch.subsec_nanos()),
    );
    FileTraits {
        path: path.to_owned(),
        bytes: metadata.len(),
        modified,
        changed: modified,
    }
}

fn describe(path: &Path, error: &io::Error) -> ServingError {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => ServingError::not_found(format!("{path} not found")),
        io::ErrorKind::PermissionDenied => {
            ServingError::new(Code::PermissionDenied, format!("{path}; {error}"))
        }
        _ => ServingError::new(Code::Unknown, format!("{path}; {error}")),
    }
}

#[cfg(test)]
mod tests;
