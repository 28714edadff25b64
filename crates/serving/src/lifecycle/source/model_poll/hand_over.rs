//! Handing over a version that has settled, once it has the files that the serving version has.
//!
//! Not here: whether it has settled (`source::settling`), which files it lacks (`source::companions`,
//! `source::contents`).

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tracing::{info, warn};

use super::{Look, ModelPoll, Serving};
use crate::lifecycle::source::companions::missing;
use crate::lifecycle::source::contents::{signatures, unwritten};
use storage::local::Files;

impl ModelPoll {
    /// Hands over a version that has settled, unless it waits for files that the serving version has. The
    /// serving version can be another one, or the same one as it was loaded.
    pub(super) fn hand_over(&mut self, look: &Look<'_>, number: i64, serves: bool) -> bool {
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
