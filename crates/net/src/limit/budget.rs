//! The places and bytes that all requests of a server share, and how room is made among them.
//!
//! Not here: admitting a request (`limit`), the share of one request (`admitted`).

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{ExemptCall, LOOK_PAUSE, REQUEST_BYTES, UNCOUNTED_BYTES};
use crate::head::Head;
use crate::peer::ConnectionNumber;
use crate::shares::{Full, Shares};
use crate::turns::Turns;
use crate::waiting::Waiting;
use base::error::{Result, ServingError};

/// The limits on calls that do not count as requests: in total, and per connection. A probe is answered
/// within a millisecond, so a number near the limit means that clients do not read the answers.
pub(super) const MAX_PROBES: (usize, usize) = (65_536, 256);
/// A client watches a server's health once.
pub(super) const MAX_LASTING: (usize, usize) = (8192, 64);
/// Reflection is used by interactive tools. Each stream can hold several messages.
pub(super) const MAX_REFLECTIONS: (usize, usize) = (1024, 16);

/// How long a connection that makes room takes to close.
const GOING: Duration = Duration::from_millis(100);
/// A request that has waited for its client for less than this could still be arriving.
const YOUNG: Duration = Duration::from_millis(40);

/// Requests that look for room together hold at most one part in this many of the bytes that all requests
/// can hold.
const LOOKING_SHARE: u64 = 8;

/// A request that waits for its client and can give its place to another.
pub(super) trait WaitingRequest: fmt::Debug + Send + Sync {
    /// When it was admitted.
    fn began(&self) -> Instant;

    /// Gives its place to another request; its memory is about to be freed.
    fn make_room(&self);
}

/// Connections, of which one can be closed for its unread answers.
pub(super) trait ClosesUnread: fmt::Debug + Send + Sync {
    /// Closes the connection with the most unread answers, of the source with the most.
    fn close_unread(&self) -> Going;
}

/// The result of closing a connection for its unread answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Going {
    /// It had this many of them.
    Answers(usize),
    /// None was closed. This many requests can turn out to wait for their client.
    None { young: usize },
}

#[derive(Debug)]
pub(super) struct Budget {
    pub(super) max_requests: usize,
    pub(super) max_bytes: u64,
    pub(super) requests: AtomicUsize,
    pub(super) bytes: AtomicU64,
    /// Bytes of requests that have made room but have not ended yet.
    pub(super) going_bytes: AtomicU64,
    /// Bytes of requests that look for room.
    looking_bytes: AtomicU64,
    /// The number of large requests that ever ended.
    pub(super) large: AtomicUsize,
    exempt: [Shares; EXEMPT_KINDS],
    /// By kind; the last element is for ordinary requests.
    waiting: [Mutex<Waiting<Arc<dyn WaitingRequest>>>; EXEMPT_KINDS + 1],
    /// The connections; one can be closed for its unread answers.
    pub(super) places: Mutex<Vec<Box<dyn ClosesUnread>>>,
    leaving: Mutex<Leaving>,
    pub(super) turns: Turns,
}

/// Connections that make room.
#[derive(Debug)]
struct Leaving {
    /// This many more requests can be admitted in place of the connections that are closing, before
    /// `until`.
    room: usize,
    until: Instant,
    /// No connection is looked for before this time; until then `otherwise` is the result.
    look_from: Instant,
    otherwise: Room,
}

/// Whether there is room for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Made,
    /// Not yet: some requests can turn out to wait for their client.
    Soon,
    Never,
}

const EXEMPT_KINDS: usize = 3;

