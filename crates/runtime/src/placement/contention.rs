//! Concurrent runs that share the threads of one pool.
//!
//! While there is a run for each thread of the pool, runs on several threads would only wait for each
//! other. This is judged by the runs of this moment and by the last few runs: under load one run often
//! ends an instant before the next begins.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::constants::CONSTANTS;

/// The runs that share a pool.
#[derive(Debug, Default)]
pub(super) struct Contention {
    runs: AtomicUsize,
    /// How many of the next runs are expected to be crowded, because the last ones were.
    dense: AtomicUsize,
}

impl Contention {
    /// Adds a run; the pool has `threads` threads.
    pub(super) fn join(&self, threads: usize) -> Member<'_> {
        let runs = self.runs.fetch_add(1, Ordering::Relaxed) + 1;
        Member {
            contention: self,
            threads,
            began_dense: runs >= threads,
            expects_dense: self.dense.load(Ordering::Relaxed) > 0,
        }
    }
}

/// A run in flight, as long as this exists.
#[must_use]
pub(super) struct Member<'a> {
    contention: &'a Contention,
    threads: usize,
    began_dense: bool,
    expects_dense: bool,
}

impl Member<'_> {
    /// Whether every thread of the pool has a run of its own, or is about to.
    pub(super) fn is_contended(&self) -> bool {
        self.began_dense || self.expects_dense
    }
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        let runs = self.contention.runs.fetch_sub(1, Ordering::Relaxed);
        let dense = match self.began_dense || runs >= self.threads {
            true => CONSTANTS.contention_outlasts,
            // Two runs that end at the same time can count as one.
            false => self
                .contention
                .dense
                .load(Ordering::Relaxed)
                .saturating_sub(1),
        };
        self.contention.dense.store(dense, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_runs_as_threads_are_a_dense_crowd() {
        let contention = Contention::default();
        let first = contention.join(2);
        assert!(!first.is_contended());
        let second = contention.join(2);
        assert!(second.is_contended());
        assert!(!contention.join(4).is_contended());
    }

    #[test]
    fn density_outlasts_some_runs() {
        let contention = Contention::default();
        // The first began alone, and ended while the second ran.
        let first = contention.join(2);
        let second = contention.join(2);
        drop(first);
        drop(second);
        for _ in 0..CONSTANTS.contention_outlasts {
            assert!(contention.join(2).is_contended());
        }
        assert!(!contention.join(2).is_contended());
    }
}
