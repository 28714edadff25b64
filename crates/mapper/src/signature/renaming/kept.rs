//! The aliases that stay next to a new one, and the list of changes.
//!
//! Not here: applying a map (`layer`).

use std::collections::BTreeMap;

use super::State;
use crate::signature::alias_change::{AliasChange, Side};
use base::error::{Result, ServingError};

impl State<'_> {
    /// The additional aliases of tensors, each with the newest alias. Clients can send an input under
    /// either alias, so both need the same description.
    pub(super) fn kept(&mut self) -> Result<Vec<(String, String)>> {
        self.forget_replaced();
        let mut groups: BTreeMap<&String, Vec<&String>> = BTreeMap::new();
        for (alias, (tensor, _)) in &self.found {
            groups.entry(tensor).or_default().push(alias);
        }
        let named = |alias: &String| self.named.get(alias).copied().unwrap_or_default();
        let is_input = self.it.side == Side::Input;
        let mut kept = Vec::new();
        for (tensor, aliases) in groups {
            let newest = aliases.iter().rev().max_by_key(|alias| named(alias));
            let Some(newest) = newest.filter(|alias| named(alias).0 > 0) else {
                continue;
            };
            let was = |alias: &String| self.base.get(alias).is_some_and(|it| it.0 == *tensor);
            for alias in aliases.iter().filter(|it| *it != newest) {
                let is_as_before = was(alias) && was(newest);
                let is_as_new = named(alias).0 == named(newest).0;
                if is_as_before || (is_as_new && !is_input) {
                    continue;
                }
                if is_as_new && !self.agree(alias, newest) {
                    return Err(ServingError::invalid_argument(format!(
                        "signature map: inputs '{alias}' and '{newest}' are two aliases of one input of \
                         the graph, '{tensor}', and the map says other things of each: give them the \
                         same dtype, transpose, reshape and default"
                    )));
                }
                if is_input && !self.are_sent_alike(alias, newest) {
                    return Err(ServingError::invalid_argument(format!(
                        "signature map: input '{newest}' keeps '{alias}', and clients would send another \
                         dtype, transpose or reshape as '{newest}': both are one input of the graph, \
                         '{tensor}', which takes one. Leave out keep: true, or give '{newest}' what \
                         '{alias}' has"
                    )));
                }
                kept.push(((*alias).clone(), (*newest).clone()));
            }
        }
        if is_input {
            self.move_defaults(&kept);
        }
        Ok(kept)
    }

    /// Drops the descriptions of aliases that are not in use any more.
    fn forget_replaced(&mut self) {
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

    /// The changes to the aliases, starting with those of the innermost map.
    pub(super) fn changes(&self, kept: Vec<(String, String)>) -> Vec<AliasChange> {
        let side = self.it.side;
        let kept: Vec<AliasChange> = kept
            .into_iter()
            .map(|(old, new)| AliasChange {
                side,
                old,
                new: Some(new),
                kept: true,
            })
            .collect();
        let mut changes: Vec<AliasChange> = Vec::new();
        for (old, new) in self.earlier.iter().flatten() {
            let is_served = self.found.contains_key(old);
            let is_told = kept.iter().chain(&changes).any(|it| it.old == *old);
            if new.as_ref() == Some(old) || is_told || (new.is_none() && is_served) {
                continue;
            }
            changes.push(AliasChange {
                side,
                old: old.clone(),
                new: new.clone(),
                kept: false,
            });
        }
        changes.extend(kept);
        changes
    }
}
