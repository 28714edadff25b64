//! Places for connections: how many each port and all ports together can have, and which connection makes
//! room for a new one.
//!
//! Connections need file descriptors, of which a process has a limited number. Ports share the places, and
//! each has some that the others cannot use. If a port has no place left, it closes the connection that has
//! waited for its client the longest: to send a request or the rest of one, or to read an answer. A new
//! connection is refused only if the server is working on a request of every other.
//!
//! New connections wait for a place in the order of their arrival, a few at a time. As many old ones are
//! closed together, and some more for those that follow, so that a client that reconnects immediately
//! delays no other.
//!
//! Not here: the number of descriptors (`server`), the work on a connection (`connection`).

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as TurnLock, Notify, watch};
use tokio::time::{Instant, timeout};

use super::in_flight::{ConnectionInFlight, Unread};
use super::limit::Going;
use super::peer::{Peer, Source};

/// A connection can always wait for its client for this long: a new one is about to send its request.
const MIN_WAIT: Duration = Duration::from_millis(100);
/// How long a new connection waits for the place of one that is closing.
const PATIENCE: Duration = Duration::from_secs(1);
/// Each port has one part in this many of all places to itself.
const SHARE_OF_PORT: usize = 8;
/// The number of new connections of a port that wait for a place at a time is the number of all places
/// divided by this. Each of them has its descriptor already.
const PLACES_OF_WAITING: usize = 16;
const MAX_WAITING: usize = 64;

/// The places, shared by ports. Unlimited by default.
#[derive(Clone, Debug)]
pub struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    max: usize,
    state: Mutex<State>,
    /// Notified when a place becomes free.
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// By port.
    ports: Vec<PortState>,
    /// By number, which is unique.
    holders: HashMap<u64, Arc<Holder>>,
    last_number: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct PortState {
    /// Connections that have a place.
    taken: usize,
    /// Connections among them that have been asked to close.
    going: usize,
    /// New connections that wait for a place.
    wanted: usize,
}

/// The places of one port.
#[derive(Clone)]
pub(super) struct PortPlaces {
    shared: Arc<Shared>,
    port: usize,
    max: usize,
    /// New connections look for a place one after the other.
    turn: Arc<TurnLock<()>>,
}

/// A new connection that waits for a place.
struct Wanted<'a>(&'a PortPlaces);

/// The result of making room on a port.
enum Room {
    /// Connections have been asked to close.
    Going,
    /// No connection has waited long enough yet.
    After(Duration),
    /// The server is working on a request of every connection.
    None,
}

/// A connection's place, which is free again when this is dropped.
pub(super) struct ConnectionPlace {
    shared: Arc<Shared>,
    holder: Arc<Holder>,
    number: u64,
}

/// The connection that has a place, as far as others see it.
struct Holder {
    port: usize,
    opened: Instant,
    /// Its in_flight and its client; unset until it speaks HTTP.
    in_flight: OnceLock<(Arc<ConnectionInFlight>, Peer)>,
    /// True once it has to close.
    has_to_go: watch::Sender<bool>,
}

impl Default for Places {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl Places {
    /// This many places, for all ports that are opened with them.
    pub fn new(max: usize) -> Self {
        Self(Arc::new(Shared {
            max: max.max(1),
            state: Mutex::default(),
            freed: Notify::new(),
        }))
    }

