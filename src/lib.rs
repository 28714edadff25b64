//! A model server that speaks TensorFlow Serving's protocols and runs ONNX models.
//!
//! Modules in the order data flows; `ARCHITECTURE.md` is the map.

// A write to a standard output may wait for its reader: `logging` does not.
#![cfg_attr(not(test), warn(clippy::print_stderr, clippy::print_stdout))]

#[cfg(not(any(feature = "onnxruntime", feature = "tract")))]
compile_error!("something has to run the models: enable the feature `onnxruntime` or `tract`");

pub mod commands;
pub mod server;

pub mod config;

pub mod transport;

pub mod lifecycle;
pub mod onnx;
pub mod request_log;
pub mod warmup;

pub mod wire;

pub mod inference;
pub mod servable;
pub mod signature;

pub mod batching;

pub mod runtime;

pub mod tensor;

pub mod monitoring;
pub mod telemetry;

pub mod allocator;
pub mod error;
pub mod id;
pub mod logging;
mod panics;
pub mod process;
pub mod proto;
mod proto_text;
mod proto_wire;
mod tfrecord;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
