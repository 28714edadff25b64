//! Reads a model's files and maps the names and types of requests onto its graph.
//!
//! `signature` maps aliases onto the tensors of a graph; `version_dir` reads a version directory and
//! decides which signatures and graphs it serves. Not here: editing graphs (`onnx`), running them
//! (`runtime`), serving them (`serving`).

pub mod signature;
pub mod version_dir;
