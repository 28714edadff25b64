//! The order in which passwords are checked: sources take turns, and so do the users and connections of
//! one source.
//!
//! A source that guesses fills its own queue and leaves the others theirs. Behind one proxy all
//! clients are one source; there who guesses on one connection at one name, or at names that there are
//! not, leaves others their turns.
//!
//! Pure. Not here: the checks and their threads (`password`).

use std::collections::VecDeque;
use std::sync::Arc;

use crate::transport::peer::{ConnectionNumber, Source};

/// Checks that wait: of one user on one connection, of one source, of all.
const MAX_OF_USER: usize = 16;
const MAX_OF_SOURCE: usize = 128;
const MAX_WAITING: usize = 512;

/// Whose password it is said to be; `None` for everybody whom the rules do not name.
pub(super) type User = Option<Arc<str>>;

/// A user of one source, on one connection.
pub(super) type Turn = (User, ConnectionNumber);

/// Checks that wait for their turn.
pub(super) struct LoginQueue<C> {
    /// The next one's turn comes first. None is empty.
    sources: VecDeque<OfSource<C>>,
}

struct OfSource<C> {
    source: Source,
    /// As above.
    users: VecDeque<(Turn, VecDeque<C>)>,
}

impl<C> OfSource<C> {
    fn len(&self) -> usize {
        self.users.iter().map(|(_, checks)| checks.len()).sum()
    }

    /// How many wait of the user with the most.
    fn most_of_user(&self) -> usize {
        let lens = self.users.iter().map(|(_, checks)| checks.len());
        lens.max().unwrap_or(0)
    }

    /// Takes the last of the user with the most.
    fn displace(&mut self) -> Option<C> {
        let (_, checks) = self.users.iter_mut().max_by_key(|(_, it)| it.len())?;
        let displaced = checks.pop_back();
        self.users.retain(|(_, checks)| !checks.is_empty());
        displaced
    }
}

impl<C> Default for LoginQueue<C> {
    fn default() -> Self {
        Self {
            sources: VecDeque::new(),
        }
    }
}

impl<C> LoginQueue<C> {
    /// Puts a check at the end of its user's queue. Where there is no place left, one who has more
    /// places than this one gives one up, whose check is handed back.
    ///
    /// # Errors
    ///
    /// The check itself, where no place is left for it.
    pub(super) fn push(&mut self, source: Source, user: Turn, check: C) -> Result<Option<C>, C> {
        let all: usize = self.sources.iter().map(OfSource::len).sum();
        let index = self.sources.iter().position(|it| it.source == source);
        let (of_source, of_user, most_of_user) = match index.map(|it| &self.sources[it]) {
            None => (0, 0, 0),
            Some(it) => {
                let of_user = it.users.iter().find(|(name, _)| *name == user);
                (
                    it.len(),
                    of_user.map_or(0, |(_, checks)| checks.len()),
                    it.most_of_user(),
                )
            }
        };
        let most_of_source = self.sources.iter().map(OfSource::len).max().unwrap_or(0);
        let displaced = if of_user >= MAX_OF_USER {
            return Err(check);
        } else if of_source >= MAX_OF_SOURCE {
            match index {
                Some(index) if most_of_user > of_user + 1 => self.sources[index].displace(),
                _ => return Err(check),
            }
        } else if all < MAX_WAITING {
            None
        } else if most_of_source > of_source + 1 {
            let longest = self.sources.iter_mut().max_by_key(|it| it.len());
            longest.and_then(OfSource::displace)
        } else {
            return Err(check);
        };
        let index = index.unwrap_or_else(|| {
            let users = VecDeque::new();
            self.sources.push_back(OfSource { source, users });
            self.sources.len() - 1
        });
        let users = &mut self.sources[index].users;
        match users.iter_mut().find(|(name, _)| *name == user) {
            Some((_, checks)) => checks.push_back(check),
            None => users.push_back((user, VecDeque::from([check]))),
        }
        Ok(displaced)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// The check whose turn it is.
    pub(super) fn pop(&mut self) -> Option<C> {
        let mut of_source = self.sources.pop_front()?;
        let (user, mut checks) = of_source.users.pop_front()?;
        let check = checks.pop_front();
        if !checks.is_empty() {
            of_source.users.push_back((user, checks));
        }
        if !of_source.users.is_empty() {
            self.sources.push_back(of_source);
        }
        check
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: usize) -> Source {
        let [.., a, b] = number.to_be_bytes();
        Source::V4([10, 0, a, b])
    }

    fn user(name: &str) -> Turn {
        (Some(name.into()), 1)
    }

    const UNKNOWN: Turn = (None, 1);

    #[test]
    fn sources_and_users_take_turns() {
        let mut queue = LoginQueue::default();
        for number in 0..10 {
            let _ = queue.push(source(1), UNKNOWN, format!("guess {number}"));
        }
        queue
            .push(source(1), user("alice"), "alice".into())
            .unwrap();
        queue.push(source(2), user("bob"), "bob".into()).unwrap();
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).take(4).collect();
        assert_eq!(order, ["guess 0", "bob", "alice", "guess 1"]);
    }

    #[test]
    fn who_guesses_fills_no_place_of_others() {
        let mut queue = LoginQueue::default();
        let mut waiting = 0;
        let names = (0..20).map(|it| user(&it.to_string())).chain([UNKNOWN]);
        for name in names {
            while queue
                .push(source(1), name.clone(), "guess")
                .is_ok_and(|it| it.is_none())
            {
                waiting += 1;
            }
        }
        assert_eq!(waiting, MAX_OF_SOURCE);
        // The same proxy, and then the same name on another connection.
        assert_eq!(
            queue.push(source(1), user("alice"), "alice"),
            Ok(Some("guess"))
        );
        assert_eq!(queue.push(source(2), user("alice"), "alice"), Ok(None));
        for number in 3..400 {
            let _ = queue.push(source(number), UNKNOWN, "guess");
        }
        let len: usize = queue.sources.iter().map(OfSource::len).sum();
        assert_eq!(len, MAX_WAITING);
        let taken: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(taken.len(), MAX_WAITING);
        let alices = taken.iter().filter(|&&it| it == "alice");
        assert_eq!(alices.count(), 2);
        assert!(queue.sources.is_empty());
    }
}
