//! Matches aliases whose tensor no rule finds with tensors that have a new alias from a map and whose
//! earlier alias is not known.
//!
//! Such a tensor could belong to any open alias whose dtype and shape fit it, so it stays a candidate for
//! them. Otherwise the map's alias could leave another tensor as the only one that fits. If an alias turns
//! out to be the tensor's earlier one, it is replaced, or kept next to the new one.
//!
//! Not here: aliases whose tensor was known before the map (`renaming`).

use std::collections::{BTreeMap, BTreeSet};

use super::State;
use crate::signature::description::{Description, Source};
use crate::signature::matching::{Rule, Wanted, looks_like, match_rest, tensor_name};
use runtime::ValueInfo;

/// A tensor with an alias from a map, whose earlier alias is not known.
#[derive(Clone)]
struct Claimed {
    value: ValueInfo,
    /// Its newest alias; `None` if a map above drops it.
    alias: Option<String>,
    /// Its earlier alias stays, too.
    keep: bool,
}

impl State<'_> {
    /// Matches open aliases with the remaining tensors, and with those whose earlier alias is not known.
    pub(super) fn match_rest(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let it = self.it;
        let mut claimed = self.claimed();
        let is_claimed = |name: &str| claimed.iter().any(|it| it.value.name == name);
        let mut candidates = self.free();
        candidates.extend(claimed.iter().map(|it| it.value.clone()));
        let likely = |name: &str| is_claimed(name) || (it.likely)(name);
        let rest = match_rest(it.signature, &self.open, &candidates, &likely);
        self.open.retain(|it| rest.open.contains(&it.alias));
        let mut explained = BTreeSet::new();
        for (alias, (tensor, rule)) in rest.found {
            match claimed.iter().find(|it| it.value.name == tensor) {
                Some(claim) => {
                    self.take_place(&alias, Some(claim));
                    explained.insert(tensor);
                }
                None => drop(self.found.insert(alias, (tensor, rule))),
            }
        }
        claimed.retain(|it| !explained.contains(&it.value.name));
        self.replace_rest(&claimed);
        self.unexplained
            .retain(|name, _| claimed.iter().any(|it| it.value.name == *name));
    }

    /// Replaces open aliases by the new aliases of tensors that look like them, if there are at least as
    /// many of these tensors as aliases.
    fn replace_rest(&mut self, claimed: &[Claimed]) {
        let of = |wanted: &Wanted| -> Vec<&Claimed> {
            let claimed = claimed.iter();
            claimed.filter(|it| looks_like(wanted, &it.value)).collect()
        };
        let open = self.open.clone();
        for wanted in &open {
            let own = of(wanted);
            let is_rival = |it: &&Wanted| own.iter().any(|claim| looks_like(it, &claim.value));
            let rivals: BTreeSet<&str> = open.iter().filter(is_rival).map(original_of).collect();
            let claim = match own.as_slice() {
                [] => continue,
                [only] => Some(*only),
                // One of them replaced it; it does not matter which.
                several if several.iter().all(|it| !it.keep) => None,
                _ => continue,
            };
            if rivals.len() <= own.len() {
                self.open.retain(|it| it.alias != wanted.alias);
                self.take_place(&wanted.alias, claim);
            }
        }
    }

    /// Records that `old` was the alias of a claimed tensor: the new alias inherits its description, and
    /// replaces it or is served next to it.
    fn take_place(&mut self, old: &str, claim: Option<&Claimed>) {
        let new = claim.and_then(|it| it.alias.clone());
        if let Some(new) = &new {
            self.inherit(old, new);
        }
        if let Some(claim) = claim.filter(|it| it.keep) {
            let found = (claim.value.name.clone(), Rule::Map);
            self.found.insert(old.to_owned(), found);
            return;
        }
        for alias in self.earlier.iter_mut().flat_map(BTreeMap::values_mut) {
            if alias.as_deref() == Some(old) {
                alias.clone_from(&new);
            }
        }
    }

    /// Gives `new` the description of `old`, except for the fields that the map sets.
    fn inherit(&mut self, old: &str, new: &str) {
        let Some(before) = self.descriptions.get(old).cloned() else {
            return;
        };
        let tensor = self.found.get(new).and_then(|(name, _)| self.tensor(name));
        let Some(said) = self.descriptions.get(new).map(|it| &it.port) else {
            return;
        };
        let side = self.it.side;
        let described = Description::new(
            side,
            said,
            Source::Other(before),
            tensor,
            self.it.is_original,
        );
        self.descriptions.insert(new.to_owned(), described);
    }

    fn claimed(&self) -> Vec<Claimed> {
        let taken = self.taken();
        let is_old = |alias: &String| self.it.wanted.iter().any(|it| it.alias == *alias);
        let mut claimed = Vec::new();
        for value in self
            .it
            .candidates
            .iter()
            .filter(|it| taken.contains(&it.name))
        {
            let Some(&keep) = self.unexplained.get(&value.name) else {
                continue;
            };
            let found = self.found.iter();
            let aliases = found.filter(|(_, (tensor, _))| *tensor == value.name);
            let aliases: Vec<&String> = aliases.map(|(alias, _)| alias).collect();
            // The map itself names one of the earlier aliases for this tensor.
            if aliases.iter().any(|alias| is_old(alias)) {
                continue;
            }
            let named = |alias: &&&String| self.named.get(**alias).copied();
            let alias = aliases.iter().max_by_key(named);
            claimed.push(Claimed {
                value: value.clone(),
                alias: alias.map(|it| (*it).clone()),
                keep,
            });
        }
        claimed
    }

    fn free(&self) -> Vec<ValueInfo> {
        let taken = self.taken();
        let free = self.it.candidates.iter();
        free.filter(|it| !taken.contains(&it.name))
            .cloned()
            .collect()
    }

    pub(super) fn taken(&self) -> BTreeSet<String> {
        let found = self.found.values().map(|(tensor, _)| tensor);
        found.chain(&self.gone).cloned().collect()
    }
}

/// The key by which aliases of the same SavedModel tensor are recognised.
fn original_of(wanted: &Wanted) -> &str {
    match tensor_name(&wanted.info) {
        "" => &wanted.alias,
        name => name,
    }
}
