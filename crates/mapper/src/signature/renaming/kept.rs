//! The aliases that stay next to a new one, and the list of changes.
//!
//! Not here: applying a map (`layer`).

use std::collections::BTreeMap;

use super::State;
use crate::signature::alias_change::AliasChange;
use base::error::{Result, ServingError};

impl State<'_> {
    /// The additional aliases of inputs, each with the newest one. Clients can send an input under either
    /// alias, so both need the same description.
    pub(super) fn kept_inputs(&mut self) -> Result<Vec<(String, String)>> {
        let named = |alias: &String| self.named.get(alias).copied().unwrap_or_default();
        let mut kept = Vec::new();
        for (tensor, aliases) in self.by_tensor() {
            let newest = aliases.iter().rev().max_by_key(|alias| named(alias));
            let Some(newest) = newest.filter(|alias| named(alias).0 > 0) else {
                continue;
            };
            let was = |alias: &String| self.base.get(alias).is_some_and(|it| it.0 == *tensor);
            for alias in aliases.iter().filter(|it| *it != newest) {
                if was(alias) && was(newest) {
                    continue;
                }
                if named(alias).0 == named(newest).0 && !self.agree(alias, newest) {
                    return Err(ServingError::invalid_argument(format!(
                        "signature map: inputs '{alias}' and '{newest}' are two aliases of one input of \
                         the graph, '{tensor}', and the map says other things of each: give them the \
                         same dtype, transpose, reshape and default"
                    )));
                }
                if !self.are_sent_alike(alias, newest) {
                    return Err(ServingError::invalid_argument(format!(
                        "signature map: input '{newest}' keeps '{alias}', and clients would send another \
                         dtype, transpose or reshape as '{newest}': both are one input of the graph, \
                         '{tensor}', which takes one. Leave out keep: true, or give '{newest}' the values that \
                         '{alias}' has"
                    )));
                }
                kept.push(((*alias).clone(), (*newest).clone()));
            }
        }
        self.move_defaults(&kept);
        Ok(kept)
    }

    /// The aliases of each tensor.
    fn by_tensor(&self) -> BTreeMap<&String, Vec<&String>> {
        let mut groups: BTreeMap<&String, Vec<&String>> = BTreeMap::new();
        for (alias, (tensor, _)) in &self.found {
            groups.entry(tensor).or_default().push(alias);
        }
        groups
    }

    /// Drops the descriptions of aliases that are not in use any more.
    pub(super) fn forget_replaced(&mut self) {
        let is_current = |alias: &String, it: &Self| {
            it.found.contains_key(alias) || it.open.iter().any(|open| open.alias == *alias)
        };
        let known: Vec<String> = self.descriptions.keys().cloned().collect();
        for alias in known {
            if !is_current(&alias, self) {
                self.descriptions.remove(&alias);
            }
        }
    }

    /// Moves the defaults of kept inputs to the newest alias, unless that has its own.
    fn move_defaults(&mut self, kept: &[(String, String)]) {
        for (alias, newest) in kept {
            let Some(known) = self.descriptions.get_mut(alias) else {
                continue;
            };
            let default = known.default.take();
            let (said_for, has_default) = (known.default_axes.clone(), known.port.has_default);
            let new = self.descriptions.get_mut(newest);
            if let Some(new) = new.filter(|it| it.default.is_none() && default.is_some()) {
                new.default = default;
                new.default_axes = said_for;
                new.port.has_default = has_default;
            }
        }
    }

    fn agree(&self, one: &str, other: &str) -> bool {
        match (self.descriptions.get(one), self.descriptions.get(other)) {
            (Some(one), Some(other)) => one.agrees_with(other),
            _ => true,
        }
    }

    fn are_sent_alike(&self, one: &str, other: &str) -> bool {
        match (self.descriptions.get(one), self.descriptions.get(other)) {
            (Some(one), Some(other)) => one.is_sent_as(other),
            _ => true,
        }
    }

    /// Lets an earlier alias that a map removed refer to the alias that a later map gave its tensor.
    pub(super) fn restore_removed(&mut self) {
        let mut restored = Vec::new();
        for ((index, earlier), (removed_by, tensor)) in &self.removed {
            let later = self
                .found
                .iter()
                .filter(|(alias, (it, _))| it == tensor && self.introduced_by(alias) > *removed_by);
            let newest =
                later.max_by_key(|(alias, _)| (self.introduced_by(alias), *alias == earlier));
            if let Some((alias, _)) = newest {
                restored.push((*index, earlier.clone(), alias.clone()));
            }
        }
        for (index, earlier, alias) in restored {
            let stage = self.earlier.get_mut(index);
            let entry = stage.and_then(|it| it.get_mut(&earlier));
            if let Some(entry) = entry.filter(|it| it.is_none()) {
                *entry = Some(alias);
            }
        }
    }

    /// The number of the map that gave an alias its tensor; 0: none did.
    fn introduced_by(&self, alias: &str) -> usize {
        self.introduced.get(alias).copied().unwrap_or_default()
    }

    /// The changes to the aliases, starting with those of the innermost map.
    pub(super) fn changes(&self) -> Vec<AliasChange> {
        let side = self.it.side;
        let kept = self.still_served();
        let mut changes: Vec<AliasChange> = Vec::new();
        for (old, new) in self.earlier.iter().flatten() {
            let is_served = self.found.contains_key(old);
            let is_listed = kept.iter().chain(&changes).any(|it| it.old == *old);
            if new.as_ref() == Some(old) || is_listed || (new.is_none() && is_served) {
                continue;
            }
            let change = |new: Option<String>| AliasChange {
                side,
                old: old.clone(),
                new,
                kept: false,
            };
            match new {
                None => changes.push(change(None)),
                Some(new) => {
                    let all = self.introduced_with(new).into_iter();
                    changes.extend(all.map(|new| change(Some(new))));
                }
            }
        }
        changes.extend(kept);
        changes
    }

    /// An alias, and those that the same map gave the same tensor.
    fn introduced_with(&self, alias: &String) -> Vec<String> {
        let map = self.introduced_by(alias);
        let tensor = self.found.get(alias).map(|(tensor, _)| tensor);
        let is_like = |other: &str, of: &String| {
            map > 0 && Some(of) == tensor && self.introduced_by(other) == map
        };
        let all = self.found.iter();
        let all = all.filter(|(other, (of, _))| *other == alias || is_like(other, of));
        let all: Vec<String> = all.map(|(other, _)| other.clone()).collect();
        match all.is_empty() {
            true => vec![alias.clone()],
            false => all,
        }
    }

    /// The aliases that are still served, each with those that the last map gave its tensor. An alias that
    /// this map itself lists is not one that it keeps.
    fn still_served(&self) -> Vec<AliasChange> {
        let mut kept = Vec::new();
        for aliases in self.by_tensor().into_values() {
            let maps = aliases.iter().map(|alias| self.introduced_by(alias));
            let last = maps.max().unwrap_or_default();
            let (new, old): (Vec<&String>, Vec<&String>) = aliases
                .into_iter()
                .partition(|alias| self.introduced_by(alias) == last);
            let is_listed = |alias: &str| self.named.get(alias).is_some_and(|it| it.0 == last);
            for old in old.into_iter().filter(|alias| !is_listed(alias)) {
                kept.extend(new.iter().map(|new| AliasChange {
                    side: self.it.side,
                    old: old.clone(),
                    new: Some((*new).clone()),
                    kept: true,
                }));
            }
        }
        kept
    }
}
