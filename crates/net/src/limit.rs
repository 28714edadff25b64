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
//! Not here: calls that wait for their turn (`concurrency_limit`), limits on connections (`serve`, `connection`) and on
//! one request (`receive`).

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout;

use super::head::Head;
use super::peer::{ConnectionNumber, Source};
use super::places::{Going, Places};
use super::shares::{Full, Shares};
use super::turns::Turns;
use super::waiting::Waiting;
use base::error::{Result, ServingError};

/// Each request can hold this much without being counted, so that small requests pass however much memory
/// large ones hold. A request that waits for its client has no such allowance.
const UNCOUNTED_BYTES: u64 = 64 << 10;

/// The memory that a request needs in addition to its headers and body, as measured with very many that
/// wait.
const REQUEST_BYTES: u64 = 8 << 10;

/// The limits on calls that do not count as requests: in total, and per connection. A probe is answered
/// within a millisecond, so a number near the limit means that clients do not read the answers.
const MAX_PROBES: (usize, usize) = (65_536, 256);
/// A client watches a server's health once.
const MAX_LASTING: (usize, usize) = (8192, 64);
/// Reflection is used by interactive tools. Each stream can hold several messages.
const MAX_REFLECTIONS: (usize, usize) = (1024, 16);

/// A request that held at least this much was a large one: the allocator might keep its memory.
const LARGE_BYTES: u64 = 4 << 20;

/// How long a connection that makes room takes to close.
const GOING: Duration = Duration::from_millis(100);
/// A request that has waited for its client for less than this could still be arriving.
const YOUNG: Duration = Duration::from_millis(40);
/// A request that finds no room tries again for this long, at intervals of `LOOK_PAUSE`. That is long
/// enough to learn that others wait for their clients, even if some more get in before it.
const PATIENCE: Duration = Duration::from_millis(500);
const LOOK_PAUSE: Duration = Duration::from_millis(5);
/// Requests that look for room together hold at most one part in this many of the bytes that all requests
/// can hold.
const LOOKING_SHARE: u64 = 8;

/// The limits that all requests of a server share.
#[derive(Clone, Debug)]
pub struct LoadShed(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    max_requests: usize,
    max_bytes: u64,
    requests: AtomicUsize,
    bytes: AtomicU64,
    /// Bytes of requests that have made room but have not ended yet.
    going_bytes: AtomicU64,
    /// Bytes of requests that look for room.
    looking_bytes: AtomicU64,
    /// The number of large requests that ever ended.
    large: AtomicUsize,
    beside: [Shares; KINDS_BESIDE],
    /// By kind; the last element is for ordinary requests.
    waiting: [Mutex<Waiting<Arc<Admitted>>>; KINDS_BESIDE + 1],
    /// The connections; one can be closed for its unread answers.
    places: Mutex<Vec<Places>>,
    leaving: Mutex<Leaving>,
    turns: Turns,
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
enum Room {
    Made,
    /// Not yet: some requests can turn out to wait for their client.
    Soon,
    Never,
}

const KINDS_BESIDE: usize = 3;

/// Calls that do not count as requests. A busy server still answers them, so they have limits of their own,
/// and one connection can use only a small part of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// A probe or a page: it is answered within a moment.
    Probe,
    /// A call that lasts until the client or the server ends it.
    Lasting,
    /// A stream of server reflection.
    Reflection,
}

