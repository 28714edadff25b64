//! See `onnx_model_server::fuzzing::example`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| onnx_model_server::fuzzing::example::check(data));
