//! The source's view of a version directory's files: names, sizes and times. Never contents.
//!
//! Nothing here opens a file, so a pipe or a device among them does no harm. Hidden files (`.nfs…` of
//! an NFS client, the temporary files of rsync and editors) come and go without concerning the model.
//! Files that Kubernetes hides behind `..data` are found through the links to them. Links are not
//! followed if they lead out of the folders of the version, or back.
//!
//! Not here: when to look (`source::settling`), reading a model (`mapper::version_dir`).

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::confines::Confines;
use crate::file_error::describe;
use base::error::{Code, Result, ServingError};

/// The most files that are examined.
const MAX_FILES: usize = 100_000;
/// How deep to look; deeper files are ignored. Also ends loops of symbolic links.
const MAX_DEPTH: usize = 8;

/// A hash of the names, sizes and times of all files under a directory. If two are equal, the files
/// were not touched in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// A directory that cannot be read; the load reports the reason.
    pub const UNREADABLE: Self = Self(0);
}

/// The files under a directory, by their path in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Files(BTreeMap<PathBuf, FileTraits>);

/// The properties of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum FileTraits {
    Regular {
        bytes: u64,
        modified: (i64, i64),
        /// Also changes if a file gets other permissions, or is replaced by one with an old date.
        changed: (i64, i64),
    },
    /// A pipe, a socket, a device, a directory that cannot be read, or a link that is not followed.
    Other,
}

impl Files {
    /// Examines the files under `path`, or the file itself.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` if there is nothing; `RESOURCE_EXHAUSTED` if there are too many files.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let mut files = Self::default();
        walk(path, &|name| !is_hidden(name), &mut |path, metadata| {
            files.0.insert(path.to_owned(), traits(metadata));
        })?;
        Ok(files)
    }

    /// Regular files of these sizes, for tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn of(files: &[(&str, u64)]) -> Self {
        let file = |(path, bytes): &(&str, u64)| {
            let traits = FileTraits::Regular {
                bytes: *bytes,
                modified: (0, 0),
                changed: (0, 0),
            };
            (PathBuf::from(path), traits)
        };
        Self(files.iter().map(file).collect())
    }

    /// A hash of all files and their properties.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        match Fingerprint(hasher.finish()) {
            Fingerprint::UNREADABLE => Fingerprint(1),
            fingerprint => fingerprint,
        }
    }

    /// The paths, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }

    /// Whether there is a file of this path, not empty unless that of `other` is empty, too: a file
    /// that is being copied can exist and still be empty.
    pub fn has_as(&self, other: &Self, path: &Path) -> bool {
        let is_empty = |files: &Self| {
            let traits = files.0.get(path);
            matches!(traits, Some(FileTraits::Regular { bytes: 0, .. }))
        };
        self.0.contains_key(path) && (!is_empty(self) || is_empty(other))
    }

    /// Whether there is a file of this path that is not empty.
    pub fn has_content(&self, path: &Path) -> bool {
        let traits = self.0.get(path);
        matches!(traits, Some(FileTraits::Regular { bytes: 1.., .. }))
    }

    /// Whether these are files of `before`, unchanged, with none added: either nothing happened, or
    /// some were deleted.
    pub fn are_what_is_left_of(&self, before: &Self) -> bool {
        let is_unchanged = |(path, traits): (&PathBuf, _)| before.0.get(path) == Some(traits);
        self.0.iter().all(is_unchanged)
    }
}

