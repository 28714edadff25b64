//! Access to inference: the one door in front of every API.
//!
//! It identifies callers, checks their rights, keeps to the limits, and counts calls. Not here: the APIs
//! behind it (`tfs`, `admin`), sockets (`net`).

pub mod access_log_layer;
pub mod auth;
mod call_context;
mod layer;
mod request_metrics;

pub use self::call_context::CallContext;
pub use self::layer::{Access, CallHead, CountsAs, Right};
pub use self::request_metrics::AnsweredBy;
