//! See `onnx_model_server::fuzzing::saved_model`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| onnx_model_server::fuzzing::saved_model::check(data));
