//! Access to inference: identifying callers, checking their permissions, and counting requests.

pub mod admit;
pub mod auth;
pub mod observe;
pub mod observed;
