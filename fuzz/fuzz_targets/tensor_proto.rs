//! See `onnx_model_server::fuzzing::tensor_proto`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| onnx_model_server::fuzzing::tensor_proto::check(data));
