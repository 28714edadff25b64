//! How often each decision was made.
//!
//! Not here: the page that shows it (`serving::monitoring`).

use base::metrics::instrument::{Counter, Instrument, Reading};

use super::decision::{Placement, Reason, Threads};

const COUNTERS: usize = Placement::ALL.len() * Threads::ALL.len() * Reason::ALL.len();

/// One counter for each combination of place, threads and reason, found by its index: counting a run is one
/// atomic addition.
#[derive(Debug)]
pub struct PlacementCounts([Counter; COUNTERS]);

impl Default for PlacementCounts {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl PlacementCounts {
    pub(super) fn add(&self, place: Placement, threads: Threads, reason: Reason) {
        self.0[index(place, threads, reason)].add(1);
    }

    /// The number of runs that began with this decision.
    pub fn count(&self, place: Placement, threads: Threads, reason: Reason) -> i64 {
        match self.0[index(place, threads, reason)].read() {
            Reading::Number(count) => count,
            Reading::Histogram { .. } => 0,
        }
    }

    /// The decisions that were made at least once, and how often.
    pub fn made(&self) -> impl Iterator<Item = (Placement, Threads, Reason, i64)> + '_ {
        let places = Placement::ALL.into_iter();
        let all = places.flat_map(|place| {
            let threads = Threads::ALL.into_iter();
            threads.flat_map(move |threads| Reason::ALL.map(|reason| (place, threads, reason)))
        });
        all.map(|(place, threads, reason)| {
            let count = self.count(place, threads, reason);
            (place, threads, reason, count)
        })
        .filter(|(.., count)| *count > 0)
    }
}

fn index(place: Placement, threads: Threads, reason: Reason) -> usize {
    (place as usize * Threads::ALL.len() + threads as usize) * Reason::ALL.len() + reason as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_decision_has_a_counter_and_labels_of_its_own() {
        let counts = PlacementCounts::default();
        assert_eq!(counts.made().count(), 0);
        let mut times = 0;
        for place in Placement::ALL {
            for threads in Threads::ALL {
                for reason in Reason::ALL {
                    times += 1;
                    for _ in 0..times {
                        counts.add(place, threads, reason);
                    }
                    assert_eq!(counts.count(place, threads, reason), times);
                }
            }
        }
        let made: Vec<i64> = counts.made().map(|(.., count)| count).collect();
        assert_eq!(made, (1..=66).collect::<Vec<i64>>());
        let labels: BTreeSet<_> = counts
            .made()
            .map(|(place, threads, reason, _)| (place.label(), threads.label(), reason.label()))
            .collect();
        assert_eq!(labels.len(), 66);
    }
}
