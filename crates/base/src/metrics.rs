//! Metric primitives: counters, gauges and histograms, families of them by label, and the text of a page.
//!
//! Not here: the metrics themselves and when they are recorded (`serving::monitoring`).

pub mod family;
pub mod instrument;
pub mod registry;
pub mod text;