/// A request that looks for room, until this is dropped.
pub(super) struct LooksForRoom<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Drop for LooksForRoom<'_> {
    fn drop(&mut self) {
        let looking = &self.budget.looking_bytes;
        looking.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Budget {
    pub(super) fn new(max_requests: usize, max_bytes: u64) -> Self {
        let now = Instant::now();
        Self {
            max_requests,
            max_bytes,
            requests: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            going_bytes: AtomicU64::new(0),
            looking_bytes: AtomicU64::new(0),
            large: AtomicUsize::new(0),
            exempt: [MAX_PROBES, MAX_LASTING, MAX_REFLECTIONS]
                .map(|(max, of_one)| Shares::new(max, of_one)),
            waiting: Default::default(),
            places: Mutex::default(),
            leaving: Mutex::new(Leaving {
                room: 0,
                until: now,
                look_from: now,
                otherwise: Room::Never,
            }),
            turns: Turns::default(),
        }
    }

    pub(super) fn waiting(
        &self,
        kind: Option<ExemptCall>,
    ) -> MutexGuard<'_, Waiting<Arc<dyn WaitingRequest>>> {
        lock(&self.waiting[kind.map_or(EXEMPT_KINDS, |it| it as usize)])
    }

    /// The error for a request that is not admitted.
    pub(super) fn is_full(&self, kind: Option<ExemptCall>) -> ServingError {
        let reason = match kind {
            None => format!(
                "the server is at its limit of {} requests at a time (--max_concurrent_requests)",
                self.max_requests
            ),
            Some(ExemptCall::Probe) => "the server is at its limit of probes and pages".to_owned(),
            Some(ExemptCall::Lasting) => "the server is at its limit of watches".to_owned(),
            Some(ExemptCall::Reflection) => {
                "the server is at its limit of streams of server reflection".to_owned()
            }
        };
        ServingError::Overloaded { reason }
    }

    /// Counts the head of a request that looks for room, until the returned value is dropped.
    pub(super) fn hold_meanwhile(
        &self,
        kind: Option<ExemptCall>,
        head: &Head,
    ) -> Result<LooksForRoom<'_>> {
        let bytes = head.bytes as u64 + REQUEST_BYTES;
        let before = self.looking_bytes.fetch_add(bytes, Ordering::Relaxed);
        let held = LooksForRoom {
            budget: self,
            bytes,
        };
        match before.saturating_add(bytes) <= self.max_bytes / LOOKING_SHARE {
            true => Ok(held),
            false => Err(self.is_full(kind)),
        }
    }

    /// Takes a free place, if there is one.
    pub(super) fn take_free(&self, kind: Option<ExemptCall>, head: &Head) -> bool {
        if let Some(kind) = kind {
            return self.exempt[kind as usize].take(head.connection).is_ok();
        }
        let is_free = self.requests.fetch_add(1, Ordering::Relaxed) < self.max_requests;
        if !is_free {
            self.requests.fetch_sub(1, Ordering::Relaxed);
        }
        is_free
    }

    /// Takes a request's place: a free one, or one that another request gives up.
    pub(super) fn take(&self) -> Room {
        if self.requests.fetch_add(1, Ordering::Relaxed) < self.max_requests {
            return Room::Made;
        }
        let room = self.make_room(None);
        if room != Room::Made {
            self.requests.fetch_sub(1, Ordering::Relaxed);
        }
        room
    }

    /// Takes a place for a call that does not count as a request.
    pub(super) fn take_exempt(&self, kind: ExemptCall, head: &Head) -> Room {
        let (shares, connection) = (&self.exempt[kind as usize], head.connection);
        let taken = match shares.take(connection) {
            Ok(()) => return Room::Made,
            Err(Full::OfOne) => {
                let waiting = self.waiting(Some(kind)).take_of((head.source, connection));
                let Some(waiting) = waiting else {
                    return Room::Never;
                };
                waiting.make_room();
                shares.take(connection)
            }
            Err(Full::All) => match self.make_room(Some(kind)) {
                Room::Made => shares.take_beyond(connection),
                room => return room,
            },
        };
        taken.map_or(Room::Never, |()| Room::Made)
    }

    /// Makes a request that waits for its client give its place to another of its kind, or closes a
    /// connection.
    fn make_room(&self, kind: Option<ExemptCall>) -> Room {
        // If the first in the ranking holds no more than the new request and has just arrived, a connection
        // whose client does not read is the better choice, as long as there might be one. The request is
        // taken out under the lock, and notified without it.
        let take = |in_any_case: bool| {
            let mut waiting = self.waiting(kind);
            let is_taken = waiting.first().is_some_and(|(weight, first)| {
                in_any_case || weight > 1 || first.began().elapsed() >= YOUNG
            });
            is_taken.then(|| waiting.take(1)).flatten()
        };
        let mut taken = take(false);
        if taken.is_none() {
            match self.make_room_by_connection() {
                Room::Never => taken = take(true),
                room => return room,
            }
        }
        match taken {
            Some(waiting) => {
                waiting.make_room();
                Room::Made
            }
            None => Room::Never,
        }
    }

    /// Makes requests that wait for their clients give up their places until the bytes are within the
    /// limit; those that weigh less than a request with `kept_by_other` bytes stay. Returns whether the
    /// limit is met.
    pub(super) fn make_room_for_bytes(&self, kept_by_other: u64) -> bool {
        use ExemptCall::{Lasting, Probe, Reflection};
        let fits = || {
            let going = self.going_bytes.load(Ordering::Relaxed);
            self.bytes.load(Ordering::Relaxed) <= self.max_bytes.saturating_add(going)
        };
        for kind in [None, Some(Probe), Some(Reflection), Some(Lasting)] {
            while !fits() {
                let waiting = self.waiting(kind).take(weight(kept_by_other));
                match waiting {
                    Some(waiting) => waiting.make_room(),
                    None => break,
                }
            }
        }
        fits() || self.make_room_by_connection() == Room::Made
    }

    /// Closes a connection whose client does not read its answers.
    fn make_room_by_connection(&self) -> Room {
        let mut leaving = lock(&self.leaving);
        let now = Instant::now();
        if leaving.room == 0 || now >= leaving.until {
            if now < leaving.look_from {
                return leaving.otherwise;
            }
            let places = lock(&self.places);
            let mut found = places.iter().map(|it| it.close_unread());
            let found = found.try_fold(0, |young, found| match found {
                Going::Answers(answers) => Err(answers),
                Going::None { young: more } => Ok(young + more),
            });
            match found {
                Err(answers) => (leaving.room, leaving.until) = (answers, now + GOING),
                Ok(young) => {
                    leaving.look_from = now + LOOK_PAUSE;
                    leaving.otherwise = match young {
                        0 => Room::Never,
                        _ => Room::Soon,
                    };
                    return leaving.otherwise;
                }
            }
        }
        leaving.room = leaving.room.saturating_sub(1);
        Room::Made
    }

    pub(super) fn give_back(&self, exempt: Option<ExemptCall>, connection: ConnectionNumber) {
        match exempt {
            None => drop(self.requests.fetch_sub(1, Ordering::Relaxed)),
            Some(kind) => self.exempt[kind as usize].give_back(connection),
        }
    }
}

/// The weight of a request in the ranking of those that wait.
pub(super) fn weight(bytes: u64) -> u64 {
    1 + bytes / UNCOUNTED_BYTES
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
