//! The places for connections: how many there may be, on one port and on all together, and which one
//! makes room for a new one.
//!
//! Connections take descriptors, of which a process has a number. Ports share the places, and each has
//! some that the others cannot take. Where a port has no place left, the connection goes that has
//! waited for its client the longest: for a request, the rest of one, or for taking an answer. Only
//! where the server works on something for all of them, the new one is refused.
//!
//! New connections that wait for a place do so in their order, a few at a time, and as many go for them
//! together, with some more for those that follow: who comes back immediately keeps no other waiting.
//!
//! Not here: how many descriptors there are (`server`), what a connection does (`connection`).

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as TurnLock, Notify, watch};
use tokio::time::{Instant, timeout};

use super::activity::{Activity, Unread};
use super::peer::{Peer, Source};

/// A connection may wait for its client for so long in any case: a new one sends its request soon.
const MIN_WAIT: Duration = Duration::from_millis(100);
/// How long a new connection waits for the place of one that goes.
const PATIENCE: Duration = Duration::from_secs(1);
/// A port has one in so many of all places to itself.
const SHARE_OF_PORT: usize = 8;
/// New connections of a port that wait for a place at a time, one for so many of all places. Each has its
/// descriptor already.
const PLACES_OF_WAITING: usize = 16;
const MAX_WAITING: usize = 64;

/// The places of the ports that share them. By default there are any number.
#[derive(Clone, Debug)]
pub struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    max: usize,
    state: Mutex<State>,
    /// A place has become free.
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// By port.
    ports: Vec<PortState>,
    /// By number; none twice.
    holders: HashMap<u64, Arc<Holder>>,
    last_number: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct PortState {
    /// Connections that have a place.
    taken: usize,
    /// Those of them that have been asked to go.
    going: usize,
    /// New ones that wait for a place.
    wanted: usize,
}

/// The places of one port.
#[derive(Clone)]
pub(super) struct PortPlaces {
    shared: Arc<Shared>,
    port: usize,
    max: usize,
    /// New connections wait for a place one after the other.
    turn: Arc<TurnLock<()>>,
}

/// A new connection that waits for a place.
struct Wanted<'a>(&'a PortPlaces);

/// How a port makes room.
enum Room {
    /// Connections have been asked to go.
    Going,
    /// The one to go has not waited for long enough yet.
    After(Duration),
    /// All are worked for.
    None,
}

/// A connection's place, free again when this is dropped.
pub(super) struct Place {
    shared: Arc<Shared>,
    holder: Arc<Holder>,
    number: u64,
}

/// What a connection takes along that goes for its unread answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Going {
    /// So many of them.
    Answers(usize),
    /// None goes. So many requests may turn out to wait for their client.
    None { young: usize },
}

/// Who has a place, as far as others see it.
struct Holder {
    port: usize,
    opened: Instant,
    /// What it does and whose it is; unset while it has not begun to speak HTTP.
    activity: OnceLock<(Arc<Activity>, Peer)>,
    /// Turns true for the one that has to go.
    has_to_go: watch::Sender<bool>,
}

impl Default for Places {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl Places {
    /// So many places, for all ports that are opened with them.
    pub fn new(max: usize) -> Self {
        Self(Arc::new(Shared {
            max: max.max(1),
            state: Mutex::default(),
            freed: Notify::new(),
        }))
    }

    /// Those of one more port, which may have `max` connections at most.
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
    /// Has the connection go that has the most unread answers, of the source with the most.
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
                let activities = state.holders.values().filter_map(|it| it.activity.get());
                let young = activities.map(|(activity, _)| activity.in_transfer()).sum();
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
    /// A place, if there is one or a connection that has to go for it: then this waits for it.
    pub(super) async fn take(&self) -> Option<Place> {
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

    async fn take_of_another(&self) -> Option<Place> {
        loop {
            let freed = self.shared.freed.notified();
            if let Some(place) = self.take_now(true) {
                return Some(place);
            }
            match self.make_room() {
                Room::Going => freed.await,
                // Another may go by itself.
                Room::After(rest) => drop(timeout(rest, freed).await),
                Room::None => return None,
            }
        }
    }

    /// How many may wait for a place at a time.
    pub(super) fn max_waiting(&self) -> usize {
        let max = self.max.min(self.shared.max);
        (max / PLACES_OF_WAITING).clamp(1, MAX_WAITING)
    }

    /// A place that is free, and not for one that waits.
    pub(super) fn take_free(&self) -> Option<Place> {
        self.take_now(false)
    }

    fn take_now(&self, has_waited: bool) -> Option<Place> {
        let mut state = self.shared.lock();
        let own = (self.shared.max / SHARE_OF_PORT).max(1);
        let others = state.ports.iter().enumerate();
        let others = others.filter(|&(port, _)| port != self.port);
        // Those that others have, and those that are theirs.
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
            activity: OnceLock::new(),
            has_to_go: watch::Sender::new(false),
        });
        state.holders.insert(number, Arc::clone(&holder));
        Some(Place {
            shared: Arc::clone(&self.shared),
            holder,
            number,
        })
    }

    /// Asks those connections of this port to go that have waited for their clients the longest: one for
    /// each new one that waits, and some ahead, so that they need not be looked for each time.
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
        match self.activity.get() {
            Some((activity, peer)) => activity.waits_for_client(peer.waiting_logins()),
            None => Some(self.opened.elapsed()),
        }
    }
}

impl Holder {
    /// Returns its port, where it is to be counted.
    fn ask_to_go(&self) -> usize {
        self.has_to_go.send_replace(true);
        self.port
    }

    /// Whose unread answers it has.
    fn unread(&self) -> Option<(Source, Unread)> {
        let (activity, peer) = self.activity.get()?;
        Some((peer.source(), activity.unread()?))
    }
}

impl Place {
    /// From now on these tell whether the connection waits for its client.
    pub(super) fn set_activity(&self, activity: Arc<Activity>, peer: Peer) {
        // A connection has one.
        let _ = self.holder.activity.set((activity, peer));
    }

    /// Waits until the connection has to make room for another.
    pub(super) async fn has_to_go(&self) {
        let mut has_to_go = self.holder.has_to_go.subscribe();
        // An error would mean that the holder is gone.
        let _ = has_to_go.wait_for(|it| *it).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let port = &mut state.ports[self.holder.port];
        port.taken -= 1;
        // Asked under this lock.
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

    use super::super::activity::UnderWay;
    use super::*;

    const NEVER: Duration = Duration::from_secs(3600);

    fn all_free(port: &PortPlaces) -> Vec<Place> {
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
            [0, 1, 2].map(|_| Activity::new(UnderWay::default(), Duration::ZERO, NEVER));
        tokio::time::sleep(MIN_WAIT).await;
        held[0].set_activity(Arc::clone(&longest), Peer::default());
        held[1].set_activity(Arc::clone(&working), Peer::default());
        held[2].set_activity(Arc::clone(&idle), Peer::default());
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
        // All that are left have work under way.
        let busy = [&place, &other].map(|place| {
            let activity = Activity::new(UnderWay::default(), Duration::ZERO, NEVER);
            let request = activity.begin(&Request::new(()));
            place.set_activity(activity, Peer::default());
            request
        });
        assert!(port.take().await.is_none());
        drop((request, busy, held));
        assert!(port.take().await.is_some());
    }
}
