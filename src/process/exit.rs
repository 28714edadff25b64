//! The one way out of the process.

use std::thread;
use std::time::{Duration, Instant};

use crate::logging;

/// The time that the last log lines have to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Writes the rest of the log and ends the process with this status.
///
/// The C library's exit handlers are skipped: they would destroy objects that ONNX Runtime's threads
/// and loads still use. The end does not wait for any thread either.
pub fn leave(status: u8) -> ! {
    logging::flush(LAST_LINES);
    // SAFETY: ends the process and touches no memory.
    unsafe { libc::_exit(status.into()) }
}

/// Makes an abort, by this program or a library, wait for the last log lines as well.
pub fn flush_before_abort() {
    let handler: extern "C" fn(libc::c_int) = wait_for_last_lines;
    // SAFETY: the handler is async-signal-safe: it reads atomics, sleeps and calls `signal` and
    // `raise`.
    unsafe { libc::signal(libc::SIGABRT, handler as libc::sighandler_t) };
}

extern "C" fn wait_for_last_lines(_: libc::c_int) {
    let begin = Instant::now();
    while !logging::is_flushed() && begin.elapsed() < LAST_LINES {
        thread::sleep(Duration::from_millis(1));
    }
    // SAFETY: the signal's default action, which takes effect as soon as this handler returns.
    unsafe {
        libc::signal(libc::SIGABRT, libc::SIG_DFL);
        libc::raise(libc::SIGABRT);
    }
}
