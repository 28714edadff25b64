//! Notices when a file that a flag names has changed.
//!
//! Changes are detected by content, because some ways to replace a file keep its time, and because this
//! works through links to folders, which is how Kubernetes mounts secrets. A file that is not a regular
//! file is never waited for: only the start reads a pipe, once, while an operator can see it wait.
//!
//! Not here: how a change is applied.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::Builder;
use std::time::Duration;

use base::error::{Code, Result, ServingError};
use base::panics;

/// How often a file is checked.
const INTERVAL: Duration = Duration::from_secs(1);

/// A file, and its state at the time when this was made.
pub struct WatchedFile {
    path: PathBuf,
    looks: Looks,
}

/// A thread that checks a file until this is dropped.
pub struct FileWatcher {
    /// Never used: the thread ends once it is dropped.
    _stop: Sender<()>,
}

impl WatchedFile {
    /// Records the file's state. Read the file after that, so that no change is missed.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            looks: Looks::new(fingerprint(path)),
        }
    }

    /// Calls `changed` on a thread of its own after each change, once two checks in a row have found
    /// the same content: a file that is being written is left alone.
    pub fn on_change(self, changed: impl FnMut() + Send + 'static) -> FileWatcher {
        self.every(INTERVAL, changed)
    }

    fn every(self, interval: Duration, mut changed: impl FnMut() + Send + 'static) -> FileWatcher {
        let Self { path, mut looks } = self;
        let (stop, stopped) = channel::<()>();
        let thread = Builder::new()
            .name("file-watcher".to_owned())
            .spawn(move || {
                while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                    if looks.look(fingerprint(&path)) {
                        panics::catch_panic("the watcher of a file", &mut changed);
                    }
                }
            });
        if let Err(error) = thread {
            tracing::error!(%error, "no thread to watch a file: its changes are not seen");
        }
        FileWatcher { _stop: stop }
    }
}

/// The file's state at earlier checks; `None` for a file that could not be read.
struct Looks {
    in_use: Option<u64>,
    last: Option<u64>,
}

impl Looks {
    fn new(now: Option<u64>) -> Self {
        Self {
            in_use: now,
            last: now,
        }
    }

    /// Whether the file has changed and then settled. A missing file does not count as changed, because
    /// it might be about to be replaced.
    fn look(&mut self, now: Option<u64>) -> bool {
        let is_settled = now.is_some() && now == self.last;
        self.last = now;
        let has_changed = is_settled && now != self.in_use;
        if has_changed {
            self.in_use = now;
        }
        has_changed
    }
}

/// Refuses a file that would block its reader, such as a pipe that replaced the file. To be called
/// before a file is read again.
///
/// # Errors
///
/// `FAILED_PRECONDITION` if the path exists and is not a regular file.
pub fn check_regular(path: &Path) -> Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            let reason = "not a regular file, which alone is read again";
            let text = format!("{}; {reason}", path.display());
            Err(ServingError::new(Code::FailedPrecondition, text))
        }
        // Other errors come from reading the file.
        _ => Ok(()),
    }
}

/// A hash of a regular file's content, read piece by piece.
fn fingerprint(path: &Path) -> Option<u64> {
    // Opening a pipe would block until it has a writer, and reading it would consume the data that the
    // start needs.
    let opened = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    let mut file = opened.ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    let mut piece = [0; 8192];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Some(hasher.finish()),
            Ok(len) => hasher.write(&piece[..len]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_change_counts_once_it_has_settled() {
        let mut looks = Looks::new(Some(1));
        let cases = [
            (Some(1), false),
            (Some(2), false),
            (Some(3), false),
            (Some(3), true),
            (Some(3), false),
            (None, false),
            (None, false),
            (Some(3), false),
            (Some(3), false),
            (Some(1), false),
            (Some(1), true),
        ];
        for (look, (now, has_changed)) in cases.into_iter().enumerate() {
            assert_eq!(looks.look(now), has_changed, "look {look}");
        }
    }

    #[test]
    fn a_panic_does_not_end_the_watch() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "0").unwrap();
        let (changed, changes) = mpsc::channel();
        let file = WatchedFile::new(&path);
        let _watcher = file.every(Duration::from_millis(1), move || {
            changed.send(()).unwrap();
            panic!("on purpose");
        });
        for contents in ["1", "2"] {
            fs::write(&path, contents).unwrap();
            changes.recv_timeout(Duration::from_secs(60)).unwrap();
        }
    }

    #[test]
    fn a_replaced_file_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "old").unwrap();
        let (changed, changes) = mpsc::channel();
        let file = WatchedFile::new(&path);
        let watcher = file.every(Duration::from_millis(1), move || changed.send(()).unwrap());
        let new = folder.path().join("new");
        fs::write(&new, "new").unwrap();
        fs::rename(&new, &path).unwrap();
        changes.recv_timeout(Duration::from_secs(60)).unwrap();
        drop(watcher);
        // The thread has ended and dropped its sender.
        assert_eq!(
            changes.recv_timeout(Duration::from_secs(60)),
            Err(RecvTimeoutError::Disconnected)
        );
    }
    fn make_fifo(path: &Path) {
        let made = Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
    }

    #[test]
    fn a_pipe_does_not_end_the_watch() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        make_fifo(&path);
        let (changed, changes) = mpsc::channel();
        // Neither this check nor those of the thread wait for a writer.
        let file = WatchedFile::new(&path);
        let _watcher = file.every(Duration::from_millis(1), move || changed.send(()).unwrap());
        let new = folder.path().join("new");
        fs::write(&new, "new").unwrap();
        fs::rename(&new, &path).unwrap();
        changes.recv_timeout(Duration::from_secs(60)).unwrap();
    }

    #[test]
    fn a_pipe_is_not_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert!(check_regular(&path).is_ok(), "reading names the fault");
        make_fifo(&path);
        let error = check_regular(&path).unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert!(check_regular(&path).is_ok());
    }
}
