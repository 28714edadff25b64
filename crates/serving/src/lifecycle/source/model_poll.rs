//! One look at one model's base path: which versions exist, have settled, and are wanted.
//!
//! A version whose files have not settled, or that waits for files which the serving version has,
//! counts as absent. A version that was handed over once stays present while its files change, with
//! the files with which it had settled. If a version that serves disappears, it counts as gone only
//! after a second look has missed it, because a directory can be replaced by another one.
//!
//! Not here: when to look, and on which thread (`source::queue`, `source::poll_threads`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::companions::missing;
use super::contents::{Signatures, signatures, unwritten};
use super::settling::{Settling, Version};
use super::versions::{VersionPolicy, aspired_children, parse_version};
use super::{AspiredVersion, WatchedModel};
use base::error::Result;
use mapper::version_dir::base_path_hint;
use storage::confines;
use storage::local::{Files, Storage};

/// A base path with this file but without version directories counts as a version of its own.
const FLAT_MODEL_FILE: &str = "model.onnx";
/// The version of a model that is directly in its base path.
const FLAT_VERSION: i64 = 1;
/// TensorFlow Serving's own hint.
const NO_NUMBER: &str = "Did you forget to name your leaf directory as a number (eg. '/1/')?";
/// The maximum number of folders to look into at each level below a base path without a version.
const MAX_FOLDERS: usize = 20;
/// After this time the reason why a base path has no version is logged again, even if unchanged.
const REPEATED: Duration = Duration::from_secs(60);
/// How long a version that served and is gone is remembered: its replacement can be a copy in
/// progress.
const REMEMBERED: Duration = Duration::from_secs(60);

/// The results of earlier looks at a model.
#[derive(Default)]
pub(super) struct ModelPoll {
    /// The versions of the last look, and those that still serve.
    versions: BTreeMap<i64, Version>,
    looks: u64,
    aspired: Vec<AspiredVersion>,
    /// Versions that are gone: since when, and the files they were loaded with.
    gone: BTreeMap<i64, (Instant, Serving)>,
    /// The last log text about a base path without a version, and its time.
    said: Option<(String, Instant)>,
    /// Why no version is aspired, in sentences; `None` if a version is aspired.
    remark: Option<String>,
    /// The remark about versions in a folder below the base path, if any, and the time of that search.
    below: Option<(Option<String>, Instant)>,
}

/// The files with which a serving version was loaded.
#[derive(Clone)]
struct Serving {
    files: Arc<Files>,
    /// The signatures of its map.
    signatures: Option<Arc<Signatures>>,
}

/// Returns the files of a directory with which a version of a model was loaded.
type Loaded<'a> = dyn Fn(&str, i64, &Path) -> Option<Arc<Files>> + 'a;

/// The inputs of a look.
pub(super) struct Look<'a> {
    pub(super) model: &'a WatchedModel,
    pub(super) storage: &'a dyn Storage,
    /// Whether a version is available to clients.
    pub(super) serves: &'a dyn Fn(&str, i64) -> bool,
    /// The files in a directory with which a serving version was loaded, if they are known.
    pub(super) loaded: &'a Loaded<'a>,
    /// The minimum time between looks that count as two.
    pub(super) gap: Duration,
    /// How long a version waits for files that the serving version has.
    pub(super) companion_wait: Duration,
}

/// The result of a look.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A version was seen, or missed, for the first time. The second look decides.
    Unsure,
    /// These versions are aspired.
    Aspired {
        versions: Vec<AspiredVersion>,
        rest: Rest,
    },
}

/// The changes to be expected after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing.
    Settled,
    /// Another fingerprint: files of a known version are changing.
    Changing,
    /// Another version, once its files have settled.
    Version,
}

/// The state of a version in this look.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Is(Settling),
    /// It has settled but waits for files that can still be coming.
    Waits,
}

impl Standing {
    fn counts_as_there(self) -> bool {
        !matches!(self, Self::Waits | Self::Is(Settling::Changing))
    }
}

