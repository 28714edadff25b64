//! Bounds on the requests that are worked on: how many, how large together, how many at a time.
//!
//! [`Admission`] refuses what is too much for the server; `Gate` lets calls wait for their turn.
//! Not here: bounds on connections (`serve`, `connection`) and on one request (`receive`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::peer::ConnectionNumber;
use crate::error::{Result, ServingError};

/// What each request may hold without being counted: small ones pass however much large ones take.
const UNCOUNTED_BYTES: u64 = 64 << 10;

/// What is let in beside the requests at a time, altogether and of one connection. A probe is answered
/// within a millisecond, so that many are answers that clients do not read.
const MAX_PROBES: (usize, usize) = (65_536, 256);
/// A client watches a server's health once.
const MAX_LASTING: (usize, usize) = (8192, 64);
/// Tools for people use reflection. Each stream may hold some messages.
const MAX_REFLECTIONS: (usize, usize) = (1024, 16);

/// A request that held so much was a large one: the allocator may keep its memory.
const LARGE_BYTES: u64 = 4 << 20;

/// What all requests of a server may take together.
#[derive(Clone, Debug)]
pub struct Admission(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    max_requests: usize,
    max_bytes: u64,
    requests: AtomicUsize,
    bytes: AtomicU64,
    /// Large requests that ended, ever.
    large: AtomicUsize,
    beside: [Shares; 3],
}

/// What is let in beside the requests: a busy server answers it all the same, so that it has bounds
/// of its own, of which one connection takes a small part.
#[derive(Clone, Copy, Debug)]
pub(super) enum Beside {
    /// A probe or a page: it takes a moment.
    Probe,
    /// A call that goes on until the client or the server ends it.
    Lasting,
    /// A stream of server reflection.
    Reflection,
}

/// A request that was let in; it counts until this is dropped, once its answer is sent.
#[derive(Debug)]
pub(super) struct Admitted {
    budget: Arc<Budget>,
    bytes: AtomicU64,
    /// `None` for one that counts as a request.
    beside: Option<(Beside, ConnectionNumber)>,
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
            large: AtomicUsize::new(0),
            beside: [MAX_PROBES, MAX_LASTING, MAX_REFLECTIONS]
                .map(|(max, of_one)| Shares::new(max, of_one)),
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
            beside: None,
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

    /// Lets something in that does not count as a request, though its bytes do.
    ///
    /// # Errors
    ///
    /// [`ServingError::Overloaded`] beyond the bound of its kind.
    pub(super) fn enter_beside(
        &self,
        kind: Beside,
        connection: ConnectionNumber,
    ) -> Result<Admitted> {
        if !self.0.beside[kind as usize].take(connection) {
            let what = match kind {
                Beside::Probe => "probes and pages",
                Beside::Lasting => "watches",
                Beside::Reflection => "streams of server reflection",
            };
            return Err(ServingError::Overloaded {
                reason: format!("the server is at its limit of {what}"),
            });
        }
        Ok(Admitted {
            budget: Arc::clone(&self.0),
            bytes: AtomicU64::new(0),
            beside: Some((kind, connection)),
        })
    }

    /// How many large requests have ended, ever, and whether none is under way.
    pub fn large_requests(&self) -> (usize, bool) {
        let ended = self.0.large.load(Ordering::Relaxed);
        (ended, self.0.bytes.load(Ordering::Relaxed) == 0)
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

    /// Notes that an answer of so many bytes is all that this request holds from now on, if that is
    /// more than it held.
    ///
    /// # Errors
    ///
    /// As [`grow`](Self::grow): the answer has to be dropped.
    pub(super) fn hold_answer(&self, bytes: usize) -> Result<()> {
        let held = self.bytes.load(Ordering::Relaxed);
        let more = (bytes as u64).saturating_sub(held);
        self.grow(usize::try_from(more).unwrap_or(usize::MAX))
    }
}

impl Admitted {
    /// Whether it goes on until either side ends it.
    pub(super) fn lasts(&self) -> bool {
        matches!(self.beside, Some((Beside::Lasting | Beside::Reflection, _)))
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        match self.beside {
            None => drop(self.budget.requests.fetch_sub(1, Ordering::Relaxed)),
            Some((kind, connection)) => self.budget.beside[kind as usize].give_back(connection),
        }
        let bytes = counted(*self.bytes.get_mut());
        if bytes > 0 {
            self.budget.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        if bytes >= LARGE_BYTES {
            self.budget.large.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn counted(held: u64) -> u64 {
    held.saturating_sub(UNCOUNTED_BYTES)
}

/// A number of places, of which one connection takes no more than its share.
#[derive(Debug)]
pub(super) struct Shares {
    max: usize,
    max_of_one: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug)]
struct Taken {
    all: usize,
    /// Connections without a place are not kept.
    by_connection: BTreeMap<ConnectionNumber, usize>,
}

impl Shares {
    pub(super) const fn new(max: usize, max_of_one: usize) -> Self {
        let taken = Taken {
            all: 0,
            by_connection: BTreeMap::new(),
        };
        Self {
            max,
            max_of_one,
            taken: Mutex::new(taken),
        }
    }

    /// Takes a place for this connection, if there is one.
    pub(super) fn take(&self, connection: ConnectionNumber) -> bool {
        let mut taken = self.lock();
        if taken.all >= self.max {
            return false;
        }
        let of_connection = taken.by_connection.entry(connection).or_default();
        if *of_connection >= self.max_of_one {
            return false;
        }
        *of_connection += 1;
        taken.all += 1;
        true
    }

    pub(super) fn give_back(&self, connection: ConnectionNumber) {
        let mut taken = self.lock();
        taken.all = taken.all.saturating_sub(1);
        match taken.by_connection.get_mut(&connection) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.by_connection.remove(&connection)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
    fn what_comes_beside_the_requests_has_bounds_of_its_own() {
        let admission = Admission::new(0, 100);
        assert!(admission.enter().is_err());
        for kind in [Beside::Probe, Beside::Lasting, Beside::Reflection] {
            let enter = |connection| admission.enter_beside(kind, connection);
            let shares = &admission.0.beside[kind as usize];
            let held: Vec<_> = std::iter::from_fn(|| enter(1).ok()).collect();
            assert_eq!(held.len(), shares.max_of_one);
            let admitted = enter(2).unwrap();
            let error = admitted.grow(UNCOUNTED_BYTES as usize + 101).unwrap_err();
            assert_eq!(error.code(), Code::ResourceExhausted);
            drop(held);
            enter(1).unwrap();
            drop(admitted);
            let all: Vec<_> = (0..)
                .map_while(|connection| enter(connection).ok())
                .collect();
            assert_eq!(all.len(), shares.max);
            drop(all);
            assert!(shares.lock().by_connection.is_empty());
        }
        assert_eq!(admission.large_requests(), (0, true));
    }

    #[test]
    fn an_answer_counts_where_it_is_larger_than_its_request() {
        let admission = Admission::new(2, 100);
        let admitted = admission.enter().unwrap();
        let uncounted = UNCOUNTED_BYTES as usize;
        admitted.grow(uncounted + 40).unwrap();
        admitted.hold_answer(uncounted).unwrap();
        admitted.hold_answer(uncounted + 90).unwrap();
        let other = admission.enter().unwrap();
        other.grow(uncounted + 10).unwrap();
        assert!(other.hold_answer(uncounted + 11).is_err());
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
