//! Lines on their way to the thread that writes them, limited in number and in bytes. A thread that
//! adds lines never waits.
//!
//! Not here: writing them (`output`).

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most lines that can wait. Lines that are being written count until they are written.
pub(super) const MAX_LINES: usize = 4096;
pub(super) const MAX_BYTES: usize = 1 << 20;

/// The minimum time between two reports of dropped lines.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The next work of the writing thread.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Write these lines.
    Write(Vec<u8>),
    /// Report that lines were dropped.
    Report(Loss),
}

/// Lines that were dropped since the last report.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) lines: u64,
    /// Why they could not be written; `None` if there was not enough room for them.
    pub(super) failure: Option<String>,
}

#[derive(Debug)]
pub(super) struct Queue {
    /// Held to copy one line or for a few instructions.
    state: Mutex<State>,
    filled: Condvar,
    emptied: Condvar,
    dropped: AtomicU64,
    /// Whether everything is written; for callers that must not take the lock.
    is_idle: AtomicBool,
}

#[derive(Debug)]
struct State {
    /// Whole lines, one after the other.
    text: Vec<u8>,
    /// The lines in `text` and those that the thread has taken but not yet written.
    lines: usize,
    bytes: usize,
    /// Whether the thread is at work.
    is_busy: bool,
    /// How many threads wait until everything is written.
    flushers: usize,
    loss: Loss,
    /// Whether the last lines could not be written. Then a report would fail, too.
    is_failing: bool,
    last_report: Option<Instant>,
}

impl State {
    fn has_report(&self) -> bool {
        self.loss.lines > 0 && !self.is_failing
    }

    fn is_report_due(&self) -> bool {
        let is_recent = |last: Instant| last.elapsed() < REPORT_INTERVAL;
        self.has_report() && (self.flushers > 0 || !self.last_report.is_some_and(is_recent))
    }

    fn is_done(&self) -> bool {
        self.text.is_empty() && !self.is_busy && !self.has_report()
    }
}

impl Queue {
    pub(super) const fn new() -> Self {
        let loss = Loss {
            lines: 0,
            failure: None,
        };
        Self {
            state: Mutex::new(State {
                text: Vec::new(),
                lines: 0,
                bytes: 0,
                is_busy: false,
                flushers: 0,
                loss,
                is_failing: false,
                last_report: None,
            }),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            dropped: AtomicU64::new(0),
            is_idle: AtomicBool::new(true),
        }
    }

    /// Adds one line or several, all or none. Lines without room are dropped and counted.
    pub(super) fn push(&self, text: &[u8]) {
        let mut state = self.lock();
        let has_room = state.lines + lines_in(text) <= MAX_LINES
            && text.len() <= MAX_BYTES.saturating_sub(state.bytes);
        if has_room {
            self.add(state, text);
        } else {
            self.lose(&mut state, lines_in(text));
        }
    }

    /// Adds a line even without room: for reports, which are rare.
    pub(super) fn push_report(&self, text: &[u8]) {
        self.add(self.lock(), text);
    }

    /// The next work; waits for it. To be called by one thread, which has finished its previous work.
    pub(super) fn next(&self) -> Work {
        let mut state = self.lock();
        state.is_busy = false;
        loop {
            if state.is_report_due() {
                state.is_busy = true;
                state.last_report = Some(Instant::now());
                return Work::Report(std::mem::take(&mut state.loss));
            }
            if !state.text.is_empty() {
                state.is_busy = true;
                return Work::Write(std::mem::take(&mut state.text));
            }
            if state.is_done() {
                self.is_idle.store(true, Ordering::Release);
                self.emptied.notify_all();
            }
            state = if state.has_report() {
                let waited = self.filled.wait_timeout(state, REPORT_INTERVAL);
                waited.unwrap_or_else(PoisonError::into_inner).0
            } else {
                let waited = self.filled.wait(state);
                waited.unwrap_or_else(PoisonError::into_inner)
            };
        }
    }

    /// Releases the room of lines that the thread has written or failed to write.
    pub(super) fn release(&self, text: &[u8], written: &io::Result<()>) {
        let mut state = self.lock();
        state.lines = state.lines.saturating_sub(lines_in(text));
        state.bytes = state.bytes.saturating_sub(text.len());
        state.is_failing = written.is_err();
        if let Err(error) = written {
            self.lose(&mut state, lines_in(text));
            state.loss.failure = Some(error.to_string());
        }
    }

    /// Waits until everything is written or has failed; returns whether that was before `deadline`.
    pub(super) fn wait_until_written(&self, deadline: Instant) -> bool {
        let mut state = self.lock();
        state.flushers += 1;
        self.filled.notify_all();
        let time = deadline.saturating_duration_since(Instant::now());
        let waited = self
            .emptied
            .wait_timeout_while(state, time, |state| !state.is_done());
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.flushers -= 1;
        state.is_done()
    }

    /// Whether everything is written, without the lock.
    pub(super) fn is_idle(&self) -> bool {
        self.is_idle.load(Ordering::Acquire)
    }

    /// The number of lines dropped up to now.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn add(&self, mut state: MutexGuard<'_, State>, text: &[u8]) {
        state.text.extend_from_slice(text);
        state.lines += lines_in(text);
        state.bytes += text.len();
        self.is_idle.store(false, Ordering::Release);
        let is_busy = state.is_busy;
        drop(state);
        if !is_busy {
            self.filled.notify_one();
        }
    }

    fn lose(&self, state: &mut State, lines: usize) {
        state.loss.lines += lines as u64;
        self.dropped.fetch_add(lines as u64, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A text without a newline counts as a line.
pub(super) fn lines_in(text: &[u8]) -> usize {
    text.iter().filter(|&&byte| byte == b'\n').count().max(1)
}
