//! The server as a client sees it: over real sockets, with small models.
//!
//! One file for each RPC, endpoint or recording; `support` starts servers and makes calls.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

mod architecture;
mod backends;
mod bad_input;
mod classify_rest;
mod commands;
mod dtypes;
mod golden;
mod memory;
mod odd_versions;
mod original_example_texts;
mod original_texts;
mod predict_grpc;
mod predict_rest;
mod rest_additions;
mod rest_connections;
mod start_up;
#[cfg(feature = "otlp")]
mod traces;
mod unsafe_code;
mod zoo;
