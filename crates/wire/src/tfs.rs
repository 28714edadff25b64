//! Wire formats: bytes to typed requests, typed responses to bytes. Pure functions.
//!
//! Not here: sockets and status numbers (`transport`), what a request means (`inference`).

pub mod classification;
pub mod decoded_bytes;
pub mod examples;
pub mod json;
pub mod metadata;
pub mod model_spec;
pub mod multi_inference;
pub mod predict;
pub mod prediction_log;
pub mod regression;
pub mod status;
mod well_formed;
