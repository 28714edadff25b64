//! Runs beside each other, which share the threads of one pool.
//!
//! While there is a run for each thread of the pool, runs on several threads would only wait for each
//! other. Whether there is follows from this moment and from the last run: under load one often ends an
//! instant before the next begins.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The runs that share a pool.
pub(super) struct Crowd {
    runs: AtomicUsize,
    /// Whether the run that ended last was in a dense crowd.
    was_dense: AtomicBool,
}

impl Crowd {
    pub(super) const fn new() -> Self {
        Self {
            runs: AtomicUsize::new(0),
            was_dense: AtomicBool::new(false),
        }
    }

    /// A run begins; the pool has so many threads.
    pub(super) fn join(&self, threads: usize) -> Member<'_> {
        let runs = self.runs.fetch_add(1, Ordering::Relaxed) + 1;
        Member {
            crowd: self,
            threads,
            began_dense: runs >= threads,
            was_dense: self.was_dense.load(Ordering::Relaxed),
        }
    }
}

/// A run that is under way, as long as this exists.
#[must_use]
pub(super) struct Member<'a> {
    crowd: &'a Crowd,
    threads: usize,
    began_dense: bool,
    was_dense: bool,
}

impl Member<'_> {
    /// Whether every thread of the pool has a run of its own, or is about to.
    pub(super) fn is_in_dense_crowd(&self) -> bool {
        self.began_dense || self.was_dense
    }
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        let runs = self.crowd.runs.fetch_sub(1, Ordering::Relaxed);
        let is_dense = self.began_dense || runs >= self.threads;
        self.crowd.was_dense.store(is_dense, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_runs_as_threads_are_a_dense_crowd() {
        let crowd = Crowd::new();
        let first = crowd.join(2);
        assert!(!first.is_in_dense_crowd());
        let second = crowd.join(2);
        assert!(second.is_in_dense_crowd());
        assert!(!crowd.join(4).is_in_dense_crowd());
    }

    #[test]
    fn density_outlasts_a_run_and_not_two() {
        let crowd = Crowd::new();
        // The first began alone, and ended beside the second.
        let first = crowd.join(2);
        let second = crowd.join(2);
        drop(first);
        drop(second);
        let lone = crowd.join(2);
        assert!(lone.is_in_dense_crowd());
        drop(lone);
        assert!(!crowd.join(2).is_in_dense_crowd());
    }
}
