//! The threads that load, the slots they hold, and those that were given up but have not ended.
//!
//! A thread cannot be ended from outside. If a thread is given up, its slot is free for other loads, and
//! its result is dropped when it ends. A slow thread also gives its slot to others, so that they do not
//! wait for it, but its own result is still used. To limit the number of threads without a slot, further
//! threads keep theirs.
//!
//! Not here: which version is loaded (`registry`), starting threads (`manager::begin`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::lifecycle::signal::Signal;
use base::id::ServableId;

/// The maximum number of threads without a slot. Each can keep a CPU busy.
const MAX_WITHOUT_SLOT: usize = 32;
/// A load that takes longer than this lets another one begin. Few models take that long to load, and a
/// load that never ends delays the others only for this time.
const SLOW: Duration = Duration::from_secs(60);
/// The maximum number of them that can belong to one version.
pub(super) const MAX_STUCK_OF_VERSION: usize = 4;

/// Identifies one thread that loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// The threads that are loading.
#[derive(Default)]
pub(super) struct LoadThreads {
    threads: BTreeMap<Ticket, LoadThread>,
    next: u64,
}

/// A thread that is loading.
pub(super) struct LoadThread {
    pub(super) id: ServableId,
    pub(super) began: Instant,
    /// When it is given up.
    deadline: Option<Instant>,
    holds_slot: bool,
    /// Raised when it is given up.
    given_up: Arc<Signal>,
}

impl LoadThread {
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.is_raised()
    }

    /// When others no longer have to wait for it.
    fn slow_from(&self) -> Option<Instant> {
        self.began.checked_add(SLOW)
    }
}

impl LoadThreads {
    /// Gives a new thread a slot. Returns its ticket, and the signal that it was given up.
    pub(super) fn begin(
        &mut self,
        id: ServableId,
        began: Instant,
        deadline: Option<Instant>,
    ) -> (Ticket, Arc<Signal>) {
        let ticket = Ticket(self.next);
        self.next += 1;
        let given_up = Arc::<Signal>::default();
        let thread = LoadThread {
            id,
            began,
            deadline,
            holds_slot: true,
            given_up: Arc::clone(&given_up),
        };
        self.threads.insert(ticket, thread);
        (ticket, given_up)
    }

    /// Gives a thread up. Its slot becomes free unless too many threads are already without one.
    pub(super) fn give_up(&mut self, ticket: Ticket) {
        if let Some(thread) = self.threads.get_mut(&ticket) {
            thread.given_up.raise();
            self.free_slots();
        }
    }

    /// Frees the slots of slow threads. Returns the version of each.
    pub(super) fn free_slow(&mut self, now: Instant) -> Vec<ServableId> {
        let mut freed = Vec::new();
        let mut room = self.room_without_slot();
        for thread in self.threads.values_mut().filter(|it| it.holds_slot) {
            if room > 0 && thread.slow_from().is_some_and(|slow| slow <= now) {
                thread.holds_slot = false;
                freed.push(thread.id.clone());
                room -= 1;
            }
        }
        freed
    }

    /// Records that a thread has ended.
    pub(super) fn end(&mut self, ticket: Ticket) -> Option<LoadThread> {
        let ended = self.threads.remove(&ticket);
        self.free_slots();
        ended
    }

    fn free_slots(&mut self) {
        let room = self.room_without_slot();
        let holders = self.threads.values_mut();
        let holders = holders.filter(|it| it.is_given_up() && it.holds_slot);
        for thread in holders.take(room) {
            thread.holds_slot = false;
        }
    }

    /// How many more threads can be without a slot.
    fn room_without_slot(&self) -> usize {
        MAX_WITHOUT_SLOT.saturating_sub(self.threads.len() - self.slots())
    }

    /// The number of slots in use.
    pub(super) fn slots(&self) -> usize {
        self.threads.values().filter(|it| it.holds_slot).count()
    }

    /// Whether any thread that was not given up is loading.
    pub(super) fn is_any_wanted(&self) -> bool {
        self.threads.values().any(|it| !it.is_given_up())
    }

    /// The number of threads of a version that were given up and have not ended.
    pub(super) fn stuck(&self, id: &ServableId) -> usize {
        let stuck = |it: &&LoadThread| it.is_given_up() && it.id == *id;
        self.threads.values().filter(stuck).count()
    }