/// The versions under a base path, as far as the look needed them.
enum Candidates {
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
        let is_missed = self.note_missed(look, &candidates);
        self.forget(look, &candidates, &standings);
        let is_new = |it: &Standing| *it == Standing::Is(Settling::New);
        if is_missed || standings.values().any(is_new) {
            return Ok(Found::Unsure);
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
            self.explain(look, &candidates);
        } else {
            (self.said, self.remark, self.below) = (None, None, None);
        }
        Ok(Found::Aspired {
            versions: self.aspired.clone(),
            rest,
        })
    }

    /// Why no version is aspired, in sentences; `None` if a version is aspired.
    pub(super) fn remark(&self) -> Option<&str> {
        self.remark.as_deref()
    }

    /// Logs that no version was found, with the reason if it is known, but not at every look.
    fn explain(&mut self, look: &Look<'_>, candidates: &Candidates) {
        let model = look.model;
        let why = candidates
            .remark(&model.policy)
            .or_else(|| self.below(look))
            .unwrap_or_else(|| NO_NUMBER.to_owned());
        self.remark = Some(why.clone());
        let text = format!(
            "No versions of servable {} found under base path {}. {why}",
            model.name,
            model.base_path.display()
        );
        let is_new = |(said, at): &(String, Instant)| *said != text || at.elapsed() >= REPEATED;
        if self.said.as_ref().is_none_or(is_new) {
            warn!("{text}");
            self.said = Some((text, Instant::now()));
        }
    }

    /// The remark about versions in a folder below the base path. Searched rarely, because it lists folders.
    fn below(&mut self, look: &Look<'_>) -> Option<String> {
        let is_recent = |(_, at): &&(Option<String>, Instant)| at.elapsed() < REPEATED;
        if let Some((found, _)) = self.below.as_ref().filter(is_recent) {
            return found.clone();
        }
        let found = base_path_below(look.storage, &look.model.base_path);
        self.below = Some((found.clone(), Instant::now()));
        found
    }

    /// Whether a version that serves was missed for the first time.
    fn note_missed(&mut self, look: &Look<'_>, candidates: &Candidates) -> bool {
        let now = Instant::now();
        let mut is_first = false;
        for aspired in &self.aspired {
            let number = aspired.version;
            let Some(version) = self.versions.get_mut(&number) else {
                continue;
            };
            if candidates.has(number) {
                version.missed_since = None;
            } else if (look.serves)(&look.model.name, number) {
                is_first |= match version.missed_since {
                    Some(since) => now.saturating_duration_since(since) < look.gap,
                    None => true,
                };
                version.missed_since.get_or_insert(now);
                let loaded = (look.loaded)(&look.model.name, number, &version.directory);
                version.loaded = loaded.or_else(|| version.loaded.take());
            }
        }
        is_first
    }

    /// Forgets versions that were not looked at and do not serve. For those that are gone, remembers
    /// for a while the files they were loaded with.
    fn forget(
        &mut self,
        look: &Look<'_>,
        candidates: &Candidates,
        standings: &BTreeMap<i64, Standing>,
    ) {
        let now = Instant::now();
        let is_recent = |since: Instant| now.saturating_duration_since(since) < REMEMBERED;
        self.gone.retain(|_, (since, _)| is_recent(*since));
        let gone = &mut self.gone;
        self.versions.retain(|number, version| {
            let is_kept =
                standings.contains_key(number) || (look.serves)(&look.model.name, *number);
            if !is_kept
                && !candidates.has(*number)
                && let Some(loaded) = version.loaded.take()
            {
                let signatures = version.signatures.take();
                let serving = Serving {
                    files: loaded,
                    signatures,
                };
                gone.insert(*number, (now, serving));
            }
            is_kept
        });
    }

    fn look_at(&mut self, look: &Look<'_>, number: i64, directory: &Path) -> Standing {
        let files = look.storage.files(directory).ok();
        let name = &look.model.name;
        let is_told = self.aspired.iter().any(|it| it.version == number);
        let version = self
            .versions
            .entry(number)
            .or_insert_with(|| Version::new(directory.to_owned()));
        let is_back = version.last_look + 1 < self.looks
            && !is_told
            && !version.is_settled_with(files.as_ref());
        if version.directory != directory || is_back {
            let before = std::mem::replace(version, Version::new(directory.to_owned()));
            if let (Some(_), Some(files)) = (before.missed_since, before.loaded) {
                let serving = Serving {
                    files,
                    signatures: before.signatures,
                };
                self.gone.insert(number, (Instant::now(), serving));
            }
        }
        version.last_look = self.looks;
        let serves = (look.serves)(name, number);
        if serves {
            let loaded = (look.loaded)(name, number, directory);
            let handed_over = || version.handed_over_files().cloned();
            version.loaded = loaded.or_else(handed_over);
        }
        let settling = version.note(files, Instant::now(), look.gap);
        if settling == Settling::Changing && version.is_first_report() {
            info!("version {number} of model {name} loads once its files stop changing");
        }
        let was_handed_over = version.is_handed_over();
        match settling {
            Settling::Settled if self.hand_over(look, number, serves) => Standing::Is(settling),
            Settling::Settled | Settling::SettledBefore if was_handed_over => {
                Standing::Is(Settling::SettledBefore)
            }
            Settling::Settled | Settling::SettledBefore => Standing::Waits,
            Settling::New | Settling::Changing => Standing::Is(settling),
        }
    }

    /// Hands over a version that has settled, unless it waits for files that the serving version has. The
    /// serving version can be another one, or the same one as it was loaded.
    fn hand_over(&mut self, look: &Look<'_>, number: i64, serves: bool) -> bool {
        let (serving, model) = match self.serving(look, number) {
            Some((serving, model)) => (serving, Some(model)),
            None => (number, None),
        };
        let Some(version) = self.versions.get_mut(&number) else {
            return false;
        };
        let loaded = version.loaded.clone().filter(|_| serves);
        let is_left = match (&loaded, version.settled_files()) {
            (Some(loaded), Some(settled)) => settled.are_what_is_left_of(loaded),
            _ => false,
        };
        if is_left || version.is_handed_over_as_settled() {
            version.hand_over(loaded.as_ref());
            return true;
        }
        let missing = match (model, version.settled_files()) {
            (Some(model), Some(new)) => awaited(look, &version.directory, new, &model),
            _ => Vec::new(),
        };
        let was_waiting = version.is_waiting();
        let wait = look.companion_wait;
        let waits = version.waits_for(missing.len(), wait, Instant::now());
        let name = &look.model.name;
        if waits && !was_waiting {
            info!(
                "version {number} of model {name} waits up to {} s for files that the serving \
                 version {serving} has: {}",
                wait.as_secs(),
                shown(&missing)
            );
        }
        if waits {
            return false;
        }
        if !missing.is_empty() {
            warn!(
                "version {number} of model {name} loads without files that the serving version \
                 {serving} has: {}",
                shown(&missing)
            );
        }
        version.signatures = signatures(look.storage, &version.directory).map(Arc::new);
        version.hand_over(loaded.as_ref());
        true
    }

    /// The highest version up to this one that serves, or did until a moment ago, and the files it was
    /// loaded with. Higher versions do not count: an operator who rolls back is in a hurry and does not copy.
    fn serving(&self, look: &Look<'_>, number: i64) -> Option<(i64, Serving)> {
        let name = &look.model.name;
        let serving = self.versions.range(..=number).rev();
        let mut serving = serving.filter(|(it, _)| (look.serves)(name, **it));
        let serving = serving.find_map(|(it, version)| {
            let files = match *it == number {
                true => version.loaded.clone()?,
                false => (look.loaded)(name, *it, &version.directory)
                    .or_else(|| version.loaded.clone())
                    .or_else(|| version.settled_files().cloned())?,
            };
            let signatures = version.signatures.clone();
            Some((*it, Serving { files, signatures }))
        });
        let gone = self.gone.range(..=number).next_back();
        let gone = gone.map(|(it, (_, serving))| (*it, serving.clone()));
        serving.into_iter().chain(gone).max_by_key(|(it, _)| *it)
    }
}

