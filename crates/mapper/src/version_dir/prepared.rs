//! Reads a version directory completely, and binds its signatures to the edited graphs.
//!
//! Not here: which signatures there are (`plan`), binding (`bind`), loading onto a backend (`version_dir`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;

use super::bind::{BoundSignature, GraphFile, bind};
use super::plan::{self, Plan, PlannedSignature};
use super::{SavedModelOptions, absent};
use crate::signature::SignatureDef;
use base::error::Result;
use onnx::{ClassLabels, Edit};
use proto::onnx_model_server::Labels;
use runtime::Backend;
use storage::version_directory::VersionDirectory;

/// The largest file of labels that is read.
const MAX_LABELS_BYTES: u64 = 64 << 20;

/// A version directory, read and checked, but not yet loaded onto a backend.
pub(super) struct Prepared {
    /// Sorted by name.
    pub(super) signatures: Vec<BoundSignature>,
    /// The tags of the meta graph; `None` without a `saved_model.pb`.
    pub(super) tags: Option<Vec<String>>,
    pub(super) metadata_only: BTreeMap<String, SignatureDef>,
    /// Whether the models were made from the SavedModel.
    pub(super) is_imported: bool,
    /// The edits made to the files' graphs.
    edits: BTreeSet<Edit>,
}

impl Prepared {
    /// Reads a version directory. The edits in `without` are not made.
    pub(super) fn read(
        path: &Path,
        options: &SavedModelOptions,
        without: &BTreeSet<Edit>,
    ) -> Result<Self> {
        let directory = VersionDirectory::open(path)?;
        let mut plan = Plan::read(&directory, options)?;
        let mut class_labels: BTreeMap<String, Vec<ClassLabels>> = BTreeMap::new();
        let mut edits = BTreeSet::new();
        for (file, model) in &mut plan.models {
            model.read_external_data(&mut |name| {
                let data = directory.read_external_data(name)?;
                absent::check_weights(&directory.path().join(name), &data)?;
                Ok(data)
            })?;
            model.open_optional_inputs(&plan::named_inputs(&plan.signatures, file));
            model.rewrite_operators(without)?;
            edits.extend(model.edits());
            class_labels.insert(file.clone(), model.drop_zip_maps());
            model.take_sequences_apart();
        }
        let read_labels = |labels: &Labels| read_labels(&directory, labels);
        let bound = plan.signatures.iter().map(|planned| {
            let file = GraphFile {
                name: &planned.file,
                model: &plan.models[&planned.file],
                class_labels: &class_labels[&planned.file],
                parse_nodes: &plan.parse_nodes,
                read_labels: &read_labels,
            };
            (planned, bind(planned, &file))
        });
        let mut metadata_only = plan.metadata_only;
        let signatures = match options.partial && plan.is_imported {
            true => some_bound(bound, &mut metadata_only)?,
            false => bound.map(|(_, it)| it).collect::<Result<_>>()?,
        };
        Ok(Self {
            signatures,
            tags: plan.tags,
            metadata_only,
            is_imported: plan.is_imported,
            edits,
        })
    }

    /// The edits that were made and that this backend can do without.
    pub(super) fn edits(&self, backend: &dyn Backend) -> BTreeSet<Edit> {
        let mut edits = self.edits.clone();
        for bound in &self.signatures {
            edits.extend(bound.model.edits());
        }
        edits.retain(|it| !(it.protects() && backend.may_end_the_process()));
        edits
    }
}

/// The signatures that could be bound, if there is one. The others are added to `metadata_only`.
fn some_bound<'a>(
    bound: impl Iterator<Item = (&'a PlannedSignature, Result<BoundSignature>)>,
    metadata_only: &mut BTreeMap<String, SignatureDef>,
) -> Result<Vec<BoundSignature>> {
    let mut signatures = Vec::new();
    let mut last = None;
    for (planned, bound) in bound {
        match bound {
            Ok(bound) => signatures.push(bound),
            Err(error) => {
                tracing::warn!("not served: {error}");
                let definition = planned.original.clone();
                metadata_only.extend(definition.map(|it| (planned.name.clone(), it)));
                last = Some(error);
            }
        }
    }
    match last.filter(|_| signatures.is_empty()) {
        Some(error) => Err(error),
        None => Ok(signatures),
    }
}

/// Reads labels, inline or from a file with one label a line.
fn read_labels(directory: &VersionDirectory, labels: &Labels) -> Result<Vec<Bytes>> {
    if labels.file.is_empty() {
        let labels = labels.label.iter().cloned();
        return Ok(labels.map(Bytes::from).collect());
    }
    let text = directory.read(&labels.file, MAX_LABELS_BYTES)?;
    let text = text
        .strip_suffix(b"\n")
        .map_or(text.clone(), |it| text.slice_ref(it));
    let lines = text.split(|&byte| byte == b'\n');
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    Ok(lines.map(|line| text.slice_ref(line)).collect())
}
