//! See `onnx_model_server::fuzzing::tensor_proto`.
#![no_main]

use onnx_model_server_fuzz::{REQUEST, bound, fuzz_target};

fuzz_target!(init: bound(REQUEST), |data: &[u8]| onnx_model_server::fuzzing::tensor_proto::check(data));
