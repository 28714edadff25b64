//! Limits on the requests in flight: how many, and how many bytes together.
//!
//! [`LoadShed`] refuses requests beyond the server's limits.
//!
//! A request that waits for its client never keeps another out. At a limit, the request that `waiting`
//! ranks first makes room and is refused, or a connection whose client does not read is closed (`places`).
//! A request that the server is working on never makes room. While there is room, a request enters the
//! ranking only after it has waited for a moment, so that the usual request, which is complete at the first
//! or second poll, takes no lock.
//!
//! Here is how a request is admitted; `budget` has the places and bytes that all requests share, `admitted`
//! those that one of them holds.
//!
//! Not here: calls that wait for their turn (`concurrency_limit`), limits on connections (`serve`,
//! `connection`) and on one request (`receive`).

mod admitted;
mod budget;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;

pub use self::admitted::{Admitted, Waits};
pub(crate) use self::budget::Going;

use self::budget::{Budget, ClosesUnread, Room, lock};

use super::head::Head;
use super::places::Places;
use base::error::Result;

/// Each request can hold this much without being counted, so that small requests pass however much memory
/// large ones hold. A request that waits for its client has no such allowance.
const UNCOUNTED_BYTES: u64 = 64 << 10;

/// The memory that a request needs in addition to its headers and body, as measured with very many that
/// wait.
const REQUEST_BYTES: u64 = 8 << 10;

/// A request that finds no room tries again for this long, at intervals of `LOOK_PAUSE`. That is long
/// enough to learn that others wait for their clients, even if some more get in before it.
const PATIENCE: Duration = Duration::from_millis(500);
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// The limits that all requests of a server share.
#[derive(Clone, Debug)]
pub struct LoadShed(Arc<Budget>);

/// Calls that do not count as requests. A busy server still answers them, so they have limits of their own,
/// and one connection can use only a small part of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExemptCall {
    /// A probe or a page: it is answered within a moment.
    Probe,
    /// A call that lasts until the client or the server ends it.
    Lasting,
    /// A stream of server reflection.
    Reflection,
}

impl ClosesUnread for Places {
    fn close_unread(&self) -> Going {
        self.have_unread_go()
    }
}

impl LoadShed {
    /// Admits this many requests at a time (`--max_concurrent_requests`), which together hold up to this
    /// many bytes (`--max_bytes_in_flight`).
    pub fn new(max_requests: usize, max_bytes: u64) -> Self {
        Self(Arc::new(Budget::new(max_requests, max_bytes)))
    }

    /// Lets connections in these places make room for requests, too.
    pub fn make_room_in(&self, places: Places) {
        lock(&self.0.places).push(Box::new(places));
    }

    /// Admits a request, or a call of a `kind` that does not count as one. Its head counts as held.
    ///
    /// # Errors
    ///
    /// [`Overloaded`](base::error::ServingError::Overloaded) if the limit of its kind is reached and none makes
    /// room.
    pub async fn enter(&self, kind: Option<ExemptCall>, head: &Head) -> Result<Admitted> {
        if self.0.take_free(kind, head) {
            return self.let_in(kind, head);
        }
        let looks = async {
            loop {
                match self.try_enter(kind, head)? {
                    Some(admitted) => return Ok(admitted),
                    None => tokio::time::sleep(LOOK_PAUSE).await,
                }
            }
        };
        let _held = self.0.hold_meanwhile(kind, head)?;
        let turn = self.0.turns.of(head.connection);
        let entered = timeout(PATIENCE, turn.run(looks)).await;
        entered.unwrap_or_else(|_| Err(self.0.is_full(kind)))
    }

    /// Tries once to admit a request; `None` if room might be made in a moment.
    fn try_enter(&self, kind: Option<ExemptCall>, head: &Head) -> Result<Option<Admitted>> {
        let room = match kind {
            None => self.0.take(),
            Some(kind) => self.0.take_exempt(kind, head),
        };
        match room {
            Room::Made => self.let_in(kind, head).map(Some),
            Room::Soon => Ok(None),
            Room::Never => Err(self.0.is_full(kind)),
        }
    }

    /// Admits a request that has its place.
    fn let_in(&self, kind: Option<ExemptCall>, head: &Head) -> Result<Admitted> {
        let admitted = Admitted::new(&self.0, kind, head);
        admitted.grow(head.bytes)?;
        Ok(admitted)
    }

    /// Like [`enter`](Self::enter), without waiting for room.
    #[cfg(any(test, feature = "testing"))]
    pub fn enter_now(&self, kind: Option<ExemptCall>) -> Result<Admitted> {
        self.enter_from(kind, &Head::default())
    }

    #[cfg(any(test, feature = "testing"))]
    fn enter_from(&self, kind: Option<ExemptCall>, head: &Head) -> Result<Admitted> {
        self.try_enter(kind, head)?
            .ok_or_else(|| self.0.is_full(kind))
    }

    /// The number of large requests that ever ended, and whether all memory of requests is released.
    pub fn large_requests(&self) -> (usize, bool) {
        let ended = self.0.large.load(Ordering::Relaxed);
        (ended, self.0.bytes.load(Ordering::Relaxed) == 0)
    }
}

#[cfg(test)]
mod tests;
