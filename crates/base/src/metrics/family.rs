//! A metric with labels: one instrument per combination of label values.
//!
//! Recording finds the instrument in a sorted list that is replaced as a whole when a new
//! combination appears, so a request takes no lock and allocates nothing.
//!
//! Clients choose some label values (a model's name), so the number of combinations is limited; further
//! ones are counted under `OTHER`.
//!
//! Not here: the values (`instrument`), the families of a page (`registry`).

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;

use super::instrument::{Instrument, MetricType, Reading};

/// Replaces every label value beyond a limit.
pub(super) const OTHER: &str = "(other)";

/// How many values the first label of a family can have, not counting names of known models.
const MAX_FIRST_VALUES: usize = 1000;

/// How many combinations of label values a family can have in all.
const MAX_SERIES: usize = 20_000;

/// The longest label value that is kept, in bytes.
const MAX_VALUE_BYTES: usize = 1024;

/// The description of a metric on a page, without its values.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// The name, in the spelling of the registry it belongs to.
    pub name: &'static str,
    /// One sentence; empty if the page has none.
    pub help: &'static str,
    /// The unit of the numbers.
    pub unit: Unit,
}

impl About {
    /// A metric whose name ends in `_seconds` counts nanoseconds. `help` is a doc comment, with a blank
    /// before each line.
    pub fn new(name: &'static str, help: &'static str) -> Self {
        let unit = if name.ends_with("_seconds") {
            Unit::Nanoseconds
        } else {
            Unit::Plain
        };
        let help = help.trim_start();
        Self { name, help, unit }
    }
}

/// The unit of the whole numbers of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Printed as they are.
    Plain,
    /// Printed as seconds.
    Nanoseconds,
}

/// Everything that a page prints about one metric.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its name and description.
    pub about: About,
    /// The type as printed on the page.
    pub metric_type: MetricType,
    /// In the order of the values of each point.
    pub label_names: Vec<&'static str>,
    /// In the order of their label values.
    pub points: Vec<Point>,
}

/// One combination of label values.
#[derive(Clone, Debug)]
pub struct Point {
    /// One for each label name of the metric.
    pub label_values: Vec<Box<str>>,
    /// The values.
    pub reading: Reading,
}

/// A metric with `N` labels.
pub struct Family<M, const N: usize> {
    about: About,
    label_names: &'static [&'static str; N],
    new_instrument: fn() -> M,
    table: ArcSwap<Table<M, N>>,
    /// Held while `table` is replaced, so that no replacement is lost.
    replacing: Mutex<()>,
    /// The series of a family without labels, once it exists: it is found without a search.
    single: OnceLock<Arc<Series<M, N>>>,
}

impl<M: Instrument, const N: usize> Family<M, N> {
    /// An empty family.
    pub fn new(
        about: About,
        label_names: &'static [&'static str; N],
        new_instrument: fn() -> M,
    ) -> Self {
        Self {
            about,
            label_names,
            new_instrument,
            table: ArcSwap::from_pointee(Table::new(Vec::new())),
            replacing: Mutex::new(()),
            single: OnceLock::new(),
        }
    }

    /// Applies `change` to the instrument of these label values. `is_known` returns whether the first
    /// value is the name of a model that the server has: such names are never replaced by `OTHER`.
    pub fn update(
        &self,
        values: [&str; N],
        is_known: impl Fn(&str) -> bool,
        change: impl FnOnce(&M),
    ) {
        match self.table.load().find(&values) {
            Some(series) => change(&series.instrument),
            None => change(&self.series(values, is_known).instrument),
        }
    }

    /// The series of these label values, to update later. `is_known` as in [`update`](Self::update).
    pub fn series(&self, values: [&str; N], is_known: impl Fn(&str) -> bool) -> Arc<Series<M, N>> {
        let table = self.table.load();
        if let Some(series) = table.find(&table.admit(values, &is_known)) {
            return Arc::clone(series);
        }

        let _replacing = self
            .replacing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let table = self.table.load();
        let values = table.admit(values, &is_known);
        if let Some(series) = table.find(&values) {
            return Arc::clone(series);
        }
        let series = Arc::new(Series {
            values: values.map(Box::from),
            instrument: (self.new_instrument)(),
        });
        self.table.store(Arc::new(table.with(Arc::clone(&series))));
        series
    }

    /// Drops the series for whose label values `is_gone` returns true.
    fn remove(&self, is_gone: impl Fn(&[Box<str>; N]) -> bool) {
        let _replacing = self
            .replacing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let table = self.table.load();
        if !table.series.iter().any(|it| is_gone(&it.values)) {
            return;
        }
        let kept = table.series.iter().filter(|it| !is_gone(&it.values));
        self.table
            .store(Arc::new(Table::new(kept.map(Arc::clone).collect())));
    }

    /// Whether any series has this first label value.
    pub fn has_first(&self, value: &str) -> bool {
        self.table.load().has_first(value)
    }
}

