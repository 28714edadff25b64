//! One look at one model's base path: which versions exist, have settled, and are wanted.
//!
//! A version whose files have not settled, or that waits for files which the serving version has,
//! counts as absent. A version that was handed over once stays present while its files change, with
//! the files with which it had settled. If a version that serves disappears, it counts as gone only
//! after a second look has missed it, because a directory can be replaced by another one.
//!
//! Not here: the versions under the base path (`candidates`), the wait for files (`hand_over`), when to look, and
//! on which thread (`source::queue`, `source::poll_threads`).

mod candidates;
mod hand_over;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use self::candidates::{Candidates, base_path_below};
use super::contents::Signatures;
use super::settling::{Settling, Version};
use super::{AspiredVersion, WatchedModel};
use base::error::Result;
use storage::local::{Files, Storage};

/// TensorFlow Serving's own hint.
const NO_NUMBER: &str = "Did you forget to name your leaf directory as a number (eg. '/1/')?";
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
}

#[cfg(test)]
mod tests;
