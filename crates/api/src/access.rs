//! Access to inference: the one door in front of every API.
//!
//! It knows who is calling, whether that caller has the right to, whether there is room, and how the call is
//! counted. Not here: the APIs behind it (`tfs`, `admin`), sockets (`net`).

pub mod access_log_layer;
pub mod auth;
mod call_context;
mod layer;
mod request_metrics;

pub use self::call_context::CallContext;
pub use self::layer::{Access, CallHead, CountsAs, Right};
pub use self::request_metrics::AnsweredBy;
