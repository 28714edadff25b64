//! Writes to stderr that go past the queue: those of libraries in other languages and of the
//! standard library before an abort.
//!
//! Not here: the log (`output`).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

/// Has such writes fail from now on where they would wait for a reader.
///
/// A pipe or a terminal is opened once more for that: the descriptor that this process was given may
/// be another process's as well, whose writes are to wait as before. Where that cannot be, and for
/// files, all stays as it is.
pub(super) fn never_wait_on_stderr() -> io::Result<()> {
    const STDERR: &str = "/proc/self/fd/2";
    let kind = std::fs::metadata(STDERR)?.file_type();
    if !kind.is_fifo() && !kind.is_char_device() {
        return Ok(());
    }
    let again = File::options()
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(STDERR)?;
    // SAFETY: both descriptors are open; the second one's number keeps its meaning.
    match unsafe { libc::dup2(again.as_raw_fd(), libc::STDERR_FILENO) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
