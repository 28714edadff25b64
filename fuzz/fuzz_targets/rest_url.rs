//! See `onnx_model_server::fuzzing::rest_url`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| onnx_model_server::fuzzing::rest_url::check(data));
