//! In front of inference: who is calling, whether the caller may, how a request is counted.

pub mod admit;
pub mod auth;
pub mod observe;
pub mod observed;
