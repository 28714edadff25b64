//! TensorFlow Serving's protocol: gRPC services and REST endpoints.

pub mod grpc;
pub mod rest;