/// A request that was admitted. It counts until this is dropped, when its answer is sent.
#[derive(Debug)]
pub struct Admitted {
    budget: Arc<Budget>,
    peer: (Source, ConnectionNumber),
    /// `None` if it counts as a request.
    beside: Option<Beside>,
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

/// A request that looks for room, until this is dropped.
struct LooksForRoom<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Drop for LooksForRoom<'_> {
    fn drop(&mut self) {
        let looking = &self.budget.looking_bytes;
        looking.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl LoadShed {
    /// Admits this many requests at a time (`--max_concurrent_requests`), which together hold up to this
    /// many bytes (`--max_bytes_in_flight`).
    pub fn new(max_requests: usize, max_bytes: u64) -> Self {
        let now = Instant::now();
        Self(Arc::new(Budget {
            max_requests,
            max_bytes,
            requests: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            going_bytes: AtomicU64::new(0),
            looking_bytes: AtomicU64::new(0),
            large: AtomicUsize::new(0),
            beside: [MAX_PROBES, MAX_LASTING, MAX_REFLECTIONS]
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
        }))
    }

    /// Lets connections in these places make room for requests, too.
    pub fn make_room_in(&self, places: Places) {
        lock(&self.0.places).push(places);
    }

    /// Admits a request, or a call of a `kind` that does not count as one. Its head counts as held.
    ///
    /// # Errors
    ///
    /// [`ServingError::Overloaded`] if the limit of its kind is reached and none makes room.
    pub async fn enter(&self, kind: Option<Beside>, head: &Head) -> Result<Admitted> {
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
    fn try_enter(&self, kind: Option<Beside>, head: &Head) -> Result<Option<Admitted>> {
        let room = match kind {
            None => self.0.take(),
            Some(kind) => self.0.take_beside(kind, head),
        };
        match room {
            Room::Made => self.let_in(kind, head).map(Some),
            Room::Soon => Ok(None),
            Room::Never => Err(self.0.is_full(kind)),
        }
    }

    /// Admits a request that has its place.
    fn let_in(&self, kind: Option<Beside>, head: &Head) -> Result<Admitted> {
        let admitted = Admitted::new(&self.0, kind, head);
        admitted.grow(head.bytes)?;
        Ok(admitted)
    }

    /// Like [`enter`](Self::enter), without waiting for room.
    #[cfg(any(test, feature = "testing"))]
    pub fn enter_now(&self, kind: Option<Beside>) -> Result<Admitted> {
        self.enter_from(kind, &Head::default())
    }

    #[cfg(any(test, feature = "testing"))]
    fn enter_from(&self, kind: Option<Beside>, head: &Head) -> Result<Admitted> {
        self.try_enter(kind, head)?
            .ok_or_else(|| self.0.is_full(kind))
    }

    /// The number of large requests that ever ended, and whether all memory of requests is released.
    pub fn large_requests(&self) -> (usize, bool) {
        let ended = self.0.large.load(Ordering::Relaxed);
        (ended, self.0.bytes.load(Ordering::Relaxed) == 0)
    }
}

impl Budget {
    fn waiting(&self, kind: Option<Beside>) -> MutexGuard<'_, Waiting<Arc<Admitted>>> {
        lock(&self.waiting[kind.map_or(KINDS_BESIDE, |it| it as usize)])
    }

    /// The error for a request that is not admitted.
    fn is_full(&self, kind: Option<Beside>) -> ServingError {
        let reason = match kind {
            None => format!(
                "the server is at its limit of {} requests at a time (--max_concurrent_requests)",
                self.max_requests
            ),
            Some(Beside::Probe) => "the server is at its limit of probes and pages".to_owned(),
            Some(Beside::Lasting) => "the server is at its limit of watches".to_owned(),
            Some(Beside::Reflection) => {
                "the server is at its limit of streams of server reflection".to_owned()
            }
        };
        ServingError::Overloaded { reason }
    }

    /// Counts the head of a request that looks for room, until the returned value is dropped.
    fn hold_meanwhile(&self, kind: Option<Beside>, head: &Head) -> Result<LooksForRoom<'_>> {
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
    fn take_free(&self, kind: Option<Beside>, head: &Head) -> bool {
        if let Some(kind) = kind {
            return self.beside[kind as usize].take(head.connection).is_ok();
        }
        let is_free = self.requests.fetch_add(1, Ordering::Relaxed) < self.max_requests;
        if !is_free {
            self.requests.fetch_sub(1, Ordering::Relaxed);
        }
        is_free
    }

    /// Takes a request's place: a free one, or one that another request gives up.
    fn take(&self) -> Room {
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
    fn take_beside(&self, kind: Beside, head: &Head) -> Room {
        let (shares, connection) = (&self.beside[kind as usize], head.connection);
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
    fn make_room(&self, kind: Option<Beside>) -> Room {
        // If the first in the ranking holds no more than the new request and has just arrived, a connection
        // whose client does not read is the better choice, as long as there might be one. The request is
        // taken out under the lock, and notified without it.
        let take = |in_any_case: bool| {
            let mut waiting = self.waiting(kind);
            let is_taken = waiting.first().is_some_and(|(weight, first)| {
                in_any_case || weight > 1 || first.began.elapsed() >= YOUNG
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
    fn make_room_for_bytes(&self, kept_by_other: u64) -> bool {
        use Beside::{Lasting, Probe, Reflection};
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
            let mut found = places.iter().map(Places::have_unread_go);
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

    fn give_back(&self, beside: Option<Beside>, connection: ConnectionNumber) {
        match beside {
            None => drop(self.requests.fetch_sub(1, Ordering::Relaxed)),
            Some(kind) => self.beside[kind as usize].give_back(connection),
        }
    }
}

/// The weight of a request in the ranking of those that wait.
fn weight(bytes: u64) -> u64 {
    1 + bytes / UNCOUNTED_BYTES
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Admitted {
    fn new(budget: &Arc<Budget>, beside: Option<Beside>, head: &Head) -> Self {
        Self {
            budget: Arc::clone(budget),
            peer: (head.source, head.connection),
            beside,
            began: Instant::now(),
            bytes: AtomicU64::new(0),
            uncounted: AtomicU64::new(UNCOUNTED_BYTES),
            has_made_room: AtomicBool::new(false),
            going: AtomicU64::new(0),
            told: Notify::new(),
        }
    }

    /// Adds bytes that this request holds from now on. The first [`UNCOUNTED_BYTES`] are free.
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
        let mut waiting = budget.waiting(self.beside);
        let number = waiting.add(self.peer, weight(held), Arc::clone(self));
        drop(waiting);
        // This can make this request itself give up its place.
        budget.make_room_for_bytes(0);
        Waits {
            admitted: Arc::clone(self),
            number,
        }
    }

    /// Whether room might be needed at any moment.
    pub(super) fn is_one_of_many(&self) -> bool {
        let (budget, count) = (&self.budget, || {
            self.budget.requests.load(Ordering::Relaxed)
        });
        self.beside.is_some() || count() >= budget.max_requests / 2
    }

    /// Whether it lasts until either side ends it.
    pub fn lasts(&self) -> bool {
        matches!(self.beside, Some(Beside::Lasting | Beside::Reflection))
    }

    /// Gives its place to another request; its memory is about to be freed.
    fn make_room(&self) {
        if self.has_made_room.swap(true, Ordering::Relaxed) {
            return;
        }
        let going = self.counted();
        self.going.store(going, Ordering::Relaxed);
        self.budget.going_bytes.fetch_add(going, Ordering::Relaxed);
        self.budget.give_back(self.beside, self.peer.1);
        self.told.notify_one();
    }

    fn counted(&self) -> u64 {
        let uncounted = self.uncounted.load(Ordering::Relaxed);
        self.bytes.load(Ordering::Relaxed).saturating_sub(uncounted)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if !*self.has_made_room.get_mut() {
            self.budget.give_back(self.beside, self.peer.1);
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
        let mut waiting = admitted.budget.waiting(admitted.beside);
        let removed = waiting.remove(admitted.peer, self.number);
        drop(waiting);
        drop(removed);
    }
}

#[cfg(test)]
mod tests;
