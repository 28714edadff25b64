//! Whether the requests for one graph come one at a time, so that a batch need not wait for others.
//!
//! If the worker that received a request also runs its batch, it cannot receive the requests that
//! would have joined the batch: with one worker every request would look lone. A lone request is
//! therefore occasionally sent through the queue, where others can join it.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::constants::CONSTANTS;

/// Whether the last batches of a graph had one request or several.
#[derive(Debug, Default)]
pub(super) struct LoneRequests {
    /// Batches of one request since the last batch of several.
    lone: AtomicUsize,
}

impl LoneRequests {
    /// Records a batch of this many requests.
    pub(super) fn note(&self, requests: usize) {
        if requests > 1 {
            self.lone.store(0, Ordering::Relaxed);
        } else {
            self.lone.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether another request is likely to join the next batch.
    pub(super) fn is_likely(&self) -> bool {
        let lone = self.lone.load(Ordering::Relaxed);
        lone < CONSTANTS.lone_after || lone.is_multiple_of(CONSTANTS.lone_trial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_lone_after_some_that_were() {
        let requests = LoneRequests::default();
        for _ in 0..CONSTANTS.lone_after {
            assert!(requests.is_likely());
            requests.note(1);
        }
        assert!(!requests.is_likely());
        requests.note(2);
        assert!(requests.is_likely());
    }

    #[test]
    fn now_and_then_a_lone_request_is_tried() {
        let requests = LoneRequests::default();
        let likely = (0..CONSTANTS.lone_after + 10 * CONSTANTS.lone_trial).filter(|_| {
            let likely = requests.is_likely();
            requests.note(1);
            likely
        });
        assert_eq!(likely.count(), CONSTANTS.lone_after + 10);
    }
}
