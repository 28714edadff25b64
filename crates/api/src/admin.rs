//! The pages for operators: health, readiness, metrics, and the port of their own.

pub mod health;
pub mod pages;
pub mod server;
