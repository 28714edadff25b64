//! Aliases whose tensor no rule finds, and tensors that get an alias from a map while it is not known which
//! one they have had so far.
//!
//! Such a tensor may be the one of any open alias that looks like it. So it stays a candidate for them: that
//! a map gives it another alias leaves no other tensor as the only one that fits. An alias that is found to be
//! its alias so far is replaced, or kept with it.
//!
//! Not here: aliases whose tensor was known before the map (`renaming`).

use std::collections::{BTreeMap, BTreeSet};

use super::State;
use crate::signature::description::{Description, Source};
use crate::signature::matching::{Rule, Wanted, looks_like, match_rest, tensor_name};
use runtime::ValueInfo;

/// A tensor with an alias of a map, whose alias so far is not known.
#[derive(Clone)]
struct Claimed {
    value: ValueInfo,
    /// Its newest alias; `None` where a map above drops it.
    alias: Option<String>,
    /// Its alias so far stays, too.
    keep: bool,
}

impl State<'_> {
    /// Matches what is open with the tensors that are left, and with those whose alias so far is not known.
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

    /// Aliases of which there are no more than tensors with new aliases that look like them were replaced by
    /// these.
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
                // One of them took its place, whichever it was.
                several if several.iter().all(|it| !it.keep) => None,
                _ => continue,
            };
            if rivals.len() <= own.len() {
                self.open.retain(|it| it.alias != wanted.alias);
                self.take_place(&wanted.alias, claim);
            }
        }
    }

    /// The alias `old` was that of a claimed tensor: the new one is described as it, and replaces it or is
    /// served besides.
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

    /// Describes `new` as `old`, apart from what the map says.
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
            // The map says itself which of the aliases so far is its.
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

/// What tells whether two aliases were of one tensor.
fn original_of(wanted: &Wanted) -> &str {
    match tensor_name(&wanted.info) {
        "" => &wanted.alias,
        name => name,
    }
}
