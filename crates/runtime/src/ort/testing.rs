//! ONNX Runtime for tests, of this crate and of others.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::{OnnxRuntime, OnnxRuntimeOptions};
use crate::Backend;

/// ONNX Runtime on one thread, shared by all tests of a process: the library of `ORT_DYLIB_PATH`, or
/// the one that `make onnxruntime` downloads.
///
/// # Panics
///
/// Without a library.
pub fn onnx_runtime() -> Arc<dyn Backend> {
    static BACKEND: OnceLock<Arc<dyn Backend>> = OnceLock::new();
    Arc::clone(BACKEND.get_or_init(|| {
        let runtime = OnnxRuntime::open(&options(1));
        Arc::new(runtime.expect("ONNX Runtime; `make onnxruntime` fetches it"))
    }))
}

/// The options for the same library with this number of threads.
pub fn options(intra_op_threads: usize) -> OnnxRuntimeOptions {
    let fetched = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .join(".onnxruntime/lib/libonnxruntime.so");
    OnnxRuntimeOptions {
        library: std::env::var_os("ORT_DYLIB_PATH")
            .is_none()
            .then_some(fetched),
        intra_op_threads,
        inter_op_threads: 1,
        spinning: false,
        pool_only: false,
    }
}
