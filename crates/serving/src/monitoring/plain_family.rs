//! Metric families as on TensorFlow Serving's page: without help texts, times in microseconds.
//!
//! Not here: which families there are (`tensorflow`, `session`).

use std::time::Duration;

use base::metrics::family::{About, Family, Unit};
use base::metrics::instrument::Instrument;

/// A family without a help text, as on TensorFlow Serving's page.
pub(super) fn family<M: Instrument, const N: usize>(
    name: &'static str,
    label_names: &'static [&'static str; N],
    new_instrument: fn() -> M,
) -> Family<M, N> {
    let about = About {
        name,
        help: "",
        unit: Unit::Plain,
    };
    Family::new(about, label_names, new_instrument)
}

/// For families whose first label is not a model name.
pub(super) fn not_a_model(_first_value: &str) -> bool {
    false
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
