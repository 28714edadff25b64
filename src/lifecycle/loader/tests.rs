//! Loads whole model directories on ONNX Runtime and compares with what the original answered.
//!
//! `tests/data/zoo` is part of the repository; further collections of the same layout are looked
//! for beside it (`../shared`), and are not needed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use prost::Message;
use serde_json::Value;

use super::OnnxLoader;
use crate::error::{Code, Result};
use crate::id::ServableId;
use crate::lifecycle::Loader;
use crate::lifecycle::loader::{self, CheckReport};
use crate::proto::tensorflow::SavedModel;
use crate::runtime::Backend;
use crate::runtime::ort::{OnnxRuntime, OnnxRuntimeOptions};
use crate::servable::{ExpansionBudget, Servable};
use crate::signature::{RequestInputs, RequestTensor, SignatureDef};
use crate::tensor::{DataType, Tensor};

mod batches;
mod comparisons;
mod contradictions;
mod files;
mod inspect;
mod left_out;
mod maps;
mod net;
mod old_opsets;
mod optional;
mod raw_parse;
mod renaming;
mod renaming_again;
mod renaming_claims;
mod rewrites;
mod sequences;
mod session;
mod unwritten;
mod valid_models;
mod words;
mod zoo;

/// ONNX Runtime, once for all tests: the library of `ORT_DYLIB_PATH`, or the one that
/// `make onnxruntime` fetches.
fn backend() -> Arc<dyn Backend> {
    static BACKEND: OnceLock<Arc<dyn Backend>> = OnceLock::new();
    Arc::clone(BACKEND.get_or_init(|| {
        let fetched = project().join(".onnxruntime/lib/libonnxruntime.so");
        let options = OnnxRuntimeOptions {
            library: std::env::var_os("ORT_DYLIB_PATH")
                .is_none()
                .then_some(fetched),
            intra_op_threads: 1,
            inter_op_threads: 1,
            spinning: false,
        };
        let runtime = OnnxRuntime::open(&options);
        Arc::new(runtime.expect("ONNX Runtime; `make onnxruntime` fetches it"))
    }))
}

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn load(directory: &Path) -> Result<Servable> {
    let id = ServableId::new("model", 1);
    OnnxLoader::new(backend()).load(&id, directory)
}

/// What the command `check` says, without a warmup.
fn check(backend: Arc<dyn Backend>, directory: &Path, tags: &[String]) -> CheckReport {
    let loader = OnnxLoader::new(backend).with_saved_model_tags(tags.to_vec());
    loader::check(&loader, directory, tags, &|_| Vec::new())
}

fn run(
    servable: &Servable,
    signature: &str,
    inputs: RequestInputs,
) -> Result<Vec<(String, Tensor)>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let budget = ExpansionBudget::unbounded();
    runtime
        .unwrap()
        .block_on(servable.run(signature, inputs, &[], None, &budget))
        .map(|(outputs, _)| outputs)
}

fn json(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

fn decode(text: &Value) -> Bytes {
    STANDARD.decode(text.as_str().unwrap()).unwrap().into()
}
