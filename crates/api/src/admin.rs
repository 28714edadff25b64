//! The pages for operators: health, readiness and metrics, and their own port.

pub mod health;
pub mod pages;
pub mod server;
