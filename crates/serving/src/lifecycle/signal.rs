//! A flag that is raised once, and on which a thread can wait instead of sleeping.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Raised once, never lowered.
#[derive(Default)]
pub struct Signal {
    /// Held only for a few instructions.
    is_raised: Mutex<bool>,
    raised: Condvar,
}

impl Signal {
    /// Wakes all threads that wait.
    pub fn raise(&self) {
        *self
            .is_raised
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = true;
        self.raised.notify_all();
    }

    /// Whether it is raised.
    pub fn is_raised(&self) -> bool {
        *self
            .is_raised
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits at most `time` for the signal. Returns whether it is raised.
    pub fn wait(&self, time: Duration) -> bool {
        let begin = Instant::now();
        let mut is_raised = self
            .is_raised
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while !*is_raised {
            let Some(rest) = time.checked_sub(begin.elapsed()).filter(|it| !it.is_zero()) else {
                return false;
            };
            is_raised = self
                .raised
                .wait_timeout(is_raised, rest)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }
}