    /// The places of one more port, which can have at most `max` connections.
    pub(super) fn of_port(&self, max: usize) -> PortPlaces {
        let mut state = self.0.lock();
        state.ports.push(PortState::default());
        PortPlaces {
            shared: Arc::clone(&self.0),
            port: state.ports.len() - 1,
            max: max.max(1),
            turn: Arc::default(),
        }
    }
}

impl Places {
    /// Closes the connection with the most unread answers, of the source with the most.
    pub(super) fn have_unread_go(&self) -> Going {
        let mut state = self.0.lock();
        let unread = || {
            let staying = state.holders.values().filter(|it| !*it.has_to_go.borrow());
            staying.filter_map(|it| Some((it, it.unread()?)))
        };
        let mut by_source = HashMap::new();
        for (_, (source, of_one)) in unread() {
            *by_source.entry(source).or_insert(0) += of_one.answers;
        }
        let most = by_source.into_iter().max_by_key(|&(_, answers)| answers);
        let of_most = unread().filter(|(_, (source, _))| Some(*source) == most.map(|it| it.0));
        let first = of_most.max_by_key(|(_, (_, of_one))| *of_one);
        match first.map(|(holder, (_, of_one))| (holder.ask_to_go(), of_one.answers)) {
            Some((port, answers)) => {
                state.ports[port].going += 1;
                Going::Answers(answers)
            }
            None => {
                let activities = state.holders.values().filter_map(|it| it.in_flight.get());
                let young = activities
                    .map(|(in_flight, _)| in_flight.in_transfer())
                    .sum();
                Going::None { young }
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PortPlaces {
    /// A place. If none is free, waits for that of a connection that can be closed. `None` if none can, or if
    /// it takes too long.
    pub(super) async fn take(&self) -> Option<ConnectionPlace> {
        if let Some(place) = self.take_free() {
            return Some(place);
        }
        self.shared.lock().ports[self.port].wanted += 1;
        let _wanted = Wanted(self);
        let taken = async {
            let _turn = self.turn.lock().await;
            self.take_of_another().await
        };
        timeout(PATIENCE, taken).await.ok()?
    }

    async fn take_of_another(&self) -> Option<ConnectionPlace> {
        loop {
            let freed = self.shared.freed.notified();
            if let Some(place) = self.take_now(true) {
                return Some(place);
            }
            match self.make_room() {
                Room::Going => freed.await,
                // Another connection might end by itself.
                Room::After(rest) => drop(timeout(rest, freed).await),
                Room::None => return None,
            }
        }
    }

    /// The number of connections that can wait for a place at a time.
    pub(super) fn max_waiting(&self) -> usize {
        let max = self.max.min(self.shared.max);
        (max / PLACES_OF_WAITING).clamp(1, MAX_WAITING)
    }

    /// A free place that no waiting connection needs.
    pub(super) fn take_free(&self) -> Option<ConnectionPlace> {
        self.take_now(false)
    }

    fn take_now(&self, has_waited: bool) -> Option<ConnectionPlace> {
        let mut state = self.shared.lock();
        let own = (self.shared.max / SHARE_OF_PORT).max(1);
        let others = state.ports.iter().enumerate();
        let others = others.filter(|&(port, _)| port != self.port);
        // For each other port, the places that it uses or reserves.
        let kept = others.fold(0usize, |sum, (_, port)| {
            sum.saturating_add(port.taken.max(own))
        });
        let PortState { taken, wanted, .. } = state.ports[self.port];
        let is_own = taken < own;
        if taken >= self.max || (!is_own && taken.saturating_add(kept) >= self.shared.max) {
            return None;
        }
        if wanted > 0 && !has_waited {
            return None;
        }
        state.ports[self.port].taken += 1;
        state.last_number += 1;
        let number = state.last_number;
        let holder = Arc::new(Holder {
            port: self.port,
            opened: Instant::now(),
            in_flight: OnceLock::new(),
            has_to_go: watch::Sender::new(false),
        });
        state.holders.insert(number, Arc::clone(&holder));
        Some(ConnectionPlace {
            shared: Arc::clone(&self.shared),
            holder,
            number,
        })
    }

    /// Asks the connections of this port that have waited for their clients the longest to close: one for
    /// each new connection that waits, and some in advance to avoid a search each time.
    fn make_room(&self) -> Room {
        let mut state = self.shared.lock();
        let PortState { going, wanted, .. } = state.ports[self.port];
        if going >= wanted.max(1) {
            return Room::Going;
        }
        let holders = state.holders.values().filter(|it| it.port == self.port);
        let staying = holders.filter(|it| !*it.has_to_go.borrow());
        let mut waiting: Vec<_> = staying
            .filter_map(|it| Some((it.waits_for_client()?, it)))
            .collect();
        let Some(&(longest, _)) = waiting.iter().max_by_key(|(waited, _)| *waited) else {
            return match going {
                0 => Room::None,
                _ => Room::Going,
            };
        };
        if longest < MIN_WAIT {
            return Room::After(MIN_WAIT - longest);
        }
        let ahead = match self.max_waiting() {
            1 => 0,
            some => some,
        };
        let more = (wanted.max(1) + ahead - going).min(waiting.len());
        waiting.select_nth_unstable_by_key(more - 1, |(waited, _)| Reverse(*waited));
        waiting.truncate(more);
        waiting.retain(|(waited, _)| *waited >= MIN_WAIT);
        for (_, holder) in &waiting {
            holder.ask_to_go();
        }
        let asked = waiting.len();
        state.ports[self.port].going += asked;
        Room::Going
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.0.shared.lock().ports[self.0.port].wanted -= 1;
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holder").field("port", &self.port).finish()
    }
}

impl Holder {
    fn waits_for_client(&self) -> Option<Duration> {
        match self.in_flight.get() {
            Some((in_flight, peer)) => in_flight.waits_for_client(peer.waiting_logins()),
            None => Some(self.opened.elapsed()),
        }
    }
}

impl Holder {
    /// Returns its port, on which the caller has to count it.
    fn ask_to_go(&self) -> usize {
        self.has_to_go.send_replace(true);
        self.port
    }

    /// Its unread answers, and their source.
    fn unread(&self) -> Option<(Source, Unread)> {
        let (in_flight, peer) = self.in_flight.get()?;
        Some((peer.source(), in_flight.unread()?))
    }
}

impl ConnectionPlace {
    /// Sets the in_flight that tells whether the connection waits for its client.
    pub(super) fn set_in_flight(&self, in_flight: Arc<ConnectionInFlight>, peer: Peer) {
        // It is set once.
        let _ = self.holder.in_flight.set((in_flight, peer));
    }

    /// Completes once the connection has to make room for another.
    pub(super) async fn has_to_go(&self) {
        let mut has_to_go = self.holder.has_to_go.subscribe();
        // An error would mean that the holder is gone.
        let _ = has_to_go.wait_for(|it| *it).await;
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let port = &mut state.ports[self.holder.port];
        port.taken -= 1;
        // It was set under this lock.
        port.going -= usize::from(*self.holder.has_to_go.borrow());
        let holder = state.holders.remove(&self.number);
        drop(state);
        drop(holder);
        self.shared.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::super::in_flight::InFlight;
    use super::*;

    const NEVER: Duration = Duration::from_secs(3600);

    fn all_free(port: &PortPlaces) -> Vec<ConnectionPlace> {
        std::iter::from_fn(|| port.take_free()).collect()
    }

    #[test]
    fn ports_leave_each_other_places() {
        let places = Places::new(80);
        let [a, b, c] = [50, 1000, 1000].map(|max| places.of_port(max));
        let of_a = all_free(&a);
        assert_eq!(of_a.len(), 50);
        let of_b = all_free(&b);
        assert_eq!(of_b.len(), 20);
        assert_eq!(all_free(&c).len(), 10);
        drop(of_b);
        let of_c = all_free(&c);
        assert_eq!(of_c.len(), 20);
        assert_eq!(all_free(&b).len(), 10);
        drop(of_a);
        assert_eq!(all_free(&a).len(), 50);
        drop(of_c);
    }

    #[tokio::test]
    async fn who_has_waited_longest_makes_room() {
        let places = Places::new(3);
        let port = places.of_port(1000);
        let mut held = all_free(&port);
        assert_eq!(held.len(), 3);
        let [longest, working, idle] =
            [0, 1, 2].map(|_| ConnectionInFlight::new(InFlight::default(), Duration::ZERO, NEVER));
        tokio::time::sleep(MIN_WAIT).await;
        held[0].set_in_flight(Arc::clone(&longest), Peer::default());
        held[1].set_in_flight(Arc::clone(&working), Peer::default());
        held[2].set_in_flight(Arc::clone(&idle), Peer::default());
        let request = working.begin(&Request::new(()));
        drop(idle.begin(&Request::new(())));
        let first = held.remove(0);
        let gone = tokio::spawn(async move { first.has_to_go().await });
        let place = port.take().await.unwrap();
        gone.await.unwrap();

        let last = held.remove(1);
        let gone = tokio::spawn(async move { last.has_to_go().await });
        let other = port.take().await.unwrap();
        gone.await.unwrap();
        // All remaining connections have a request in flight.
        let busy = [&place, &other].map(|place| {
            let in_flight = ConnectionInFlight::new(InFlight::default(), Duration::ZERO, NEVER);
            let request = in_flight.begin(&Request::new(()));
            place.set_in_flight(in_flight, Peer::default());
            request
        });
        assert!(port.take().await.is_none());
        drop((request, busy, held));
        assert!(port.take().await.is_some());
    }
}
