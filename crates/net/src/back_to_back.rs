//! Detects a client that sends requests back to back while no other client sends any.
//!
//! Not here: busy-polling such a client (`inline_stream`, `busy_poll`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The number of prompt requests in a row that make a client prompt: enough to notice other clients that
/// send requests now and then.
const ENOUGH: usize = 64;

/// The back_to_back of the last requests of one connection.
pub(super) struct BackToBack {
    window: Duration,
    in_a_row: AtomicUsize,
    /// The last request's number among those of all connections.
    last: AtomicUsize,
}

impl BackToBack {
    /// A request is prompt if it comes within `window` of the previous answer.
    pub(super) fn new(window: Duration) -> Self {
        Self {
            window,
            in_a_row: AtomicUsize::new(0),
            last: AtomicUsize::new(0),
        }
    }

    /// Notes a request, the only one of its connection, that came this long after the last answer. Requests
    /// are numbered consecutively across all connections.
    pub(super) fn note(&self, number: usize, pause: Duration) {
        let is_next = self.last.swap(number, Ordering::Relaxed).wrapping_add(1) == number;
        if is_next && pause <= self.window {
            self.in_a_row.fetch_add(1, Ordering::Relaxed);
        } else {
            self.reset();
        }
    }

    /// Forgets the requests so far.
    pub(super) fn reset(&self) {
        self.in_a_row.store(0, Ordering::Relaxed);
    }

    /// How long after an answer to busy-poll for the next request; `None` if it will probably take longer.
    pub(super) fn window(&self) -> Option<Duration> {
        let is_prompt = self.in_a_row.load(Ordering::Relaxed) >= ENOUGH;
        (is_prompt && !self.window.is_zero()).then_some(self.window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_micros(300);

    /// After the required number of prompt requests, numbered from 1.
    fn prompt() -> BackToBack {
        let back_to_back = BackToBack::new(WINDOW);
        for number in 1..=ENOUGH {
            assert_eq!(back_to_back.window(), None);
            back_to_back.note(number, WINDOW);
        }
        assert_eq!(back_to_back.window(), Some(WINDOW));
        back_to_back
    }

    #[test]
    fn client_that_takes_its_time_is_not_prompt() {
        let back_to_back = prompt();
        back_to_back.note(ENOUGH + 1, WINDOW + Duration::from_micros(1));
        assert_eq!(back_to_back.window(), None);
        back_to_back.note(ENOUGH + 2, Duration::ZERO);
        assert_eq!(back_to_back.window(), None);
    }

    #[test]
    fn client_beside_another_is_not_prompt() {
        let back_to_back = prompt();
        back_to_back.note(ENOUGH + 2, Duration::ZERO);
        assert_eq!(back_to_back.window(), None);
    }

    #[test]
    fn nobody_is_prompt_without_a_window() {
        let back_to_back = BackToBack::new(Duration::ZERO);
        for number in 1..=2 * ENOUGH {
            back_to_back.note(number, Duration::ZERO);
        }
        assert_eq!(back_to_back.window(), None);
    }
}
