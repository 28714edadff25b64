//! A number of places, of which one connection can take no more than its share.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::peer::ConnectionNumber;

/// The places.
#[derive(Debug)]
pub struct Shares {
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

/// Why no place is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The connection has used up its share.
    OfOne,
    /// All places are taken.
    All,
}

impl Shares {
    /// `max` places in all, at most `max_of_one` for one connection.
    pub const fn new(max: usize, max_of_one: usize) -> Self {
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
    pub fn take(&self, connection: ConnectionNumber) -> Result<(), Full> {
        self.take_of(self.max, connection)
    }

    /// Takes a place even beyond the maximum, because a taken one is about to be free.
    pub(super) fn take_beyond(&self, connection: ConnectionNumber) -> Result<(), Full> {
        self.take_of(usize::MAX, connection)
    }

    fn take_of(&self, max: usize, connection: ConnectionNumber) -> Result<(), Full> {
        let mut taken = self.lock();
        if taken.by_connection.get(&connection) >= Some(&self.max_of_one) {
            return Err(Full::OfOne);
        }
        if taken.all >= max {
            return Err(Full::All);
        }
        *taken.by_connection.entry(connection).or_default() += 1;
        taken.all += 1;
        Ok(())
    }

    /// Gives back a place of `connection`.
    pub fn give_back(&self, connection: ConnectionNumber) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_connection_takes_its_share_and_all_take_all() {
        let shares = Shares::new(5, 2);
        let of_one = [shares.take(1), shares.take(1), shares.take(1)];
        assert_eq!(of_one, [Ok(()), Ok(()), Err(Full::OfOne)]);
        let others = [2, 3, 4, 5].map(|connection| shares.take(connection));
        assert_eq!(others, [Ok(()), Ok(()), Ok(()), Err(Full::All)]);
        assert_eq!(shares.take_beyond(5), Ok(()));
        for connection in [1, 1, 2, 3, 4, 5] {
            shares.give_back(connection);
        }
        assert!(shares.lock().by_connection.is_empty());
        assert_eq!(shares.lock().all, 0);
    }
}