impl Candidates {
    fn find(look: &Look<'_>) -> Result<Self> {
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
    fn remark(&self, policy: &VersionPolicy) -> Option<String> {
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
    fn has(&self, version: i64) -> bool {
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
    fn wanted(&self, model: &WatchedModel, not_there: &BTreeSet<i64>) -> Vec<(i64, PathBuf)> {
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
fn base_path_below(storage: &dyn Storage, base_path: &Path) -> Option<String> {
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

/// The files that a version lacks, or that are not completely written, for a log line.
fn awaited(look: &Look<'_>, directory: &Path, new: &Files, serving: &Serving) -> Vec<String> {
    let missing = missing(&serving.files, new).into_iter();
    let mut awaited: Vec<_> = missing.map(|path| path.display().to_string()).collect();
    let names = serving.signatures.as_deref();
    let unwritten = unwritten(look.storage, directory, (new, &serving.files), names);
    let unwritten = unwritten.into_iter();
    awaited.extend(unwritten.map(|(path, fault)| format!("{} ({fault})", path.display())));
    awaited
}

/// A list for a log line, shortened.
fn shown(paths: &[String]) -> String {
    const MAX_SHOWN: usize = 10;
    let mut shown: Vec<String> = paths.iter().take(MAX_SHOWN).cloned().collect();
    if paths.len() > MAX_SHOWN {
        shown.push(format!("and {} more", paths.len() - MAX_SHOWN));
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests;
