//! One look at one model's base path: which versions are there, have settled, and are wanted.
//!
//! A version whose files have not settled, or that waits for files which the serving version has,
//! counts as not there yet. A version that was handed over once stays there while its files change,
//! with the files it had settled with.
//!
//! Not here: when to look, and on which thread (`source::queue`, `source::poll_threads`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::companions::missing;
use super::settling::{Companions, Settling, Version};
use super::storage::Storage;
use super::versions::{VersionPolicy, aspired_children, parse_version};
use super::{AspiredVersion, WatchedModel};
use crate::error::Result;

/// The file that makes a base path without version directories a version of its own.
const FLAT_MODEL_FILE: &str = "model.onnx";
/// The version of a model that lies right in its base path.
const FLAT_VERSION: i64 = 1;

/// What is known of a model from the looks before.
#[derive(Default)]
pub(super) struct ModelPoll {
    /// Those of the last look, and those that still serve.
    versions: BTreeMap<i64, Version>,
    looks: u64,
    aspired: Vec<AspiredVersion>,
}

/// What a look works with.
pub(super) struct Look<'a> {
    pub(super) model: &'a WatchedModel,
    pub(super) storage: &'a dyn Storage,
    /// Whether a version is available to clients.
    pub(super) serves: &'a dyn Fn(&str, i64) -> bool,
    /// How far looks that count as two have to be apart.
    pub(super) gap: Duration,
    /// How long a version waits for files that the serving version has.
    pub(super) companion_wait: Duration,
}

/// What a look found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A version was seen for the first time. Nothing is said before the second look.
    New,
    /// These versions are aspired.
    Aspired {
        versions: Vec<AspiredVersion>,
        rest: Rest,
    },
}

/// What is to be expected after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing.
    Settled,
    /// Another fingerprint: files of a known version are changing.
    Changing,
    /// Another version, once its files have settled.
    Version,
}

/// Where a version stands for this look.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Is(Settling),
    /// It has settled and waits for files, which may be coming.
    Waits,
}

impl Standing {
    fn counts_as_there(self) -> bool {
        !matches!(self, Self::Waits | Self::Is(Settling::Changing))
    }
}

/// The versions under a base path, as far as they were looked for.
enum Candidates {
    /// All that are wanted, by their plain names.
    Named(Vec<(i64, PathBuf)>),
    /// The names of all version directories, and whether there is a model outside of them.
    Listed { names: Vec<String>, is_flat: bool },
}

impl ModelPoll {
    /// Looks once.
    pub(super) fn look(&mut self, look: &Look<'_>) -> Result<Found> {
        let candidates = Candidates::find(look)?;
        self.looks += 1;
        let mut standings = BTreeMap::new();
        let mut not_there = BTreeSet::new();
        let wanted = loop {
            let wanted = candidates.wanted(look.model, &not_there);
            for (version, directory) in &wanted {
                standings
                    .entry(*version)
                    .or_insert_with(|| self.look_at(look, *version, directory));
            }
            let is_held = |version: &i64| !standings[version].counts_as_there();
            let held: Vec<i64> = wanted.iter().map(|it| it.0).filter(is_held).collect();
            if held.is_empty() {
                break wanted;
            }
            not_there.extend(held);
        };
        self.versions.retain(|version, _| {
            standings.contains_key(version) || (look.serves)(&look.model.name, *version)
        });

        if standings
            .values()
            .any(|it| *it == Standing::Is(Settling::New))
        {
            return Ok(Found::New);
        }
        let is_changing = |it: &Standing| *it == Standing::Is(Settling::SettledBefore);
        let rest = match () {
            () if !not_there.is_empty() => Rest::Version,
            () if standings.values().any(is_changing) => Rest::Changing,
            () => Rest::Settled,
        };
        // The last version stays until the next one has settled.
        if !wanted.is_empty() || not_there.is_empty() {
            self.aspired = wanted
                .into_iter()
                .filter_map(|(version, directory)| {
                    let fingerprint = self.versions.get(&version)?.fingerprint();
                    Some(AspiredVersion {
                        version,
                        directory,
                        fingerprint,
                    })
                })
                .collect();
        }
        if self.aspired.is_empty() && not_there.is_empty() {
            warn!(
                "No versions of servable {} found under base path {}. Did you forget to name your \
                 leaf directory as a number (eg. '/1/')?",
                look.model.name,
                look.model.base_path.display()
            );
        }
        Ok(Found::Aspired {
            versions: self.aspired.clone(),
            rest,
        })
    }

