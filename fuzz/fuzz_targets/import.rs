//! See `onnx_model_server::fuzzing::import`.
#![no_main]

use onnx_model_server_fuzz::{FILE, bound, fuzz_target};

fuzz_target!(init: bound(FILE), |data: &[u8]| onnx_model_server::fuzzing::import::check(data));
