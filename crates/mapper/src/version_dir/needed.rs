//! The operators of TensorFlow that an unconverted version needs, found without reading its variables.
//!
//! Not here: the text of the error of a load (`saved_model_import`).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use super::imported::meta_graph;
use super::plan::read_saved_model;
use super::show::check_tag_set;
use crate::signature::SAVED_MODEL_FILE;
use base::error::Result;
use saved_model_import::operators;
use storage::version_directory::VersionDirectory;

/// The operators that each signature of a SavedModel needs.
pub struct Needed {
    /// By signature and operator: the name of one node, and whether the operator is supported.
    signatures: BTreeMap<String, BTreeMap<String, (String, bool)>>,
}

/// Finds the operators that the signatures of the SavedModel in `directory` need; `None` if the directory has
/// ONNX files, which are served instead.
///
/// # Errors
///
/// `NOT_FOUND` without a SavedModel or without a meta graph of these tags; `INVALID_ARGUMENT` for a damaged file.
pub fn needed_operators(directory: &Path, tags: &[String]) -> Result<Option<Needed>> {
    check_tag_set(directory, tags)?;
    let directory = VersionDirectory::open(directory)?;
    if !directory.onnx_files()?.is_empty() {
        return Ok(None);
    }
    let saved = read_saved_model(&directory, tags)?;
    let origin = directory.path().join(SAVED_MODEL_FILE);
    let meta_graph = meta_graph(&origin.display().to_string(), &saved)?;
    let signatures = operators(&meta_graph);
    Ok(Some(Needed { signatures }))
}

impl Needed {
    /// Whether all operators are supported.
    pub fn is_complete(&self) -> bool {
        self.missing().next().is_none()
    }

    /// The signatures and operators, one in a line.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, operators) in &self.signatures {
            let _ = writeln!(text, "signature_def['{name}']:");
            for (operator, (node, is_supported)) in operators {
                let _ = match is_supported {
                    true => writeln!(text, "  {operator}"),
                    false => writeln!(text, "  {operator}  MISSING (node {node})"),
                };
            }
        }
        text
    }

    /// The missing operators of all signatures, each once, in one line.
    pub fn missing_text(&self) -> String {
        let by_name: BTreeMap<&str, &str> = self.missing().collect();
        let named = by_name.iter();
        let named = named.map(|(operator, node)| format!("{operator} (node {node})"));
        named.collect::<Vec<_>>().join(", ")
    }

    fn missing(&self) -> impl Iterator<Item = (&str, &str)> {
        let rows = self.signatures.values().flatten();
        let missing = rows.filter(|(_, (_, is_supported))| !is_supported);
        missing.map(|(operator, (node, _))| (operator.as_str(), node.as_str()))
    }
}
