//! A log file that is rotated once it has grown large.
//!
//! Files are called `<prefix>-<seconds since 1970>-<number>.tfrecord`. An existing file is never
//! written to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Only the server's user and group can read the requests.
const MODE: u32 = 0o640;
/// The most names to try for a new file.
const MAX_ATTEMPTS: u32 = 1000;

pub(super) struct RotatingFile {
    prefix: PathBuf,
    max_bytes: u64,
    /// The current file, and the length of its valid content.
    current: Option<(File, u64)>,
    next_number: u32,
}

impl RotatingFile {
    /// The first write creates the first file.
    pub(super) fn new(prefix: PathBuf, max_bytes: u64) -> Self {
        Self {
            prefix,
            max_bytes,
            current: None,
            next_number: 0,
        }
    }

    /// Appends `bytes` to one file, all or nothing. A file ends once it has reached its size or has
    /// been deleted.
    ///
    /// # Errors
    ///
    /// The file system's. The next call tries again.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        // If it stayed open, a deleted file would occupy its space for ever.
        let current = self.current.take().filter(|(file, _)| is_linked(file));
        let (mut file, length) = match current {
            Some(current) => current,
            None => (self.create()?, 0),
        };
        if let Err(error) = file.write_all(bytes) {
            // Removes a partial write. If that fails, too, the file is abandoned: a reader will find a
            // truncated record at its end.
            if file.set_len(length).is_ok() {
                self.current = Some((file, length));
            }
            return Err(error);
        }
        let length = length + bytes.len() as u64;
        if length < self.max_bytes {
            self.current = Some((file, length));
        }
        Ok(())
    }

    fn create(&mut self) -> io::Result<File> {
        if let Some(folder) = self.prefix.parent() {
            fs::create_dir_all(folder)?;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = now.unwrap_or_default().as_secs();
        for _ in 0..MAX_ATTEMPTS {
            let path = numbered(&self.prefix, seconds, self.next_number);
            self.next_number = self.next_number.wrapping_add(1);
            // `append`, so that the position is right after a write was removed.
            let opened = OpenOptions::new()
                .append(true)
                .create_new(true)
                .mode(MODE)
                .open(path);
            match opened {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                opened => return opened,
            }
        }
        Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "no free file name",
        ))
    }
}

fn is_linked(file: &File) -> bool {
    file.metadata().is_ok_and(|it| it.nlink() > 0)
}

fn numbered(prefix: &Path, seconds: u64, number: u32) -> PathBuf {
    let mut path = prefix.as_os_str().to_owned();
    path.push(format!("-{seconds}-{number:05}.tfrecord"));
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deleted_file_is_followed_by_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = RotatingFile::new(folder.path().join("log"), 1 << 20);
        let files = || {
            let entries = fs::read_dir(folder.path()).unwrap();
            let mut paths: Vec<PathBuf> = entries.map(|it| it.unwrap().path()).collect();
            paths.sort();
            paths
        };
        log.append(b"one").unwrap();
        log.append(b"two").unwrap();
        assert_eq!(files().len(), 1);
        let first = files().remove(0);
        assert_eq!(fs::read(&first).unwrap(), b"onetwo");
        fs::remove_file(&first).unwrap();
        log.append(b"three").unwrap();
        assert_ne!(files(), [first]);
        assert_eq!(fs::read(&files()[0]).unwrap(), b"three");
    }
}
