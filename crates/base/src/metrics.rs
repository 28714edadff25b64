//! Metric primitives: counters, gauges and histograms, families of them by label, and the text of a page.
//!
//! Not here: which metrics exist and when they are recorded (`serving::monitoring`).

pub mod family;
pub mod instrument;
pub mod text;
