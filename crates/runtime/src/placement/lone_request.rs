//! Whether the requests for one graph come one at a time, so that a batch need not wait for others.
//!
//! If the worker that received a request also runs its batch, it cannot receive the requests that
//! would have joined the batch: with one worker every request would look lone. A lone request is
//! therefore occasionally sent through the queue, where others can join it.

use std::sync::atomic::{AtomicUsize, Ordering};

/// After this many batches of one request in a row, the next request counts as lone.
const ENOUGH: usize = 8;
/// One in this many lone requests goes through the queue.
const TRIAL: usize = 64;

/// Whether the last batches of a graph had one request or several.
#[derive(Debug, Default)]
pub struct LoneRequests {
    /// Batches of one request since the last batch of several.
    lone: AtomicUsize,
}

impl LoneRequests {
    /// Records a batch of this many requests.
    pub fn note(&self, requests: usize) {
        if requests > 1 {
            self.lone.store(0, Ordering::Relaxed);
        } else {
            self.lone.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether another request is likely to join the next batch.
    pub fn is_likely(&self) -> bool {
        let lone = self.lone.load(Ordering::Relaxed);
        lone < ENOUGH || lone.is_multiple_of(TRIAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_lone_after_some_that_were() {
        let company = LoneRequests::default();
        for _ in 0..ENOUGH {
            assert!(company.is_likely());
            company.note(1);
        }
        assert!(!company.is_likely());
        company.note(2);
        assert!(company.is_likely());
    }

    #[test]
    fn now_and_then_a_lone_request_is_tried() {
        let company = LoneRequests::default();
        let likely = (0..ENOUGH + 10 * TRIAL).filter(|_| {
            let likely = company.is_likely();
            company.note(1);
            likely
        });
        assert_eq!(likely.count(), ENOUGH + 10);
    }
}
