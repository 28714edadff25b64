//! A model server that speaks TensorFlow Serving's protocols and runs ONNX models.
//!
//! Modules in the order data flows; `ARCHITECTURE.md` is the map.

// A write to a standard output can block on its reader; `logging` does not.
#![cfg_attr(not(test), warn(clippy::print_stderr, clippy::print_stdout))]

#[cfg(not(any(feature = "onnxruntime", feature = "tract")))]
compile_error!("something has to run the models: enable the feature `onnxruntime` or `tract`");

pub mod commands;
pub mod server;

pub mod config;

pub mod request_log;
pub mod warmup;

pub mod logging;
pub mod process;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
