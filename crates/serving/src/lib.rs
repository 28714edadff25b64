//! Loaded models and their use: the lifecycle of versions; answering, batching and counting requests.
//!
//! Knows no protocol: the message formats are in `wire`, sockets in `net`, handlers in `api`.

pub mod batching;
pub mod inference;
pub mod lifecycle;
pub mod monitoring;
pub mod servable;
pub mod telemetry;
