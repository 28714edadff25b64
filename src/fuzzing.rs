//! What must hold for any bytes that come from outside: a function for each format, that takes
//! bytes and panics where a promise is broken.
//!
//! `fuzz/` runs these functions under libFuzzer, the tests here run them on damaged seeds with every
//! `make test`; they are compiled for nothing else. `docs/fuzzing.md` says how to run them.
//!
//! Not here: expected values of single inputs, which stand in the tests beside each format.

mod backend;
mod version;

pub mod config_text;
pub mod example;
pub mod onnx_model;
pub mod rest_body;
pub mod rest_url;
pub mod saved_model;
pub mod signature_map;
pub mod tensor_proto;
pub mod tfrecord;

#[cfg(test)]
mod tests;
