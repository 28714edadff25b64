//! Ranks the requests that wait for their clients, and picks the one that makes room for others: the one
//! that has waited longest, on the heaviest connection of the heaviest source.
//!
//! Pure. Not here: which requests wait, and making room (`limit`).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;

use super::peer::{ConnectionNumber, Source};

/// All waiting items, by source and by connection. They are numbered in the order in which they came.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    last_number: u64,
    sources: Ranked<Source, OfSource<T>>,
}

type OfSource<T> = Ranked<ConnectionNumber, OfConnection<T>>;

/// Values that have a weight, of which the heaviest can be found. None is empty.
#[derive(Debug)]
struct Ranked<K, V> {
    by_key: HashMap<K, V>,
    ranks: BTreeSet<(Rank, K)>,
    weight: u64,
    /// The numbers of all items in it.
    numbers: BTreeSet<u64>,
}

/// The weight, then the age: of equal weights, the one that has waited longest ranks first.
type Rank = (u64, Reverse<u64>);

#[derive(Debug)]
struct OfConnection<T> {
    weight: u64,
    by_number: BTreeMap<u64, (u64, T)>,
}

impl<K, V> Default for Ranked<K, V> {
    fn default() -> Self {
        Self {
            by_key: HashMap::new(),
            ranks: BTreeSet::new(),
            weight: 0,
            numbers: BTreeSet::new(),
        }
    }
}

impl<T> Default for OfConnection<T> {
    fn default() -> Self {
        Self {
            weight: 0,
            by_number: BTreeMap::new(),
        }
    }
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self {
            last_number: 0,
            sources: Ranked::default(),
        }
    }
}

/// A rank among values of the same type; `None` for an empty value.
trait HasRank {
    fn rank(&self) -> Option<Rank>;
}

impl<K, V> HasRank for Ranked<K, V> {
    fn rank(&self) -> Option<Rank> {
        Some((self.weight, Reverse(*self.numbers.first()?)))
    }
}

impl<T> HasRank for OfConnection<T> {
    fn rank(&self) -> Option<Rank> {
        let (&oldest, _) = self.by_number.first_key_value()?;
        Some((self.weight, Reverse(oldest)))
    }
}

impl<K: Copy + Ord + Hash, V: HasRank + Default> Ranked<K, V> {
    /// Changes the value of this key, and updates its rank.
    fn change<R>(&mut self, key: K, change: impl FnOnce(&mut V) -> R) -> R {
        let value = self.by_key.entry(key).or_default();
        let before = value.rank();
        let result = change(value);
        let after = value.rank();
        if let Some(rank) = before
            && after != before
        {
            self.ranks.remove(&(rank, key));
        }
        match after {
            Some(rank) if after != before => drop(self.ranks.insert((rank, key))),
            Some(_) => {}
            None => drop(self.by_key.remove(&key)),
        }
        result
    }

    fn heaviest(&self) -> Option<K> {
        self.ranks.last().map(|&(_, key)| key)
    }
}

impl<T> Waiting<T> {
    /// Adds an item; returns its number.
    pub(super) fn add(
        &mut self,
        (source, connection): (Source, ConnectionNumber),
        weight: u64,
        waiting: T,
    ) -> u64 {
        self.last_number += 1;
        let number = self.last_number;
        self.sources.change(source, |of_source| {
            of_source.weight += weight;
            of_source.numbers.insert(number);
            of_source.change(connection, |of_connection| {
                of_connection.weight += weight;
                of_connection.by_number.insert(number, (weight, waiting));
            });
        });
        number
    }

    /// Takes out the item with this number, if it is still there.
    pub(super) fn remove(
        &mut self,
        (source, connection): (Source, ConnectionNumber),
        number: u64,
    ) -> Option<T> {
        self.sources.change(source, |of_source| {
            let removed = of_source.change(connection, |of_connection| {
                let removed = of_connection.by_number.remove(&number);
                if let Some((weight, _)) = &removed {
                    of_connection.weight -= weight;
                }
                removed
            });
            let (weight, removed) = removed?;
            of_source.weight -= weight;
            of_source.numbers.remove(&number);
            Some(removed)
        })
    }

    /// The item that makes room first, and the weight of its connection.
    pub(super) fn first(&self) -> Option<(u64, &T)> {
        let of_source = self.sources.by_key.get(&self.sources.heaviest()?)?;
        let of_connection = of_source.by_key.get(&of_source.heaviest()?)?;
        let (_, (_, first)) = of_connection.by_number.first_key_value()?;
        Some((of_connection.weight, first))
    }

    /// Takes out the first item, unless its connection weighs less than `kept_by_other`.
    pub(super) fn take(&mut self, kept_by_other: u64) -> Option<T> {
        let source = self.sources.heaviest()?;
        let of_source = self.sources.by_key.get(&source)?;
        let connection = of_source.heaviest()?;
        let weight = of_source.by_key.get(&connection)?.weight;
        if weight < kept_by_other {
            return None;
        }
        self.take_of((source, connection))
    }

    /// Takes out the item of this connection that has waited longest.
    pub(super) fn take_of(
        &mut self,
        (source, connection): (Source, ConnectionNumber),
    ) -> Option<T> {
        let of_source = self.sources.by_key.get(&source)?;
        let of_connection = of_source.by_key.get(&connection)?;
        let (&number, _) = of_connection.by_number.first_key_value()?;
        self.remove((source, connection), number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(source: u8, connection: ConnectionNumber) -> (Source, ConnectionNumber) {
        (Source::V4([10, 0, 0, source]), connection)
    }

    fn all(mut waiting: Waiting<&'static str>) -> Vec<&'static str> {
        let taken = std::iter::from_fn(|| waiting.take(1)).collect();
        assert!(waiting.sources.by_key.is_empty() && waiting.sources.ranks.is_empty());
        taken
    }

    #[test]
    fn who_has_the_most_makes_room_first() {
        let mut waiting = Waiting::default();
        for (peer, name) in [
            (of(2, 7), "a"),
            (of(1, 1), "b"),
            (of(1, 2), "c"),
            (of(1, 2), "d"),
            (of(3, 8), "e"),
        ] {
            waiting.add(peer, 1, name);
        }
        assert_eq!(all(waiting), ["c", "b", "a", "d", "e"]);
    }

    #[test]
    fn what_is_large_weighs_more() {
        let mut waiting = Waiting::default();
        waiting.add(of(1, 1), 1, "first");
        waiting.add(of(1, 1), 1, "second");
        waiting.add(of(2, 2), 5, "large");
        assert_eq!(waiting.take(6), None);
        assert_eq!(waiting.take(5), Some("large"));
        assert_eq!(waiting.take(5), None);
        assert_eq!(waiting.take_of(of(2, 2)), None);
        assert_eq!(waiting.take_of(of(1, 1)), Some("first"));
        assert_eq!(all(waiting), ["second"]);
    }

    #[test]
    fn who_waits_no_longer_is_forgotten() {
        let mut waiting = Waiting::default();
        let first = waiting.add(of(1, 1), 1, "first");
        let second = waiting.add(of(1, 1), 2, "second");
        assert_eq!(waiting.remove(of(1, 1), first), Some("first"));
        assert_eq!(waiting.remove(of(1, 1), first), None);
        assert_eq!(waiting.remove(of(9, 9), second), None);
        assert_eq!(all(waiting), ["second"]);
    }
}
