//! A meta graph that is imported, with a checkpoint next to it.

use bytes::Bytes;

use base::error::{Code, Result};
use mapper::signature::SavedModel;
use onnx::OnnxModel;
use saved_model_import::{Files, decode, import};

/// The variables of a model that is one of the seeds.
const INDEX: &[u8] = include_bytes!("../../models/xor/1/variables/variables.index");
const SHARD: &[u8] = include_bytes!("../../models/xor/1/variables/variables.data-00000-of-00001");

struct Checkpoint;

impl Files for Checkpoint {
    fn read(&self, path: &str) -> Result<Option<Bytes>> {
        Ok(match path {
            "variables/variables.index" => Some(Bytes::from_static(INDEX)),
            "variables/variables.data-00000-of-00001" => Some(Bytes::from_static(SHARD)),
            _ => None,
        })
    }
}

/// Imports the meta graph of a `saved_model.pb`. Each model of the result can be read again.
pub fn check(data: &[u8]) {
    let tags = ["serve".to_owned()];
    let Ok(saved) = SavedModel::parse("fuzzed", Bytes::copy_from_slice(data), &tags) else {
        return;
    };
    let imported = decode("fuzzed", saved.meta_graph)
        .and_then(|meta_graph| import("fuzzed", &meta_graph, &Checkpoint));
    match imported {
        Ok(imported) => {
            for signature in imported.signatures.values() {
                let model = OnnxModel::parse("imported", &signature.model.encode());
                assert!(model.is_ok(), "{:?}", model.err());
            }
        }
        Err(error) => assert_ne!(error.code(), Code::Internal, "{error}"),
    }
}
