//! Wakes the manager's thread.
//!
//! Not here: the reasons, which the thread finds in its state.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Raised by any thread, lowered by the one that waits for it. Nothing is lost between two waits.
#[derive(Default)]
pub(super) struct Wakeup {
    /// Held only for a few instructions, so async workers can call [`wake`](Self::wake).
    is_raised: Mutex<bool>,
    raised: Condvar,
}

impl Wakeup {
    /// Ends the current wait, or the next one.
    pub(super) fn wake(&self) {
        *self
            .is_raised
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = true;
        self.raised.notify_one();
    }

    /// Waits until it is raised, or until `time`, and lowers it.
    pub(super) fn wait_until(&self, time: Option<Instant>) {
        let mut is_raised = self
            .is_raised
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while !*is_raised {
            is_raised = match time.map(|it| it.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return,
                Some(rest) => {
                    let waited = self.raised.wait_timeout(is_raised, rest);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let waited = self.raised.wait(is_raised);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
        *is_raised = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wakeup_before_a_wait_ends_it_once() {
        let wakeup = Wakeup::default();
        wakeup.wake();
        wakeup.wake();
        wakeup.wait_until(None);
        let soon = Instant::now() + Duration::from_millis(5);
        wakeup.wait_until(Some(soon));
        assert!(Instant::now() >= soon);
    }

    #[test]
    fn wakeup_of_another_thread_ends_a_wait() {
        let wakeup = Wakeup::default();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| wakeup.wait_until(None));
            wakeup.wake();
            waiting.join().unwrap();
        });
    }
}
