//! Wire formats: bytes to typed requests, typed responses to bytes. Pure functions.
//!
//! Not here: sockets and status numbers (`transport`), what a request means (`inference`).

pub mod json;
pub mod model_spec;
pub mod predict;
pub mod status;
pub mod tensor_proto;
