//! One of the process's outputs, and the thread that writes to it.
//!
//! Only the thread waits for a reader, a terminal or a disk. It writes whole lines, as many together as
//! a pipe takes in one piece, so that lines of other processes do not get mixed into them.
//!
//! Written by hand instead of using `tracing-appender`, which has no limit in bytes, does not report
//! dropped lines, and loses a line if a non-blocking descriptor is full.
//!
//! Not here: the queue before it (`queue`), the contents (`logging`).

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::{self, Builder};
use std::time::{Duration, Instant};

use super::queue::{Loss, Queue, Work};
use base::panics;

/// The largest write that a pipe takes in one piece (`PIPE_BUF`, `pipe(7)`).
const PIECE_BYTES: usize = 4096;
/// How long to wait before another try if a non-blocking descriptor is full.
const FULL_PAUSE: Duration = Duration::from_millis(10);
/// How long a start waits for the thread, at most.
const START_PATIENCE: Duration = Duration::from_secs(1);

/// An output. Made for a `static`: its thread never ends.
pub(super) struct Output {
    pub(super) queue: Queue,
    /// A descriptor of this module's own, because the standard library's has a lock that is held during
    /// a write.
    open: fn() -> io::Result<OwnedFd>,
    report: fn(Loss),
    has_thread: AtomicBool,
}

impl Output {
    pub(super) const fn new(open: fn() -> io::Result<OwnedFd>, report: fn(Loss)) -> Self {
        Self {
            queue: Queue::new(),
            open,
            report,
            has_thread: AtomicBool::new(false),
        }
    }

    /// Opens the output and starts the thread; returns whether that succeeded. The thread has then set up
    /// its thread-locals, unless it is slow: while a library is loaded, to do so can block.
    pub(super) fn start(&'static self) -> bool {
        let (prepared, is_prepared) = sync_channel(1);
        self.ensure_thread_and(move || {
            // An error means that `start` has stopped waiting.
            let _ = prepared.send(());
        });
        let _ = is_prepared.recv_timeout(START_PATIENCE);
        self.has_thread.load(Ordering::Acquire)
    }

    /// Queues these lines, if there is room for them. Never waits.
    pub(super) fn push(&'static self, text: &[u8]) {
        self.queue.push(text);
        self.ensure_thread();
    }

    /// Queues a line, even without room.
    pub(super) fn push_report(&'static self, text: &[u8]) {
        self.queue.push_report(text);
        self.ensure_thread();
    }

    /// Waits until everything is written or has failed, or the deadline has passed.
    pub(super) fn flush(&'static self, deadline: Instant) {
        if !self.queue.is_idle() {
            self.ensure_thread();
        }
        if self.has_thread.load(Ordering::Acquire) {
            self.queue.wait_until_written(deadline);
        }
    }

    /// If the thread cannot be started, the next line tries again.
    fn ensure_thread(&'static self) {
        self.ensure_thread_and(|| ());
    }

    /// A thread that is started now calls `begin` first.
    fn ensure_thread_and(&'static self, begin: impl FnOnce() + Send + 'static) {
        if self.has_thread.load(Ordering::Acquire) || self.has_thread.swap(true, Ordering::AcqRel) {
            return;
        }
        let started = (self.open)().and_then(|descriptor| {
            let mut writer = Writer::new(&self.queue, File::from(descriptor), self.report);
            let thread = Builder::new().name("log".to_owned());
            thread.spawn(move || {
                panics::catch_panic("the log", begin);
                loop {
                    panics::catch_panic("the log", || writer.work());
                }
            })
        });
        if started.is_err() {
            self.has_thread.store(false, Ordering::Release);
        }
    }
}

struct Writer<'a, W> {
    queue: &'a Queue,
    target: W,
    report: fn(Loss),
    /// Whether the last write left an incomplete line.
    is_torn: bool,
}

impl<'a, W: Write> Writer<'a, W> {
    fn new(queue: &'a Queue, target: W, report: fn(Loss)) -> Self {
        Self {
            queue,
            target,
            report,
            is_torn: false,
        }
    }

    /// Does the next piece of work; waits for it.
    fn work(&mut self) {
        match self.queue.next() {
            Work::Report(loss) => (self.report)(loss),
            Work::Write(text) => {
                let mut rest = &text[..];
                while !rest.is_empty() {
                    let (piece, behind) = rest.split_at(first_piece(rest));
                    let written = self.write(piece);
                    self.queue.release(piece, &written);
                    rest = behind;
                }
            }
        }
    }

    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.write_all(b"\n")?;
        }
        self.write_all(piece)
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.target.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.is_torn = bytes[written - 1] != b'\n';
                    bytes = &bytes[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    thread::sleep(FULL_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The length of the first lines of `text` to write together: those that fit in one piece, or the first
/// line if that is longer.
fn first_piece(text: &[u8]) -> usize {
    let is_end = |byte: &u8| *byte == b'\n';
    let within = &text[..text.len().min(PIECE_BYTES)];
    let end = within.iter().rposition(is_end);
    let end = end.or_else(|| text.iter().position(is_end));
    end.map_or(text.len(), |end| end + 1)
}

#[cfg(test)]
mod tests;
