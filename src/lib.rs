//! A model server that speaks TensorFlow Serving's protocols and runs ONNX models.
//!
//! Modules in the order data flows; `ARCHITECTURE.md` is the map.

pub mod error;
pub mod id;
pub mod proto;
pub mod tensor;
pub mod wire;