/// The bytes of all files under a version directory, including hidden ones.
///
/// # Errors
///
/// Those of `Files::read`.
pub fn file_bytes(directory: &Path) -> Result<u64> {
    // A volume mounted by Kubernetes shows the same file at several paths.
    let mut distinct = BTreeMap::new();
    walk(directory, &|_| true, &mut |path, metadata| {
        if let Some(metadata) = metadata.filter(|it| it.is_file())
            && let Ok(path) = directory.join(path).canonicalize()
        {
            distinct.insert(path, metadata.len());
        }
    })?;
    Ok(distinct.values().fold(0, |sum, it| sum.saturating_add(*it)))
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// Calls `visit` with each file under `root`, by its path in it; without metadata if the file exists
/// but cannot be examined.
fn walk(
    root: &Path,
    is_wanted: &dyn Fn(&OsStr) -> bool,
    visit: &mut dyn FnMut(&Path, Option<&fs::Metadata>),
) -> Result<()> {
    let mut seen = 0;
    let mut links = Links::new(root);
    let mut rest = vec![(PathBuf::new(), 0, false)];
    while let Some((path, depth, is_link)) = rest.pop() {
        let is_root = depth == 0;
        let full = if is_root {
            root.to_owned()
        } else {
            root.join(&path)
        };
        let (metadata, children) = match examine(&full, depth, is_link, &mut links)? {
            Examined::Known(metadata, children) => (metadata, children),
            Examined::Unknown => {
                visit(&path, None);
                continue;
            }
            Examined::Gone => continue,
        };
        if !metadata.is_dir() {
            visit(&path, Some(&metadata));
        }
        let first = rest.len();
        for entry in children.into_iter().flatten() {
            let entry = entry.map_err(|error| describe(&full, error))?;
            let name = entry.file_name();
            seen += 1;
            if seen > MAX_FILES {
                return Err(ServingError::new(
                    Code::ResourceExhausted,
                    format!("more than {MAX_FILES} files under a version directory"),
                ));
            }
            if is_wanted(&name) {
                let is_link = entry.file_type().is_ok_and(|it| it.is_symlink());
                rest.push((path.join(name), depth + 1, is_link));
            }
        }
        // Sorted, because if two links lead to the same folder, the order of the listing must not
        // decide which one is followed.
        rest[first..].sort_unstable();
    }
    Ok(())
}

/// A path under a version directory, as far as it could be examined.
enum Examined {
    /// With the list of its children, if it is a folder to be looked into.
    Known(fs::Metadata, Option<fs::ReadDir>),
    /// It exists, but cannot be examined, or is a link that is not followed.
    Unknown,
    Gone,
}

fn examine(full: &Path, depth: usize, is_link: bool, links: &mut Links<'_>) -> Result<Examined> {
    let is_root = depth == 0;
    let listed = fs::metadata(full).and_then(|metadata| {
        if is_link && !links.follow(full)? {
            return Ok(Examined::Unknown);
        }
        let children = match metadata.is_dir() && depth < MAX_DEPTH {
            true => Some(fs::read_dir(full)?),
            false => None,
        };
        Ok(Examined::Known(metadata, children))
    });
    // A link to itself, or a name that is too long. Treated like `lost+found`.
    if let Err(error) = &listed
        && !is_root
        && matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENAMETOOLONG))
    {
        return Ok(Examined::Unknown);
    }
    match listed.map_err(|error| describe(full, error)) {
        // It was deleted after the listing, or is a dangling link.
        Err(error) if !is_root && error.code() == Code::NotFound => Ok(Examined::Gone),
        // Such as `lost+found`. If the model needs it, the load reports the error.
        Err(error) if !is_root && error.code() == Code::PermissionDenied => Ok(Examined::Unknown),
        examined => examined,
    }
}

/// Decides which links are followed.
struct Links<'a> {
    root: &'a Path,
    /// Set at the first link.
    confines: Option<Confines>,
    /// Folders that links lead to.
    folders: BTreeSet<PathBuf>,
}

impl<'a> Links<'a> {
    fn new(root: &'a Path) -> Self {
        Self {
            root,
            confines: None,
            folders: BTreeSet::new(),
        }
    }

    /// Whether to follow a link. Links out of the folders with the version's files or to a folder that
    /// contains the link are not followed, and no folder is visited twice.
    fn follow(&mut self, link: &Path) -> std::io::Result<bool> {
        if self.confines.is_none() {
            self.confines = Some(Confines::of(self.root)?);
        }
        let target = link.canonicalize()?;
        if !self.confines.as_ref().is_some_and(|it| it.hold(&target)) {
            return Ok(false);
        }
        if !target.is_dir() {
            return Ok(true);
        }
        let folder = link.parent().unwrap_or(self.root).canonicalize()?;
        Ok(!folder.starts_with(&target) && self.folders.insert(target))
    }
}

fn traits(metadata: Option<&fs::Metadata>) -> FileTraits {
    match metadata {
        Some(metadata) if metadata.is_file() => {
            let (modified, changed) = times(metadata);
            FileTraits::Regular {
                bytes: metadata.len(),
                modified,
                changed,
            }
        }
        _ => FileTraits::Other,
    }
}

/// The times of the last change of a file's contents, and of the last change of anything about it.
#[cfg(unix)]
fn times(metadata: &fs::Metadata) -> ((i64, i64), (i64, i64)) {
    use std::os::unix::fs::MetadataExt;
    (
        (metadata.mtime(), metadata.mtime_nsec()),
        (metadata.ctime(), metadata.ctime_nsec()),
    )
}

#[cfg(not(unix))]
fn times(metadata: &fs::Metadata) -> ((i64, i64), (i64, i64)) {
    let since_epoch = metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
        .unwrap_or_default();
    let modified = (
        since_epoch.as_secs() as i64,
        i64::from(since_epoch.subsec_nanos()),
    );
    (modified, modified)
}

#[cfg(test)]
mod tests;
