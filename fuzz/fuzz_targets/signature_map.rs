//! See `onnx_model_server::fuzzing::signature_map`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| onnx_model_server::fuzzing::signature_map::check(data));
