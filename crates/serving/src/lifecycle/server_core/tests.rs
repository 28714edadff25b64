//! The lifecycle with a fake loader and real directories.
//!
//! Names in comments are rows of TensorFlow Serving's own tests; polling is short here, and every
//! wait has an upper bound.

mod support;

mod again;
mod faults;
mod labels;
mod loads;
mod panics;
mod reload;
mod stuck;
mod versions;
