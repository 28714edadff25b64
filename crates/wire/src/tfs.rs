//! Wire formats: converts bytes to typed requests, and typed responses to bytes. Pure functions.
//!
//! Not here: sockets and status codes (`api`), the semantics of requests (`inference`).

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
