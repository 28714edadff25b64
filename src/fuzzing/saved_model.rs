//! `saved_model.pb`, read by itself and next to a graph.

use bytes::Bytes;

use super::version;
use mapper::signature::{SavedModel, definition_text};

const GRAPH: &[u8] = include_bytes!("../../tests/data/zoo/keyed/1/model.onnx");

/// Reads the file, and loads a version with it.
pub fn check(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let tags = ["serve".to_owned()];
    let tag_sets = SavedModel::tag_sets("fuzzed", bytes.clone());
    if let Ok(saved) = SavedModel::parse("fuzzed", bytes, &tags) {
        // Meta graphs after the requested one are not read.
        if let Ok(tag_sets) = tag_sets {
            assert!(tag_sets.contains(&saved.tags), "{tag_sets:?}");
        }
        for definition in saved.signatures.values() {
            let _ = definition_text(definition);
        }
    }
    version::load(&[("model.onnx", GRAPH)], ("saved_model.pb", data));
}
