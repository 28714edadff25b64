//! The table in which requests find servables: versions and labels, swapped as a whole.
//!
//! Reading takes no lock. Not here: adding and removing servables (`serving::lifecycle::manager`),
//! assigning labels (`serving::lifecycle::labels`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::servable::ServableHandle;
use base::error::{Result, ServingError};
use base::id::{ModelSpec, ServableRequest, VersionChoice};

/// The version of each label, by model and label.
pub(crate) type Labels = BTreeMap<String, BTreeMap<String, i64>>;

/// Servables by model and version, and labels.
#[derive(Default)]
pub(crate) struct LookupTable {
    table: ArcSwap<Table>,
}

#[derive(Clone, Default)]
struct Table {
    /// Invariant: every model has a version.
    versions: HashMap<Arc<str>, BTreeMap<i64, ServableHandle>>,
    labels: Arc<Labels>,
}

impl LookupTable {
    /// The servable that answers for `spec`.
    ///
    /// # Errors
    ///
    /// As [`ServableLookup::servable_handle`](crate::servable::ServableLookup::servable_handle).
    pub(crate) fn find(&self, spec: &ModelSpec) -> Result<ServableHandle> {
        if spec.name.is_empty() {
            return Err(ServingError::invalid_argument(
                "ModelSpec has no name specified.",
            ));
        }
        let table = self.table.load();
        let versions = table.versions.get(spec.name.as_str());
        let specific = |version| {
            let handle = versions.and_then(|it| it.get(&version));
            handle.cloned().ok_or_else(|| {
                ServingError::ServableNotFound(ServableRequest::Specific(
                    spec.name.clone(),
                    version,
                ))
            })
        };
        match &spec.version {
            Some(VersionChoice::Version(version)) => specific(*version),
            Some(VersionChoice::Label(label)) => specific(table.version_of(&spec.name, label)?),
            None => {
                let latest = versions.and_then(BTreeMap::last_key_value);
                latest.map(|(_, handle)| handle.clone()).ok_or_else(|| {
                    ServingError::ServableNotFound(ServableRequest::Latest(spec.name.clone()))
                })
            }
        }
    }

    /// Makes this servable visible to requests.
    pub(crate) fn insert(&self, handle: ServableHandle) {
        self.table.rcu(|table| {
            let mut table = Table::clone(table);
            let versions = table.versions.entry(Arc::clone(&handle.id.name));
            versions
                .or_default()
                .insert(handle.id.version, handle.clone());
            table
        });
    }

    /// Hides this version from new requests.
    pub(crate) fn remove(&self, model: &str, version: i64) {
        self.table.rcu(|table| {
            let mut table = Table::clone(table);
            if let Some(versions) = table.versions.get_mut(model) {
                versions.remove(&version);
                if versions.is_empty() {
                    table.versions.remove(model);
                }
            }
            table
        });
    }

    /// The current labels.
    pub(crate) fn labels(&self) -> Arc<Labels> {
        Arc::clone(&self.table.load().labels)
    }

    /// Replaces all labels.
    pub(crate) fn set_labels(&self, labels: Labels) {
        let labels = Arc::new(labels);
        self.table.rcu(|table| Table {
            labels: Arc::clone(&labels),
            ..Table::clone(table)
        });
    }
}

impl Table {
    fn version_of(&self, model: &str, label: &str) -> Result<i64> {
        let version = self.labels.get(model).and_then(|it| it.get(label));
        version.copied().ok_or_else(|| {
            ServingError::invalid_argument(format!("Unrecognized servable version label: {label}"))
        })
    }
}

#[cfg(test)]
mod tests;
