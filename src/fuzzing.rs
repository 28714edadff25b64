//! Properties that must hold for any bytes from outside: a function for each format takes bytes and
//! panics if a property does not hold.
//!
//! `fuzz/` runs these functions under libFuzzer, and the tests here run them on damaged seeds with
//! every `make test`; they are compiled for nothing else. `docs/fuzzing.md` says how to run them.
//!
//! Not here: expected values of single inputs, which are in the tests next to each format.

mod backend;
mod version;

pub mod checkpoint;
pub mod checkpoint_table;
pub mod config_text;
pub mod example;
pub mod import;
pub mod onnx_model;
pub mod rest_body;
pub mod rest_url;
pub mod saved_model;
pub mod signature_map;
pub mod tensor_proto;
pub mod tfrecord;

#[cfg(test)]
mod tests;
