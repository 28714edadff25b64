//! Loaded models and what requests do with them: versions come and go, requests are answered, batched, counted.
//!
//! Knows no protocol: the message formats are in `wire`, sockets in `net`, handlers in `api`.

pub mod batching;
pub mod inference;
pub mod lifecycle;
pub mod monitoring;
pub mod servable;
pub mod telemetry;
