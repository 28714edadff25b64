//! The place and the bytes that one admitted request holds, and how it gives them up.
//!
//! Not here: admitting it (`limit`), which request makes room (`budget`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::Notify;

use super::budget::{Budget, WaitingRequest, weight};
use super::{ExemptCall, REQUEST_BYTES, UNCOUNTED_BYTES};
use crate::head::Head;
use crate::peer::{ConnectionNumber, Source};
use base::error::{Result, ServingError};

/// A request that held at least this much was a large one: the allocator might keep its memory.
const LARGE_BYTES: u64 = 4 << 20;

/// A request that was admitted. It counts until this is dropped, when its answer is sent.
#[derive(Debug)]
pub struct Admitted {
    budget: Arc<Budget>,
    peer: (Source, ConnectionNumber),
    /// `None` if it counts as a request.
    exempt: Option<ExemptCall>,
    began: Instant,
    bytes: AtomicU64,
    /// This many of its bytes are not counted.
    uncounted: AtomicU64,
    /// Whether it has made room for another request, which has its place now.
    has_made_room: AtomicBool,
    /// The bytes that it counted for at that time.
    going: AtomicU64,
    /// Notified when it has to make room.
    told: Notify,
}

/// A request that waits for its client, until this is dropped.
#[derive(Debug)]
pub struct Waits {
    admitted: Arc<Admitted>,
    number: u64,
}

impl Admitted {
    pub(super) fn new(budget: &Arc<Budget>, exempt: Option<ExemptCall>, head: &Head) -> Self {
        Self {
            budget: Arc::clone(budget),
            peer: (head.source, head.connection),
            exempt,
            began: Instant::now(),
            bytes: AtomicU64::new(0),
            uncounted: AtomicU64::new(UNCOUNTED_BYTES),
            has_made_room: AtomicBool::new(false),
            going: AtomicU64::new(0),
            told: Notify::new(),
        }
    }

    /// Adds bytes that this request holds from now on. The first `UNCOUNTED_BYTES` are free.
    ///
    /// # Errors
    ///
    /// [`ServingError::Overloaded`] if the limit on all requests is reached and none makes room.
    pub fn grow(&self, bytes: usize) -> Result<()> {
        let bytes = bytes as u64;
        let held = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let uncounted = self.uncounted.load(Ordering::Relaxed);
        let bytes = held.saturating_sub(uncounted) - (held - bytes).saturating_sub(uncounted);
        if bytes == 0 {
            return Ok(());
        }
        let before = self.budget.bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= self.budget.max_bytes;
        if !fits && !self.budget.make_room_for_bytes(held) {
            return Err(ServingError::Overloaded {
                reason: format!(
                    "the requests in flight have reached {} bytes together \
                     (--max_bytes_in_flight)",
                    self.budget.max_bytes
                ),
            });
        }
        Ok(())
    }

    /// Notes that from now on this request holds only an answer of this many bytes, if that is more than it
    /// held.
    ///
    /// # Errors
    ///
    /// Those of [`grow`](Self::grow): the answer has to be dropped.
    pub fn hold_answer(&self, bytes: usize) -> Result<()> {
        let held = self.bytes.load(Ordering::Relaxed);
        let more = (bytes as u64).saturating_sub(held);
        self.grow(usize::try_from(more).unwrap_or(usize::MAX))
    }

    /// Notes that the request waits for its client, and can be asked to [make room](Waits::makes_room) for
    /// another, until the returned value is dropped. From now on all of its bytes count.
    pub fn waits(self: &Arc<Self>) -> Waits {
        let budget = &self.budget;
        let uncounted = self.uncounted.swap(0, Ordering::Relaxed);
        let mut held = self.bytes.load(Ordering::Relaxed);
        if uncounted > 0 {
            self.bytes.fetch_add(REQUEST_BYTES, Ordering::Relaxed);
            let more = held.min(uncounted) + REQUEST_BYTES;
            budget.bytes.fetch_add(more, Ordering::Relaxed);
            held += REQUEST_BYTES;
        }
        let mut waiting = budget.waiting(self.exempt);
        let number = waiting.add(self.peer, weight(held), Arc::<Self>::clone(self));
        drop(waiting);
        // This can make this request itself give up its place.
        budget.make_room_for_bytes(0);
        Waits {
            admitted: Arc::clone(self),
            number,
        }
    }

    /// Whether room might be needed at any moment.
    pub(crate) fn is_one_of_many(&self) -> bool {
        let (budget, count) = (&self.budget, || {
            self.budget.requests.load(Ordering::Relaxed)
        });
        self.exempt.is_some() || count() >= budget.max_requests / 2
    }

    /// Whether it lasts until either side ends it.
    pub fn lasts(&self) -> bool {
        matches!(
            self.exempt,
            Some(ExemptCall::Lasting | ExemptCall::Reflection)
        )
    }

    fn counted(&self) -> u64 {
        let uncounted = self.uncounted.load(Ordering::Relaxed);
        self.bytes.load(Ordering::Relaxed).saturating_sub(uncounted)
    }
}

impl WaitingRequest for Admitted {
    fn began(&self) -> Instant {
        self.began
    }

    fn make_room(&self) {
        if self.has_made_room.swap(true, Ordering::Relaxed) {
            return;
        }
        let going = self.counted();
        self.going.store(going, Ordering::Relaxed);
        self.budget.going_bytes.fetch_add(going, Ordering::Relaxed);
        self.budget.give_back(self.exempt, self.peer.1);
        self.told.notify_one();
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if !*self.has_made_room.get_mut() {
            self.budget.give_back(self.exempt, self.peer.1);
        }
        let bytes = self.counted();
        if bytes > 0 {
            self.budget.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        let going = *self.going.get_mut();
        if going > 0 {
            self.budget.going_bytes.fetch_sub(going, Ordering::Relaxed);
        }
        if bytes >= LARGE_BYTES {
            self.budget.large.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Waits {
    /// Completes once the request has to make room for another. Returns the error to refuse it with.
    pub async fn makes_room(&self) -> ServingError {
        self.admitted.told.notified().await;
        ServingError::Overloaded {
            reason: "the server is at its limits, and this request, which waited for its client, \
                     had to make room for another"
                .to_owned(),
        }
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        let admitted = &self.admitted;
        let mut waiting = admitted.budget.waiting(admitted.exempt);
        let removed = waiting.remove(admitted.peer, self.number);
        drop(waiting);
        drop(removed);
    }
}
