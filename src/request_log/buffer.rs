//! Calls on their way to the thread that writes them. The buffer is bounded, and adding a call never
//! waits.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::config::ModelLogging;
use serving::inference::LoggedCall;

/// Further calls are dropped. The bytes are those of the tensors.
const MAX_CALLS: usize = 10_000;
pub(super) const MAX_BYTES: usize = 64 << 20;

/// A call to write.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) logging: ModelLogging,
    pub(super) call: LoggedCall,
    pub(super) at: SystemTime,
    bytes: usize,
}

/// The result of [`Buffer::next`].
#[derive(Debug)]
pub(super) enum Next {
    Entry(Box<Entry>),
    /// No call came in time.
    Idle,
    /// The buffer is closed and empty.
    Closed,
}

#[derive(Debug, Default)]
pub(super) struct Buffer {
    /// Held for a few instructions.
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    entries: VecDeque<Box<Entry>>,
    bytes: usize,
    is_closed: bool,
}

impl Buffer {
    /// Adds a call. Returns whether there was room for it.
    pub(super) fn push(&self, logging: ModelLogging, call: LoggedCall) -> bool {
        let bytes = call.memory_bytes();
        let mut state = self.lock();
        let is_full = state.entries.len() >= MAX_CALLS || bytes > MAX_BYTES - state.bytes;
        if is_full || state.is_closed {
            return false;
        }
        state.bytes += bytes;
        state.entries.push_back(Box::new(Entry {
            logging,
            call,
            at: SystemTime::now(),
            bytes,
        }));
        drop(state);
        self.changed.notify_one();
        true
    }

    /// The next call; waits for it at most this long.
    pub(super) fn next(&self, wait: Duration) -> Next {
        let is_waiting = |state: &mut State| state.entries.is_empty() && !state.is_closed;
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), wait, is_waiting);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match state.entries.pop_front() {
            Some(entry) => {
                state.bytes -= entry.bytes;
                Next::Entry(entry)
            }
            None if state.is_closed => Next::Closed,
            None => Next::Idle,
        }
    }

    /// Accepts no more calls; those in the buffer are still written.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
