//! Loads whole model directories on ONNX Runtime and compares with the recorded answers of TensorFlow
//! Serving.
//!
//! `tests/data/zoo` is part of the repository. Further collections of the same layout are optional, and are
//! searched for next to it (`../shared`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use prost::Message;
use serde_json::Value;

use crate::lifecycle::{self, CheckReport, Loader, ServableLoader};
use crate::servable::{ExpansionBudget, Servable};
use base::error::{Code, Result};
use base::id::ServableId;
use base::tensor::{DataType, Tensor};
use mapper::signature::{RequestInputs, RequestTensor, SignatureDef};
use mapper::version_dir::{OnnxLoader, SavedModelOptions};
use proto::tensorflow::SavedModel;
use runtime::Backend;
use runtime::ort::testing::onnx_runtime;

mod absent_models;
mod batches;
mod checks;
mod comparisons;
mod contradictions;
mod files;
mod foreign_files;
mod functions;
mod left_out;
mod maps;
mod net;
mod old_opsets;
mod optional;
mod raw_parse;
mod refused_models;
mod renaming;
mod renaming_again;
mod renaming_claims;
mod renaming_details;
mod renaming_words;
mod rewrites;
mod sequences;
mod session;
mod unwritten;
mod valid_models;
mod zoo;

fn backend() -> Arc<dyn Backend> {
    onnx_runtime()
}

fn project() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).to_owned()
}

fn loader(backend: Arc<dyn Backend>) -> ServableLoader {
    ServableLoader::new(OnnxLoader::new(backend), Arc::default())
}

fn load(directory: &Path) -> Result<Servable> {
    let id = ServableId::new("model", 1);
    loader(backend()).load(&id, directory)
}

/// The report of the command `check`, without a warmup.
fn check(backend: Arc<dyn Backend>, directory: &Path, tags: &[String]) -> CheckReport {
    let versions = OnnxLoader::new(backend).with_saved_model_options(SavedModelOptions {
        tags: tags.to_vec(),
        partial: false,
    });
    let loader = ServableLoader::new(versions, Arc::default());
    lifecycle::check(&loader, directory, tags, &|_| Vec::new())
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
