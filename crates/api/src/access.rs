//! Access to inference: identifying callers, checking their permissions, and counting requests.

pub mod access_log_layer;
pub mod admit;
pub mod auth;
pub mod request_metrics;
