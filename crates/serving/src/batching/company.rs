//! Whether the requests for one graph come one at a time, so that a batch need not wait for others.
//!
//! A batch that is run by the worker that received its request keeps that worker from the requests that
//! would have joined it: with one worker every request would look lone. So now and then one goes
//! through the queue all the same, where others can join it.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Batches of one request in a row that make the next one lone.
const ENOUGH: usize = 8;
/// Of so many lone requests, one goes through the queue.
const TRIAL: usize = 64;

/// What the last batches of a graph tell.
#[derive(Debug, Default)]
pub(super) struct Company {
    /// Batches of one request since the last of several.
    lone: AtomicUsize,
}

impl Company {
    /// Notes a batch of so many requests.
    pub(super) fn note(&self, requests: usize) {
        if requests > 1 {
            self.lone.store(0, Ordering::Relaxed);
        } else {
            self.lone.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether the next request may have any.
    pub(super) fn is_likely(&self) -> bool {
        let lone = self.lone.load(Ordering::Relaxed);
        lone < ENOUGH || lone.is_multiple_of(TRIAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_lone_after_some_that_were() {
        let company = Company::default();
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
        let company = Company::default();
        let likely = (0..ENOUGH + 10 * TRIAL).filter(|_| {
            let likely = company.is_likely();
            company.note(1);
            likely
        });
        assert_eq!(likely.count(), ENOUGH + 10);
    }
}
