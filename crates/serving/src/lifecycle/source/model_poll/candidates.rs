//! The content of a base path: the versions that a policy can want, and why it finds none.
//!
//! Not here: whether the files of a version have settled (`source::settling`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Look;
use crate::lifecycle::source::WatchedModel;
use crate::lifecycle::source::versions::{VersionPolicy, aspired_children, parse_version};
use base::error::Result;
use mapper::version_dir::base_path_hint;
use storage::confines;
use storage::local::Storage;

/// A base path with this file but without version directories counts as a version of its own.
const FLAT_MODEL_FILE: &str = "model.onnx";
/// The version of a model that is directly in its base path.
const FLAT_VERSION: i64 = 1;

/// The maximum number of folders to look into at each level below a base path without a version.
const MAX_FOLDERS: usize = 20;

/// The versions under a base path, as far as the look needed them.
pub(super) enum Candidates {
    /// All wanted versions, found by their plain names.
    Named(Vec<(i64, PathBuf)>),
    /// The names of all version directories, and whether there is a model outside of them.
    Listed {
        names: Vec<String>,
        is_flat: bool,
        /// The base path's contents if it has no versions, in sentences.
        hint: Option<String>,
    },
}

impl Candidates {
    pub(super) fn find(look: &Look<'_>) -> Result<Self> {
        if let Some(named) = named_versions(look)? {
            return Ok(Self::Named(named));
        }
        let mut names = look.storage.children(&look.model.base_path)?;
        let is_flat = names.iter().any(|name| name == FLAT_MODEL_FILE);
        let has_version = names.iter().any(|name| parse_version(name).is_some());
        let hint = match has_version {
            true => None,
            false => base_path_hint(&look.model.base_path, &names),
        };
        names.retain(|name| parse_version(name).is_some());
        Ok(Self::Listed {
            names,
            is_flat,
            hint,
        })
    }

    /// Why a policy finds no versions here.
    pub(super) fn remark(&self, policy: &VersionPolicy) -> Option<String> {
        let Self::Listed { names, hint, .. } = self else {
            return None;
        };
        let VersionPolicy::Specific(wanted) = policy else {
            return hint.clone();
        };
        let numbers: BTreeSet<i64> = names.iter().filter_map(|it| parse_version(it)).collect();
        if wanted.is_empty() {
            return Some("The version policy 'specific' names no version.".to_owned());
        }
        let found = match (numbers.is_empty(), hint) {
            (true, Some(hint)) => hint.clone(),
            (true, None) => "There are no others.".to_owned(),
            (false, _) => format!("There are: {}.", list(numbers.iter())),
        };
        Some(format!(
            "The version policy 'specific' names versions that are not there: {}. {found}",
            list(wanted.iter())
        ))
    }

    /// Whether a version exists, wanted or not.
    pub(super) fn has(&self, version: i64) -> bool {
        match self {
            Self::Named(named) => named.iter().any(|it| it.0 == version),
            Self::Listed { names, is_flat, .. } => {
                let mut versions = names.iter().filter_map(|name| parse_version(name));
                let is_flat = *is_flat && names.is_empty() && version == FLAT_VERSION;
                is_flat || versions.any(|it| it == version)
            }
        }
    }

    /// The versions that the model's policy wants if those in `not_there` count as absent; highest
    /// first.
    pub(super) fn wanted(
        &self,
        model: &WatchedModel,
        not_there: &BTreeSet<i64>,
    ) -> Vec<(i64, PathBuf)> {
        let (names, is_flat) = match self {
            Self::Named(named) => {
                let is_there = |it: &&(i64, PathBuf)| !not_there.contains(&it.0);
                return named.iter().filter(is_there).cloned().collect();
            }
            Self::Listed { names, is_flat, .. } => (names, *is_flat),
        };
        let is_specific = matches!(model.policy, VersionPolicy::Specific(_));
        if names.is_empty() && is_flat && !is_specific {
            let flat = (FLAT_VERSION, confines::flat(&model.base_path));
            return Some(flat)
                .filter(|_| !not_there.contains(&FLAT_VERSION))
                .into_iter()
                .collect();
        }
        let is_there = |version: i64| !not_there.contains(&version);
        let mut names = names.clone();
        // If a version is absent, `latest` takes an earlier one instead. The other policies do not.
        if matches!(model.policy, VersionPolicy::Latest(_)) {
            names.retain(|name| parse_version(name).is_some_and(is_there));
        }
        aspired_children(&model.name, &model.policy, names)
            .into_iter()
            .filter(|(version, _)| is_there(*version))
            .map(|(version, name)| (version, model.base_path.join(name)))
            .collect()
    }
}

/// The remark about a base path one folder below this one, in sentences.
pub(super) fn base_path_below(storage: &dyn Storage, base_path: &Path) -> Option<String> {
    let mut names = storage.children(base_path).ok()?;
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names.iter().take(MAX_FOLDERS).find_map(|name| {
        let below = base_path.join(name);
        let children = storage.children(&below).ok()?;
        let versions = children.iter().filter(|it| parse_version(it).is_some());
        let mut versions = versions.take(MAX_FOLDERS);
        let version = versions.find(|version| {
            let files = storage.children(&below.join(version)).unwrap_or_default();
            files.iter().any(|file| file.ends_with(".onnx"))
        })?;
        Some(format!(
            "The base path is one level too high: {name}/{version} in it holds an ONNX model. Name {} as \
             the base path.",
            below.display()
        ))
    })
}

/// The versions of a specific policy, if each has a directory named by its plain number. The base path
/// then does not have to be listed.
fn named_versions(look: &Look<'_>) -> Result<Option<Vec<(i64, PathBuf)>>> {
    let VersionPolicy::Specific(wanted) = &look.model.policy else {
        return Ok(None);
    };
    let mut wanted: Vec<i64> = wanted.clone();
    wanted.sort_unstable_by(|a, b| b.cmp(a));
    wanted.dedup();
    if wanted.is_empty() {
        return Ok(None);
    }
    let mut versions = Vec::with_capacity(wanted.len());
    for version in wanted {
        let directory = look.model.base_path.join(version.to_string());
        if !look.storage.exists(&directory)? {
            return Ok(None);
        }
        versions.push((version, directory));
    }
    Ok(Some(versions))
}

/// Version numbers for a log line, shortened.
fn list<'a>(numbers: impl Iterator<Item = &'a i64>) -> String {
    const MAX_SHOWN: usize = 20;
    let numbers: Vec<String> = numbers.map(ToString::to_string).collect();
    let shown = numbers[..numbers.len().min(MAX_SHOWN)].join(", ");
    match numbers.len() > MAX_SHOWN {
        true => format!("{shown} and {} more", numbers.len() - MAX_SHOWN),
        false => shown,
    }
}
