//! Writes to stderr that bypass the queue: those of libraries in other languages and of the standard
//! library before an abort.
//!
//! Not here: the log (`output`).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

/// Makes such writes fail instead of blocking on the reader from now on.
///
/// A pipe or a terminal is opened again for that: the process's own descriptor can be shared with other
/// processes, whose writes must still block as before. If that is not possible, and for files, nothing
/// changes.
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
    // SAFETY: both descriptors are open; the second number still refers to stderr.
    match unsafe { libc::dup2(again.as_raw_fd(), libc::STDERR_FILENO) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
