//! Generated protobuf messages and service traits; included here and nowhere else.

#![allow(missing_docs, unreachable_pub, clippy::all, rustdoc::all)]

include!(concat!(env!("OUT_DIR"), "/messages.rs"));

/// ONNX's own messages.
pub mod onnx {
    include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
}

/// Descriptors of everything that is served or read as a message.
pub const SERVED_DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/served.bin"));

/// Descriptors of text files that are read without generated messages.
pub const DESCRIBED_DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/described.bin"));

/// Descriptors of ONNX's own messages.
pub const ONNX_DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/onnx.bin"));