impl<M: Instrument> Family<M, 0> {
    /// The instrument of a family without labels. From the first call on it is on the page.
    pub fn single(&self) -> &M {
        let series = self.single.get_or_init(|| self.series([], |_| false));
        &series.instrument
    }
}

/// Any metric, for the pages.
pub trait Collect {
    /// Name, help and unit.
    fn about(&self) -> About;

    /// The metric with all its points; `None` if it has no value.
    fn snapshot(&self) -> Option<Snapshot>;

    /// Drops the series that have all of these labels, each a name and a value. A metric that lacks one
    /// of the names keeps all its series.
    fn forget(&self, labels: &[(&str, &str)]);
}

impl<M: Instrument, const N: usize> Collect for Family<M, N> {
    fn about(&self) -> About {
        self.about
    }

    fn snapshot(&self) -> Option<Snapshot> {
        let table = self.table.load();
        let points = table.series.iter().map(|series| Point {
            label_values: series.values.to_vec(),
            reading: series.instrument.read(),
        });
        Some(Snapshot {
            about: self.about,
            metric_type: M::TYPE,
            label_names: self.label_names.to_vec(),
            points: points.collect(),
        })
    }

    fn forget(&self, labels: &[(&str, &str)]) {
        let mut expected = [None; N];
        for &(name, value) in labels {
            let Some(index) = self.label_names.iter().position(|&it| it == name) else {
                return;
            };
            expected[index] = Some(value);
        }
        self.remove(|values| {
            let mut pairs = values.iter().zip(expected);
            pairs.all(|(value, expected)| expected.is_none_or(|it| **value == *it))
        });
    }
}

/// One combination of label values and its instrument.
pub struct Series<M, const N: usize> {
    values: [Box<str>; N],
    /// The instrument that records the values.
    pub instrument: M,
}

impl<M, const N: usize> Series<M, N> {
    /// Compares label values byte by byte.
    fn order(&self, values: &[&str; N]) -> Ordering {
        self.values
            .iter()
            .map(|it| &**it)
            .cmp(values.iter().copied())
    }

    fn first(&self) -> Option<&str> {
        self.values.first().map(|it| &**it)
    }
}

/// All series of a family at one moment.
struct Table<M, const N: usize> {
    /// Invariant: in the order of their label values, each combination once.
    series: Vec<Arc<Series<M, N>>>,
    /// Invariant: the number of different first label values in `series`.
    first_values: usize,
}

impl<M, const N: usize> Table<M, N> {
    /// `series` are in the order of their label values.
    fn new(series: Vec<Arc<Series<M, N>>>) -> Self {
        let first_values = series.chunk_by(|a, b| a.first() == b.first()).count();
        Self {
            series,
            first_values,
        }
    }

    fn find(&self, values: &[&str; N]) -> Option<&Arc<Series<M, N>>> {
        let index = self.series.binary_search_by(|it| it.order(values)).ok()?;
        Some(&self.series[index])
    }

    fn has_first(&self, value: &str) -> bool {
        let index = self.series.partition_point(|it| it.first() < Some(value));
        let candidate = self.series.get(index);
        candidate.is_some_and(|it| it.first() == Some(value))
    }

    /// The label values under which `values` are counted: the same ones, unless a limit is reached.
    fn admit<'a>(&self, values: [&'a str; N], is_known: impl Fn(&str) -> bool) -> [&'a str; N] {
        if self.find(&values).is_some() {
            return values;
        }
        let mut admitted = values.map(|it| {
            if it.len() > MAX_VALUE_BYTES {
                OTHER
            } else {
                it
            }
        });
        if let Some(first) = admitted.first_mut()
            && self.first_values >= MAX_FIRST_VALUES
            && !self.has_first(first)
            && !is_known(first)
        {
            *first = OTHER;
        }
        if self.series.len() >= MAX_SERIES && self.find(&admitted).is_none() {
            return [OTHER; N];
        }
        admitted
    }

    /// These series and a new one.
    fn with(&self, series: Arc<Series<M, N>>) -> Self {
        let values = series.values.each_ref().map(|it| &**it);
        let index = self.series.partition_point(|it| it.order(&values).is_lt());
        let mut all = Vec::with_capacity(self.series.len() + 1);
        all.extend_from_slice(&self.series[..index]);
        all.push(series);
        all.extend_from_slice(&self.series[index..]);
        Self::new(all)
    }
}
