//! The lifecycle with a fake loader and real directories.
//!
//! Names in comments are those of TensorFlow Serving's own tests. Polling is frequent here, and every
//! wait has an upper bound.

mod support;

mod again;
mod faults;
mod labels;
mod loads;
mod panics;
mod refused;
mod reload;
mod stuck;
mod versions;
