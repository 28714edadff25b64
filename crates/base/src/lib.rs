//! The vocabulary that every layer shares: errors, identifiers, tensors, inputs of requests, metric
//! primitives, the allocator.
//!
//! Nothing here imports from another layer. Not here: message formats (`proto`, `codec`), how models
//! interpret the values (`mapper`, `serving`).

pub mod allocator;
pub mod error;
pub mod id;
pub mod metrics;
pub mod panics;
pub mod request;
pub mod tensor;
pub mod vocabulary;