    /// The slow threads that were not given up.
    pub(super) fn slow(&self, now: Instant) -> Vec<(Ticket, ServableId)> {
        let wanted = self.threads.iter().filter(|(_, it)| !it.is_given_up());
        let slow = wanted.filter(|(_, it)| it.slow_from().is_some_and(|slow| slow <= now));
        slow.map(|(ticket, it)| (*ticket, it.id.clone())).collect()
    }

    /// The threads that have timed out.
    pub(super) fn overdue(&self, now: Instant) -> Vec<(Ticket, ServableId)> {
        let overdue = self.timed().filter(|(_, _, deadline)| *deadline <= now);
        overdue
            .map(|(ticket, thread, _)| (ticket, thread.id.clone()))
            .collect()
    }

    /// When the next thread times out or becomes slow.
    pub(super) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let deadline = self.timed().map(|(_, _, deadline)| deadline).min();
        let holders = self.threads.values().filter(|it| it.holds_slot);
        let slow = holders.filter_map(|it| it.slow_from().filter(|slow| *slow > now));
        deadline.into_iter().chain(slow).min()
    }

    /// Makes all threads slow.
    #[cfg(test)]
    pub(super) fn make_slow(&mut self) {
        for thread in self.threads.values_mut() {
            thread.began = thread.began.checked_sub(SLOW).expect("a clock that old");
        }
    }

    fn timed(&self) -> impl Iterator<Item = (Ticket, &LoadThread, Instant)> {
        let wanted = self.threads.iter().filter(|(_, it)| !it.is_given_up());
        wanted.filter_map(|(ticket, it)| Some((*ticket, it, it.deadline?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_given_up_hold_slots_beyond_their_bound_only() {
        let mut threads = LoadThreads::default();
        let mut begin = |version| {
            let id = ServableId::new("m", version);
            threads.begin(id, Instant::now(), None).0
        };
        let tickets: Vec<Ticket> = (0..MAX_WITHOUT_SLOT as i64 + 2).map(&mut begin).collect();
        assert_eq!(threads.slots(), MAX_WITHOUT_SLOT + 2);
        for ticket in &tickets {
            threads.give_up(*ticket);
        }
        assert_eq!(threads.slots(), 2);
        assert!(!threads.is_any_wanted());
        threads.end(tickets[0]);
        assert_eq!(threads.slots(), 1);
        threads.end(tickets[MAX_WITHOUT_SLOT + 1]);
        assert_eq!(threads.slots(), 0);
    }

    #[test]
    fn slow_threads_let_others_begin() {
        let mut threads = LoadThreads::default();
        let (id, now) = (ServableId::new("m", 1), Instant::now());
        let (slow, given_up) = threads.begin(id.clone(), now, None);
        assert_eq!(threads.free_slow(now), []);
        let later = now + SLOW;
        threads.begin(ServableId::new("m", 2), later, None);
        assert_eq!(threads.slots(), 2);
        assert_eq!(threads.free_slow(later), [id]);
        assert_eq!(threads.free_slow(later), []);
        assert_eq!(threads.slots(), 1);
        assert!(!given_up.is_raised());
        assert!(threads.end(slow).is_some_and(|it| !it.is_given_up()));
        assert_eq!(threads.slots(), 1);
    }

    #[test]
    fn thread_is_overdue_once() {
        let mut threads = LoadThreads::default();
        let (id, now) = (ServableId::new("m", 1), Instant::now());
        let (endless, _) = threads.begin(id.clone(), now, None);
        let (ticket, given_up) = threads.begin(id.clone(), now, Some(now));
        assert_eq!(threads.next_deadline(now), Some(now));
        assert_eq!(threads.overdue(now), [(ticket, id.clone())]);
        threads.give_up(ticket);
        assert!(given_up.is_raised());
        assert_eq!(threads.overdue(now), []);
        // The endless thread still has a slot to give back.
        assert_eq!(threads.next_deadline(now), Some(now + SLOW));
        assert_eq!((threads.stuck(&id), threads.slots()), (1, 1));
        assert!(threads.end(ticket).is_some_and(|it| it.is_given_up()));
        assert!(threads.end(endless).is_some_and(|it| !it.is_given_up()));
    }
}
