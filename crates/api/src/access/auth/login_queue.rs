//! The order in which passwords are checked: sources take turns, and so do the users of one source and the
//! connections of one user.
//!
//! A source that guesses passwords fills only its own queue. All clients behind one proxy are one source; a
//! client there that guesses for one user name, or for unknown names, does not take the turns of other
//! users. A client that guesses for a user name from the same source as that user differs from the user
//! only by its connection: connections that sent a wrong password come after those that did not. Among the
//! others the order is first come, first served: any order checks them in proportion to their arrivals, and
//! this one limits the wait.
//!
//! Pure. Not here: the checks and their threads (`password`).

use std::collections::VecDeque;
use std::sync::Arc;

use net::peer::{ConnectionNumber, Source};

/// The numbers of checks that can wait: of one user on one connection, of one user of one source, of one
/// source, and in total.
const MAX_OF_CONNECTION: usize = 16;
const MAX_OF_USER: usize = 256;
const MAX_OF_SOURCE: usize = 512;
const MAX_WAITING: usize = 2048;

/// The user whose password is to be checked; `None` for all names that the rules do not contain.
pub(super) type User = Option<Arc<str>>;

/// The place of a check in the order.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    pub(super) source: Source,
    pub(super) user: User,
    pub(super) connection: ConnectionNumber,
    /// Whether the connection has sent a wrong password.
    pub(super) has_been_wrong: bool,
}

/// Checks that wait for their turn.
pub(super) struct LoginQueue<C> {
    /// The next source first. None is empty.
    sources: VecDeque<(Source, OfSource<C>)>,
}

/// By user, the next one first.
struct OfSource<C>(VecDeque<(User, OfUser<C>)>);

struct OfUser<C> {
    /// Connections that sent no wrong password, and those that did.
    classes: [OfConnections<C>; 2],
}

type OfConnections<C> = VecDeque<(ConnectionNumber, VecDeque<C>)>;

impl<C> Default for LoginQueue<C> {
    fn default() -> Self {
        Self {
            sources: VecDeque::new(),
        }
    }
}

impl<C> Default for OfSource<C> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<C> Default for OfUser<C> {
    fn default() -> Self {
        Self {
            classes: Default::default(),
        }
    }
}

impl<C> OfSource<C> {
    fn len(&self) -> usize {
        self.0.iter().map(|(_, it)| it.len()).sum()
    }

    /// Takes the last check of the user with the most checks, if it has more than `more_than`.
    fn displace(&mut self, more_than: usize) -> Option<C> {
        let (_, most) = self.0.iter_mut().max_by_key(|(_, it)| it.len())?;
        if most.len() <= more_than {
            return None;
        }
        let displaced = most.displace();
        self.0.retain(|(_, it)| it.len() > 0);
        displaced
    }

    fn pop(&mut self) -> Option<C> {
        let (user, mut checks) = self.0.pop_front()?;
        let check = checks.pop();
        if checks.len() > 0 {
            self.0.push_back((user, checks));
        }
        check
    }
}

impl<C> OfUser<C> {
    fn len(&self) -> usize {
        let connections = self.classes.iter().flatten();
        connections.map(|(_, checks)| checks.len()).sum()
    }

    fn of_connection(&self, connection: ConnectionNumber) -> usize {
        let connections = self.classes.iter().flatten();
        let own = connections.filter(|(number, _)| *number == connection);
        own.map(|(_, checks)| checks.len()).sum()
    }

    /// Takes the last check of the connection with the most checks, among those that sent a wrong password
    /// if there are any.
    fn displace(&mut self) -> Option<C> {
        let [others, wrong] = &mut self.classes;
        let class = if wrong.is_empty() { others } else { wrong };
        let (_, checks) = class.iter_mut().max_by_key(|(_, it)| it.len())?;
        let displaced = checks.pop_back();
        class.retain(|(_, checks)| !checks.is_empty());
        displaced
    }

    fn push(&mut self, turn: &Turn, check: C) {
        let class = &mut self.classes[usize::from(turn.has_been_wrong)];
        match class.iter_mut().find(|(it, _)| *it == turn.connection) {
            Some((_, checks)) => checks.push_back(check),
            None => class.push_back((turn.connection, VecDeque::from([check]))),
        }
    }

    fn pop(&mut self) -> Option<C> {
        let class = self.classes.iter_mut().find(|it| !it.is_empty())?;
        let (connection, mut checks) = class.pop_front()?;
        let check = checks.pop_front();
        if !checks.is_empty() {
            class.push_back((connection, checks));
        }
        check
    }
}

/// The index of the entry with this key, which is added if it is missing.
fn entry<K: Clone + PartialEq, V: Default>(all: &mut VecDeque<(K, V)>, key: &K) -> usize {
    all.iter().position(|(it, _)| it == key).unwrap_or_else(|| {
        all.push_back((key.clone(), V::default()));
        all.len() - 1
    })
}

impl<C> LoginQueue<C> {
    /// Puts a check at the end of its connection's queue. At a limit, it displaces a check of a source or
    /// user that has more; the displaced check is returned.
    ///
    /// # Errors
    ///
    /// The check itself, if it finds no room.
    pub(super) fn push(&mut self, turn: &Turn, check: C) -> Result<Option<C>, C> {
        let pushed = self.make_room(turn);
        let pushed = pushed.map(|displaced| {
            let source = entry(&mut self.sources, &turn.source);
            let users = &mut self.sources[source].1.0;
            let user = entry(users, &turn.user);
            (displaced, &mut users[user].1)
        });
        match pushed {
            Some((displaced, of_user)) => {
                of_user.push(turn, check);
                Ok(displaced)
            }
            None => Err(check),
        }
    }

