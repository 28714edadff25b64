//! Describes a version directory without loading it, for `show`.
//!
//! Not here: the command line (`commands`).

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use super::SavedModelOptions;
use super::absent::{has_saved_model, no_onnx_file, not_a_saved_model};
use super::plan::read_saved_model;
use super::prepared::Prepared;
use crate::signature::{
    AliasChange, SAVED_MODEL_FILE, SavedModel, Side, SignatureDef, Tensors, known_shape,
    tensor_name,
};
use base::error::{Code, Result, ServingError};
use base::tensor::DataType;
use proto::tensorflow::TensorInfo;
use storage::version_directory::{MAX_MESSAGE_BYTES, VersionDirectory};

/// The tag that SavedModels give to a model for serving.
const DEFAULT_TAG: &str = "serve";

/// The part of a version that [`show`] prints. The layouts are those of `saved_model_cli show`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The names of the tag sets.
    TagSets,
    /// The names of the signatures.
    SignatureNames,
    /// One signature.
    Signature(String),
    /// Every signature.
    All,
}

/// Describes the version in `directory`: its signatures, and for each alias the graph's tensor and the rule
/// that matched it.
///
/// # Errors
///
/// The errors of a load, except those that only a backend reports; `NOT_FOUND` for a signature or a tag set
/// that the model does not have.
pub fn show(directory: &Path, saved_model_tags: &[String], shown: &Shown) -> Result<String> {
    if *shown == Shown::TagSets {
        return tag_sets(directory, saved_model_tags);
    }
    check_tag_set(directory, saved_model_tags)?;
    let options = SavedModelOptions {
        tags: saved_model_tags.to_vec(),
        partial: true,
    };
    let prepared = Prepared::read(directory, &options, &BTreeSet::new());
    let unserved = match &prepared {
        Err(error) if error.code() == Code::Unimplemented => {
            let version = VersionDirectory::open(directory)?;
            Some(read_saved_model(&version, saved_model_tags)?)
        }
        _ => None,
    };
    let (signatures, tags) = match (&unserved, &prepared) {
        (Some(saved), _) => (of_file(saved), Some(&saved.tags)),
        (None, Ok(prepared)) => (described(prepared), prepared.tags.as_ref()),
        (None, Err(_)) => return prepared.map(|_| String::new()),
    };
    let mut text = String::new();
    match shown {
        Shown::TagSets | Shown::SignatureNames => {
            text.push_str(
                "The given SavedModel MetaGraphDef contains SignatureDefs with the following \
                 keys:\n",
            );
            for name in signatures.keys() {
                let _ = writeln!(text, "SignatureDef key: \"{name}\"");
            }
        }
        Shown::Signature(name) => {
            let signature = signatures.get(name.as_str()).ok_or_else(|| {
                ServingError::not_found(format!("the model has no signature '{name}'"))
            })?;
            signature.write(&mut text, "");
        }
        Shown::All => {
            let tag_set = tags.map_or(saved_model_tags, Vec::as_slice).join(", ");
            let _ = writeln!(
                text,
                "\nMetaGraphDef with tag-set: '{tag_set}' contains the following SignatureDefs:"
            );
            for (name, signature) in &signatures {
                let _ = writeln!(text, "\nsignature_def['{name}']:");
                signature.write(&mut text, "  ");
            }
        }
    }
    Ok(text)
}

/// The tag sets of `saved_model.pb`; without that file, the requested one.
fn tag_sets(directory: &Path, saved_model_tags: &[String]) -> Result<String> {
    let directory = VersionDirectory::open(directory)?;
    let found = match sorted_tag_sets(&directory)? {
        Some(found) => found,
        None if directory.onnx_files()?.is_empty() => return Err(no_onnx_file(&directory)),
        None => vec![sorted(saved_model_tags.to_vec())],
    };
    let mut text = String::from("The given SavedModel contains the following tag-sets:\n");
    for tags in found {
        let _ = writeln!(text, "'{}'", tags.join(", "));
    }
    Ok(text)
}

/// The tag sets of `saved_model.pb`, sorted; `None` without that file.
fn sorted_tag_sets(directory: &VersionDirectory) -> Result<Option<Vec<Vec<String>>>> {
    if !directory.has(SAVED_MODEL_FILE) {
        return Ok(None);
    }
    let origin = directory.path().join(SAVED_MODEL_FILE);
    let contents = directory.read(SAVED_MODEL_FILE, MAX_MESSAGE_BYTES)?;
    let mut found = SavedModel::tag_sets(&origin.display().to_string(), contents.clone())
        .map_err(|error| not_a_saved_model(&origin, &contents, error))?;
    found.sort();
    Ok(Some(found.into_iter().map(sorted).collect()))
}

fn sorted(mut tags: Vec<String>) -> Vec<String> {
    tags.sort();
    tags
}

/// Checks that the version in `directory` has this tag set.
///
/// # Errors
///
/// `NOT_FOUND`, naming the tag sets that it has; other errors if `saved_model.pb` cannot be read.
pub fn check_tag_set(directory: &Path, tags: &[String]) -> Result<()> {
    check_tags(directory, tags)?;
    check_default_tags(directory, tags)
}

