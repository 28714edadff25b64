//! Bounds on the requests that are worked on: how many, how large together, how many at a time.
//!
//! [`Admission`] refuses what is too much for the server; `Gate` lets calls wait for their turn.
//! Not here: bounds on connections (`serve`, `connection`) and on one request (`receive`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Result, ServingError};

/// What each request may hold without being counted: small ones pass however much large ones take.
const UNCOUNTED_BYTES: u64 = 64 << 10;

/// What all requests of a server may take together.
#[derive(Clone, Debug)]
pub struct Admission(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    max_requests: usize,
    max_bytes: u64,
    requests: AtomicUsize,
    bytes: AtomicU64,
}

/// A request that was let in; it counts until this is dropped, once its answer is sent.
#[derive(Debug)]
pub(super) struct Admitted {
    budget: Arc<Budget>,
    bytes: AtomicU64,
}

impl Admission {
    /// Lets so many requests in at a time (`--max_concurrent_requests`), with so many bytes
    /// together (`--max_bytes_in_flight`).
    pub fn new(max_requests: usize, max_bytes: u64) -> Self {
        Self(Arc::new(Budget {
            max_requests,
            max_bytes,
            requests: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
        }))
    }

    /// Lets a request in.
    ///
    /// # Errors
    ///
    /// [`ServingError::Overloaded`] beyond the bound.
    pub(super) fn enter(&self) -> Result<Admitted> {
        let admitted = Admitted {
            budget: Arc::clone(&self.0),
            bytes: AtomicU64::new(0),
        };
        // Counted first, and uncounted when `admitted` is dropped.
        let before = self.0.requests.fetch_add(1, Ordering::Relaxed);
        if before >= self.0.max_requests {
            return Err(ServingError::Overloaded {
                reason: format!(
                    "the server is at its limit of {} requests at a time \
                     (--max_concurrent_requests)",
                    self.0.max_requests
                ),
            });
        }
        Ok(admitted)
    }
}

impl Admitted {
    /// Adds bytes that this request holds from now on. The first [`UNCOUNTED_BYTES`] are free.
    ///
    /// # Errors
    ///
    /// [`ServingError::Overloaded`] beyond the bound of all requests.
    pub(super) fn grow(&self, bytes: usize) -> Result<()> {
        let bytes = bytes as u64;
        let held = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let bytes = counted(held) - counted(held - bytes);
        if bytes == 0 {
            return Ok(());
        }
        let before = self.budget.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.budget.max_bytes {
            return Err(ServingError::Overloaded {
                reason: format!(
                    "the requests under way have reached {} bytes together \
                     (--max_bytes_in_flight)",
                    self.budget.max_bytes
                ),
            });
        }
        Ok(())
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.budget.requests.fetch_sub(1, Ordering::Relaxed);
        let bytes = counted(*self.bytes.get_mut());
        self.budget.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

fn counted(held: u64) -> u64 {
    held.saturating_sub(UNCOUNTED_BYTES)
}

/// Lets a number of calls in at a time, or any number. Those beyond wait, first come, first
/// served, until their deadline.
#[derive(Clone, Debug)]
pub(super) struct Gate(Option<Arc<Semaphore>>);

impl Gate {
    /// A gate for so many calls; `None` for any number.
    pub(super) fn new(max_calls: Option<usize>) -> Self {
        Self(max_calls.map(|max| Arc::new(Semaphore::new(max.clamp(1, Semaphore::MAX_PERMITS)))))
    }

    /// Waits for a place, which the returned permit holds.
    ///
    /// # Errors
    ///
    /// `DEADLINE_EXCEEDED` where the deadline comes first.
    pub(super) async fn enter(
        &self,
        deadline: Option<Instant>,
    ) -> Result<Option<OwnedSemaphorePermit>> {
        let Some(semaphore) = &self.0 else {
            return Ok(None);
        };
        let entry = Arc::clone(semaphore).acquire_owned();
        let entered = match deadline {
            None => entry.await,
            Some(deadline) => tokio::time::timeout_at(deadline.into(), entry)
                .await
                .map_err(|_| ServingError::deadline_exceeded())?,
        };
        entered
            .map(Some)
            .map_err(|_| ServingError::internal("the gate was closed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[tokio::test]
    async fn calls_beyond_the_bound_wait_until_their_deadline() {
        let gate = Gate::new(Some(1));
        let first = gate.enter(None).await.unwrap();
        let error = gate.enter(Some(Instant::now())).await.unwrap_err();
        assert_eq!(error.code(), Code::DeadlineExceeded);
        drop(first);
        assert!(gate.enter(Some(Instant::now())).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn without_a_bound_nobody_waits() {
        let gate = Gate::new(None);
        assert!(gate.enter(None).await.unwrap().is_none());
    }

    #[test]
    fn requests_beyond_the_bound_are_refused() {
        let admission = Admission::new(2, 100);
        let first = admission.enter().unwrap();
        let _second = admission.enter().unwrap();
        let error = admission.enter().unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted);
        drop(first);
        admission.enter().unwrap();
    }

    #[test]
    fn bytes_beyond_the_bound_are_refused() {
        let admission = Admission::new(2, 100);
        let first = admission.enter().unwrap();
        let second = admission.enter().unwrap();
        let uncounted = UNCOUNTED_BYTES as usize;
        first.grow(uncounted / 2).unwrap();
        first.grow(uncounted / 2 + 60).unwrap();
        second.grow(uncounted).unwrap();
        second.grow(40).unwrap();
        let error = first.grow(1).unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted);
        // What the first one held, the refused byte included, is free again.
        drop(first);
        second.grow(60).unwrap();
        assert!(second.grow(1).is_err());
    }
}