    fn look_at(&mut self, look: &Look<'_>, number: i64, directory: &Path) -> Standing {
        let files = look.storage.files(directory).ok();
        let name = &look.model.name;
        let version = self
            .versions
            .entry(number)
            .or_insert_with(|| Version::new(directory.to_owned()));
        let is_back =
            version.last_look + 1 < self.looks && !version.is_settled_with(files.as_ref());
        if version.directory != directory || is_back {
            *version = Version::new(directory.to_owned());
        }
        version.last_look = self.looks;
        let serves = || (look.serves)(name, number);
        let settling = version.note(files, Instant::now(), look.gap, serves);
        if settling == Settling::Changing && version.is_first_report() {
            info!("version {number} of model {name} loads once its files stop changing");
        }
        let is_handed_over = version.companions == Companions::Over;
        match settling {
            Settling::SettledBefore if !is_handed_over => Standing::Waits,
            Settling::Settled if self.awaits_companions(look, number) => Standing::Waits,
            settling => Standing::Is(settling),
        }
    }

    /// Whether a version that has settled waits for files that the serving version has.
    fn awaits_companions(&mut self, look: &Look<'_>, number: i64) -> bool {
        let name = &look.model.name;
        let Some(version) = self.versions.get(&number) else {
            return false;
        };
        if version.companions == Companions::Over {
            return false;
        }
        // Who goes back to a version with a lower number is in a hurry, and does not copy.
        let mut before = self.versions.range(..number).rev();
        let serving = before.find(|(it, _)| (look.serves)(name, **it));
        let missing = serving.map_or_else(Vec::new, |(_, serving)| {
            match (serving.settled_files(), version.settled_files()) {
                (Some(serving), Some(new)) => missing(serving, new),
                _ => Vec::new(),
            }
        });
        let serving = serving.map_or(0, |(serving, _)| *serving);
        let before = version.companions;
        let since = match before {
            Companions::AwaitedSince(since) => since,
            _ => Instant::now(),
        };
        let is_over = missing.is_empty() || since.elapsed() >= look.companion_wait;
        if let Some(version) = self.versions.get_mut(&number) {
            version.companions = match is_over {
                true => Companions::Over,
                false => Companions::AwaitedSince(since),
            };
        }
        match (is_over, before) {
            (true, _) if !missing.is_empty() => warn!(
                "version {number} of model {name} loads without files that the serving version \
                 {serving} has: {}",
                shown(&missing)
            ),
            (false, Companions::Unknown) => info!(
                "version {number} of model {name} waits up to {} s for files that the serving \
                 version {serving} has: {}",
                look.companion_wait.as_secs(),
                shown(&missing)
            ),
            _ => {}
        }
        !is_over
    }
}

impl Candidates {
    fn find(look: &Look<'_>) -> Result<Self> {
        if let Some(named) = named_versions(look)? {
            return Ok(Self::Named(named));
        }
        let mut names = look.storage.children(&look.model.base_path)?;
        let is_flat = names.iter().any(|name| name == FLAT_MODEL_FILE);
        names.retain(|name| parse_version(name).is_some());
        Ok(Self::Listed { names, is_flat })
    }

    /// The versions that the model's policy wants, as if those of `not_there` were not there; highest
    /// first.
    fn wanted(&self, model: &WatchedModel, not_there: &BTreeSet<i64>) -> Vec<(i64, PathBuf)> {
        let (names, is_flat) = match self {
            Self::Named(named) => {
                let is_there = |it: &&(i64, PathBuf)| !not_there.contains(&it.0);
                return named.iter().filter(is_there).cloned().collect();
            }
            Self::Listed { names, is_flat } => (names, *is_flat),
        };
        let is_specific = matches!(model.policy, VersionPolicy::Specific(_));
        if names.is_empty() && is_flat && !is_specific {
            let flat = (FLAT_VERSION, model.base_path.clone());
            return Some(flat)
                .filter(|_| !not_there.contains(&FLAT_VERSION))
                .into_iter()
                .collect();
        }
        let is_there = |version: i64| !not_there.contains(&version);
        let mut names = names.clone();
        // The policy looks for the ones before; those named one by one have no others.
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

/// The versions of a specific policy, where each has a directory named by its plain number; a
/// listing of the base path is not needed then.
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
        if version < 0 || !look.storage.exists(&directory)? {
            return Ok(None);
        }
        versions.push((version, directory));
    }
    Ok(Some(versions))
}

/// A list for a log line, which stays short.
fn shown(paths: &[PathBuf]) -> String {
    const MAX_SHOWN: usize = 10;
    let mut shown: Vec<String> = paths
        .iter()
        .take(MAX_SHOWN)
        .map(|path| path.display().to_string())
        .collect();
    if paths.len() > MAX_SHOWN {
        shown.push(format!("and {} more", paths.len() - MAX_SHOWN));
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests;