/// Checks that `saved_model.pb`, if there is one, has this tag set. The error of a load has TensorFlow's
/// text, which refers users to another program; this one names the tag sets.
///
/// # Errors
///
/// `NOT_FOUND` with the tag sets that it has, or for a directory without an ONNX model.
fn check_tags(directory: &Path, tags: &[String]) -> Result<()> {
    let directory = VersionDirectory::open(directory)?;
    if directory.onnx_files()?.is_empty() && !has_saved_model(&directory) {
        return Err(no_onnx_file(&directory));
    }
    let Some(found) = sorted_tag_sets(&directory)? else {
        return Ok(());
    };
    let mut wanted = sorted(tags.to_vec());
    wanted.dedup();
    if found.contains(&wanted) {
        return Ok(());
    }
    let found: Vec<String> = found
        .iter()
        .map(|it| format!("'{}'", it.join(",")))
        .collect();
    Err(ServingError::not_found(format!(
        "{} has no tag set '{}'. It has {}",
        directory.path().join(SAVED_MODEL_FILE).display(),
        wanted.join(","),
        match found.is_empty() {
            true => "none".to_owned(),
            false => found.join(" and "),
        }
    )))
}

/// Without a `saved_model.pb`, checks that only the default tag set is requested: no other file names tag
/// sets.
///
/// # Errors
///
/// `NOT_FOUND` for another tag set.
fn check_default_tags(directory: &Path, tags: &[String]) -> Result<()> {
    let directory = VersionDirectory::open(directory)?;
    if directory.has(SAVED_MODEL_FILE) || tags.iter().all(|tag| tag == DEFAULT_TAG) {
        return Ok(());
    }
    Err(ServingError::not_found(format!(
        "{} has no tag set '{}': it has no {SAVED_MODEL_FILE}, which names tag sets. Leave --tag_set out: \
         the signatures are those of the ONNX model",
        directory.path().display(),
        tags.join(",")
    )))
}

/// A signature to be printed.
struct Description<'a> {
    definition: &'a SignatureDef,
    /// `None` for signatures that clients see but cannot call.
    tensors: Option<(&'a Tensors, &'a Tensors)>,
    changes: &'a [AliasChange],
}

/// The signatures of a SavedModel that is not served.
fn of_file(saved: &SavedModel) -> BTreeMap<&str, Description<'_>> {
    let all = saved.signatures.iter().chain(&saved.metadata_only);
    let described = all.map(|(name, definition)| {
        let description = Description {
            definition,
            tensors: None,
            changes: &[],
        };
        (name.as_str(), description)
    });
    described.collect()
}

fn described(prepared: &Prepared) -> BTreeMap<&str, Description<'_>> {
    let mut signatures = BTreeMap::new();
    for (name, definition) in &prepared.metadata_only {
        let tensors = None;
        signatures.insert(
            name.as_str(),
            Description {
                definition,
                tensors,
                changes: &[],
            },
        );
    }
    for bound in &prepared.signatures {
        let description = Description {
            definition: bound.definition(),
            tensors: Some((&bound.inputs, &bound.outputs)),
            changes: bound.changes(),
        };
        signatures.insert(bound.name(), description);
    }
    signatures
}

impl Description<'_> {
    fn write(&self, text: &mut String, indent: &str) {
        let sides = [
            (
                Side::Input,
                &self.definition.inputs,
                self.tensors.map(|it| it.0),
            ),
            (
                Side::Output,
                &self.definition.outputs,
                self.tensors.map(|it| it.1),
            ),
        ];
        for (side, infos, tensors) in sides {
            let _ = writeln!(
                text,
                "{indent}The given SavedModel SignatureDef contains the following {side}(s):"
            );
            for (alias, info) in infos {
                let _ = writeln!(text, "{indent}  {side}s['{alias}'] tensor_info:");
                write_tensor_info(text, indent, info);
                if let Some((tensor, rule)) = tensors.and_then(|it| it.get(alias)) {
                    let origin = self.origin_text(side, alias);
                    let _ = writeln!(text, "{indent}      graph: {tensor} ({rule}{origin})");
                }
            }
            for removed in self.changes.iter().filter(|it| it.side == side) {
                if removed.new.is_none() {
                    let _ = writeln!(text, "{indent}  {removed} (signature map)");
                }
            }
        }
        let method = &self.definition.method_name;
        let _ = writeln!(text, "{indent}Method name is: {method}");
    }

    /// The aliases that an alias replaces or is served next to.
    fn origin_text(&self, side: Side, alias: &str) -> String {
        let changes = self.changes.iter();
        let changes = changes.filter(|it| it.side == side && it.new.as_deref() == Some(alias));
        let origins = changes.map(|it| match it.kept {
            true => format!(", in addition to '{}'", it.old),
            false => format!(", in place of '{}'", it.old),
        });
        origins.collect()
    }
}

fn write_tensor_info(text: &mut String, indent: &str, info: &TensorInfo) {
    let dtype = DataType::from_number(info.dtype).map_or("DT_INVALID", DataType::proto_name);
    let shape = match known_shape(info) {
        None => "unknown_rank".to_owned(),
        Some(dims) => {
            let dims: Vec<String> = dims.iter().map(ToString::to_string).collect();
            format!("({})", dims.join(", "))
        }
    };
    let _ = writeln!(text, "{indent}      dtype: {dtype}");
    let _ = writeln!(text, "{indent}      shape: {shape}");
    let _ = writeln!(text, "{indent}      name: {}", tensor_name(info));
}
