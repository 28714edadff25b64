//! See `onnx_model_server::fuzzing::checkpoint`.
#![no_main]

use onnx_model_server_fuzz::{FILE, bound, fuzz_target};

fuzz_target!(init: bound(FILE), |data: &[u8]| onnx_model_server::fuzzing::checkpoint::check(data));
