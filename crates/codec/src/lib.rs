//! Formats below any protocol: protobuf's wire and text forms, TensorProto, tf.Example, TFRecord, its
//! checksum, JSON's lexical side.
//!
//! Pure functions over bytes: no IO, no panics on any input. Not here: documents of one protocol (`wire`),
//! files (`mapper::version_dir`).

pub mod crc32c;
pub mod example;
pub mod json;
pub mod proto_text;
pub mod proto_wire;
pub mod tensor_proto;
pub mod tfrecord;
