//! What a model's files say, and how a request's names and types fit them.
//!
//! `signature` maps aliases onto the tensors of a graph; `version_dir` reads a version directory and plans what
//! is served of it. Not here: editing graphs (`onnx`), running them (`runtime`), serving them (`serving`).

pub mod signature;
pub mod version_dir;
