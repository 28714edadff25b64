//! The one way out of the process.

use std::thread;
use std::time::{Duration, Instant};

use crate::logging;

/// What the last lines of the log may take, where they are taken at all.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Writes what is left of the log and ends the process with this status.
///
/// What the C library would do at an exit is left out: it destroys what ONNX Runtime's threads and
/// loads still use. Nor does the end wait for a thread, whatever that waits for.
pub fn leave(status: u8) -> ! {
    logging::flush(LAST_LINES);
    // SAFETY: ends the process and touches no memory.
    unsafe { libc::_exit(status.into()) }
}

/// Has an abort, of this program or of a library, wait for the last lines of the log as well.
pub fn flush_before_abort() {
    let handler: extern "C" fn(libc::c_int) = wait_for_last_lines;
    // SAFETY: all that the handler does is allowed in one: it reads atomics, sleeps and calls
    // `signal` and `raise`.
    unsafe { libc::signal(libc::SIGABRT, handler as libc::sighandler_t) };
}

extern "C" fn wait_for_last_lines(_: libc::c_int) {
    let begin = Instant::now();
    while !logging::is_flushed() && begin.elapsed() < LAST_LINES {
        thread::sleep(Duration::from_millis(1));
    }
    // SAFETY: what the signal does without a handler, as soon as this one returns.
    unsafe {
        libc::signal(libc::SIGABRT, libc::SIG_DFL);
        libc::raise(libc::SIGABRT);
    }
}
