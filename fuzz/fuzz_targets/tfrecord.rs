//! See `onnx_model_server::fuzzing::tfrecord`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| onnx_model_server::fuzzing::tfrecord::check(data));