    /// Makes room for one more check. Returns the one that was displaced, if any, and `None` if it finds no
    /// room.
    fn make_room(&mut self, turn: &Turn) -> Option<Option<C>> {
        let all: usize = self.sources.iter().map(|(_, it)| it.len()).sum();
        let mut of_source = self.sources.iter_mut().find(|it| it.0 == turn.source);
        let len_of_source = of_source.as_ref().map_or(0, |(_, it)| it.len());
        let mut of_user = match &mut of_source {
            Some((_, it)) => it.0.iter_mut().find(|it| it.0 == turn.user),
            None => None,
        };
        let len_of_user = of_user.as_ref().map_or(0, |(_, it)| it.len());
        if let Some((_, of_user)) = &mut of_user {
            if of_user.of_connection(turn.connection) >= MAX_OF_CONNECTION {
                return None;
            }
            if len_of_user >= MAX_OF_USER {
                let may_displace = !turn.has_been_wrong && !of_user.classes[1].is_empty();
                return may_displace.then(|| of_user.displace());
            }
        }
        if len_of_source >= MAX_OF_SOURCE {
            let (_, of_source) = of_source?;
            return of_source.displace(len_of_user + 1).map(Some);
        }
        if all < MAX_WAITING {
            return Some(None);
        }
        let (_, longest) = self.sources.iter_mut().max_by_key(|(_, it)| it.len())?;
        if longest.len() <= len_of_source + 1 {
            return None;
        }
        longest.displace(0).map(Some)
    }

    /// The number of waiting checks of this user of this source.
    pub(super) fn len_of_user(&self, source: Source, user: &User) -> usize {
        let of_source = self.sources.iter().find(|it| it.0 == source);
        let of_user = of_source.and_then(|(_, it)| it.0.iter().find(|it| it.0 == *user));
        of_user.map_or(0, |(_, it)| it.len())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// The check whose turn it is.
    pub(super) fn pop(&mut self) -> Option<C> {
        let (source, mut checks) = self.sources.pop_front()?;
        let check = checks.pop();
        if checks.len() > 0 {
            self.sources.push_back((source, checks));
        }
        check
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(source: usize, user: Option<&str>, connection: ConnectionNumber) -> Turn {
        let [.., a, b] = source.to_be_bytes();
        Turn {
            source: Source::V4([10, 0, a, b]),
            user: user.map(Into::into),
            connection,
            has_been_wrong: false,
        }
    }

    fn wrong(turn: Turn) -> Turn {
        Turn {
            has_been_wrong: true,
            ..turn
        }
    }

    fn order<C>(mut queue: LoginQueue<C>) -> Vec<C> {
        let order = std::iter::from_fn(|| queue.pop()).collect();
        assert!(queue.is_empty());
        order
    }

    #[test]
    fn sources_users_and_connections_take_turns() {
        let mut queue = LoginQueue::default();
        for (number, check) in ["guess 0", "guess 1", "guess 2", "guess 3"]
            .iter()
            .enumerate()
        {
            let connection = [7, 7, 7, 8][number];
            queue.push(&turn(1, None, connection), *check).unwrap();
        }
        queue.push(&turn(1, Some("alice"), 9), "alice").unwrap();
        queue.push(&turn(2, Some("bob"), 10), "bob").unwrap();
        let expected = ["guess 0", "bob", "alice", "guess 3", "guess 1", "guess 2"];
        assert_eq!(order(queue), expected);
    }

    #[test]
    fn a_connection_that_was_wrong_comes_last() {
        let mut queue = LoginQueue::default();
        for connection in 0..300 {
            let _ = queue.push(&wrong(turn(1, Some("alice"), connection)), "guess");
        }
        // All waiting checks of this user of this source are guesses.
        let alice = turn(1, Some("alice"), 1000);
        assert_eq!(queue.push(&alice, "alice"), Ok(Some("guess")));
        let late = wrong(turn(1, Some("alice"), 2000));
        assert_eq!(queue.push(&late, "guess"), Err("guess"));
        let order = order(queue);
        assert_eq!((order[0], order.len()), ("alice", MAX_OF_USER));
    }

    #[test]
    fn who_guesses_fills_no_place_of_others() {
        let mut queue = LoginQueue::default();
        let mut waiting = 0;
        let names = (0..20).map(|it| Some(it.to_string())).chain([None]);
        for name in names {
            for connection in 0..3 {
                let turn = turn(1, name.as_deref(), connection);
                while queue.push(&turn, "guess").is_ok_and(|it| it.is_none()) {
                    waiting += 1;
                }
            }
        }
        assert_eq!(waiting, MAX_OF_SOURCE);
        // First another user behind the same proxy, then the same user elsewhere.
        let pushed = queue.push(&turn(1, Some("alice"), 5), "alice");
        assert_eq!(pushed, Ok(Some("guess")));
        assert_eq!(queue.push(&turn(2, Some("alice"), 6), "alice"), Ok(None));
        for number in 3..60 {
            for connection in 0..40 {
                let _ = queue.push(&turn(number, None, connection), "guess");
            }
        }
        let taken = order(queue);
        assert_eq!(taken.len(), MAX_WAITING);
        assert_eq!(taken.iter().filter(|&&it| it == "alice").count(), 2);
    }
}
