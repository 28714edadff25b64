//! Applies one map to the aliases below it.
//!
//! Not here: aliases whose tensor is found later (`rest`), the aliases that stay next to new ones (`kept`).

use std::collections::{BTreeMap, BTreeSet};

use super::State;
use crate::signature::alias_change::Side;
use crate::signature::declaration::{Layer, TensorMapping};
use crate::signature::description::{Description, Source};
use crate::signature::matching::{Rule, Tensors};
use base::error::{Result, ServingError};

/// A map's claim to a tensor: it gives it an alias, or feeds it with a constant or a feature.
struct Claim<'a> {
    tensor: &'a str,
    alias: Option<&'a str>,
    keep: bool,
    is_new: bool,
}

impl State<'_> {
    /// Applies a map: removes the aliases that it replaces, records the tensors that it claims, and inserts its
    /// own aliases.
    pub(super) fn lay(&mut self, layer: &Layer) -> Result<()> {
        let ports = layer.ports(self.it.side);
        let before = self.found.clone();
        let open: BTreeSet<String> = self.open.iter().map(|it| it.alias.clone()).collect();
        let aliases: BTreeSet<String> = before.keys().chain(&open).cloned().collect();
        self.check(ports, &aliases)?;
        let stage = aliases.iter().map(|it| (it.clone(), Some(it.clone())));
        self.earlier.push(stage.collect());
        let claims = self.claims(layer, &before);
        let descriptions = self.describe(ports, &claims, &before);
        self.rename_open(ports);
        self.replace_old(ports, &claims, &before);
        self.record_claims(&claims, &before);
        self.insert_new(ports, &before);
        self.descriptions.extend(descriptions);
        let transitions: BTreeMap<&String, Option<String>> = aliases
            .iter()
            .map(|old| (old, self.transition(old, ports, &before, &open)))
            .collect();
        self.update_earlier(&transitions, &before);
        Ok(())
    }

    /// Removes the aliases that the map drops or replaces.
    fn replace_old(
        &mut self,
        ports: &BTreeMap<String, TensorMapping>,
        claims: &[Claim<'_>],
        before: &Tensors,
    ) {
        for (old, (tensor, rule)) in before {
            match ports.get(old) {
                Some(port) if port.drop => {
                    self.found.remove(old);
                    self.gone.insert(tensor.clone());
                }
                Some(_) => {}
                None => self.replace(old, *rule, ports, claims, tensor),
            }
        }
    }

    /// Records the tensors that the map feeds, and those whose new alias does not explain an earlier one.
    fn record_claims(&mut self, claims: &[Claim<'_>], before: &Tensors) {
        for claim in claims.iter().filter(|claim| claim.is_new) {
            let explained = before.values().any(|(tensor, _)| tensor == claim.tensor);
            match claim.alias {
                None => drop(self.gone.insert(claim.tensor.to_owned())),
                Some(_) if !explained => {
                    let keep = self.unexplained.entry(claim.tensor.to_owned());
                    *keep.or_insert(true) &= claim.keep;
                }
                Some(_) => {
                    let keep = self.unexplained.get_mut(claim.tensor);
                    keep.into_iter().for_each(|keep| *keep &= claim.keep);
                }
            }
        }
    }

    /// Inserts the aliases of the map.
    fn insert_new(&mut self, ports: &BTreeMap<String, TensorMapping>, before: &Tensors) {
        for (alias, port) in ports.iter().filter(|(_, port)| !port.drop) {
            let found = match (&port.takes, &port.tensor) {
                (Some(old), _) => before.get(old).map(|(tensor, rule)| {
                    let rule = match rule {
                        Rule::PassThrough => Rule::PassThrough,
                        rule if old == alias => *rule,
                        _ => Rule::Map,
                    };
                    (tensor.clone(), rule)
                }),
                (None, tensor) => tensor.clone().map(|tensor| (tensor, Rule::Map)),
            };
            match found {
                Some(found) => {
                    self.open.retain(|it| it.alias != *alias);
                    if before.get(alias).is_none_or(|(own, _)| *own != found.0) {
                        self.introduced.insert(alias.clone(), self.earlier.len());
                    }
                    self.found.insert(alias.clone(), found);
                }
                // It replaces an alias whose tensor has not been found yet.
                None => drop(self.found.remove(alias)),
            }
            self.named
                .insert(alias.clone(), (self.earlier.len(), !port.keep));
        }
    }

    /// Lets the aliases below all maps so far refer to the present ones.
    fn update_earlier(
        &mut self,
        transitions: &BTreeMap<&String, Option<String>>,
        before: &Tensors,
    ) {
        let map = self.earlier.len();
        for (index, stage) in self.earlier.iter_mut().enumerate() {
            for (earlier, alias) in stage {
                let Some(old) = alias.as_ref() else { continue };
                let Some(new) = transitions.get(old) else {
                    continue;
                };
                if let (None, Some((tensor, _))) = (new, before.get(old)) {
                    let key = (index, earlier.clone());
                    self.removed.insert(key, (map, tensor.clone()));
                }
                alias.clone_from(new);
            }
        }
    }

    /// Refuses entries that name an alias that a map below removed.
    fn check(
        &self,
        ports: &BTreeMap<String, TensorMapping>,
        aliases: &BTreeSet<String>,
    ) -> Result<()> {
        for (alias, port) in ports {
            let named = match &port.takes {
                Some(old) => old,
                None if port.drop => alias,
                None => continue,
            };
            // A tensor that cannot be served does not have an alias, and can be dropped.
            let is_unserved = port.drop && {
                let mut tensors = self.it.tensors.iter();
                tensors.any(|it| it.name == *named && it.dtype.is_none())
            };
            if !aliases.contains(named) && !is_unserved {
                let side = self.it.side;
                let there_are: Vec<String> = aliases.iter().map(|it| format!("'{it}'")).collect();
                return Err(ServingError::invalid_argument(format!(
                    "signature map: there is no {side} alias '{named}' any more: the map below removes \
                     it; there are {}",
                    there_are.join(", ")
                )));
            }
        }
        Ok(())
    }

    /// The descriptions of the aliases that a map names.
    fn describe(
        &self,
        ports: &BTreeMap<String, TensorMapping>,
        claims: &[Claim<'_>],
        before: &Tensors,
    ) -> BTreeMap<String, Description> {
        let named = |alias: &str| self.named.get(alias).copied();
        let describe = |(alias, port): (&String, &TensorMapping)| {
            let own = self.descriptions.get(alias).cloned();
            let (source, tensor) = match (&port.takes, &port.tensor) {
                (Some(old), _) => {
                    let known = self.descriptions.get(old).cloned().unwrap_or_default();
                    let source = match old == alias {
                        true => Source::Own(known),
                        false => Source::Other(known),
                    };
                    (source, before.get(old).map(|(tensor, _)| tensor))
                }
                (None, Some(tensor)) => {
                    let claim = claims.iter().find(|it| it.alias == Some(alias.as_str()));
                    let is_new = claim.is_some_and(|it| it.is_new);
                    let is_own = before.get(alias).is_some_and(|(it, _)| it == tensor);
                    let holders = before.iter().filter(|(_, (it, rule))| {
                        it == tensor && (*rule != Rule::OnlyOneLeft || is_new)
                    });
                    let holder = holders.max_by_key(|(alias, _)| named(alias));
                    let other = holder.and_then(|(alias, _)| self.descriptions.get(alias));
                    let source = match (own, other) {
                        (Some(own), _) if is_own => Source::Own(own),
                        (_, Some(other)) => Source::Other(other.clone()),
                        // The alias is the SavedModel's, and the map corrects its tensor.
                        (Some(own), None) if self.it.is_original => Source::Own(Description {
                            port: TensorMapping::default(),
                            ..own
                        }),
                        _ => Source::Graph,
                    };
                    (source, Some(tensor))
                }
                (None, None) => (Source::Graph, None),
            };
            let tensor = tensor.and_then(|name| self.tensor(name));
            let is_original = self.it.is_original;
            let new = Description::new(self.it.side, port, source, tensor, is_original);
            (alias.clone(), new)
        };
        let ports = ports.iter().filter(|(_, port)| !port.drop);
        ports.map(describe).collect()
    }

    /// Renames aliases without a tensor as the map says.
    fn rename_open(&mut self, ports: &BTreeMap<String, TensorMapping>) {
        let mut open = Vec::new();
        for wanted in &self.open {
            let takers = takers(ports, &wanted.alias);
            let takers: Vec<(&String, &TensorMapping)> =
                takers.filter(|(it, _)| **it != wanted.alias).collect();
            for (taker, _) in &takers {
                let mut wanted = wanted.clone();
                wanted.alias.clone_from(taker);
                open.push(wanted);
            }
            let stays = match ports.get(&wanted.alias) {
                Some(port) => port.takes.as_deref() == Some(&wanted.alias),
                None => takers.iter().all(|(_, port)| port.keep),
            };
            if stays {
                open.push(wanted.clone());
            }
        }
        self.open = open;
    }

    fn claims<'l>(&self, layer: &'l Layer, before: &Tensors) -> Vec<Claim<'l>> {
        let ports = layer.ports(self.it.side).iter();
        let claims = ports.filter_map(|(alias, port)| {
            let tensor = port.tensor.as_deref()?;
            let own = before.get(alias).is_some_and(|(own, _)| own == tensor);
            (!own).then_some(Claim {
                tensor,
                alias: Some(alias),
                keep: port.keep,
                is_new: !self.it.wanted.iter().any(|it| it.alias == *alias),
            })
        });
        let fed = layer.fed.iter().filter(|_| self.it.side == Side::Input);
        let fed = fed.map(|tensor| Claim {
            tensor,
            alias: None,
            keep: false,
            is_new: true,
        });
        claims.chain(fed).collect()
    }

    /// Replaces `old` if the map takes its place or claims its tensor.
    fn replace(
        &mut self,
        old: &str,
        rule: Rule,
        ports: &BTreeMap<String, TensorMapping>,
        claims: &[Claim<'_>],
        tensor: &str,
    ) {
        let claims = claims.iter().filter(|claim| claim.tensor == tensor);
        let claims: Vec<&Claim<'_>> = claims.collect();
        let is_taken = takers(ports, old).any(|(_, port)| !port.keep);
        if !is_taken && claims.iter().all(|claim| claim.keep) {
            return;
        }
        self.found.remove(old);
        let is_new = is_taken || claims.iter().any(|claim| claim.is_new);
        let wanted = self.it.wanted.iter().find(|it| it.alias == old);
        // It had the only tensor left that fits, and the map gave that tensor to another alias.
        if let Some(wanted) = wanted.filter(|_| rule == Rule::OnlyOneLeft && !is_new) {
            self.open.push(wanted.clone());
        }
    }

    /// The alias above this map of the tensor that had the alias `old` below it; `None` if it was removed.
    fn transition(
        &self,
        old: &String,
        ports: &BTreeMap<String, TensorMapping>,
        before: &Tensors,
        open: &BTreeSet<String>,
    ) -> Option<String> {
        let takers = takers(ports, old);
        let taker = takers.min_by_key(|(alias, port)| (*alias != old, port.keep));
        let tensor = before.get(old).map(|(tensor, _)| tensor);
        let now = self.found.get(old).map(|(tensor, _)| tensor);
        let is_open = |alias: &String| self.open.iter().any(|it| it.alias == *alias);
        let is_named = ports.contains_key(old);
        if now.is_some() && now == tensor
            || (!is_named && is_open(old))
            || (open.contains(old) && now.is_some() && taker.is_none())
        {
            return Some(old.clone());
        }
        let on_tensor = |alias: &str, all: &Tensors| all.get(alias).map(|it| &it.0) == tensor;
        let claimants = ports.iter().filter(|(alias, port)| {
            !port.drop && tensor.is_some() && on_tensor(alias, &self.found)
        });
        // The map's own alias rather than one that the tensor has had before.
        let claimant = claimants.min_by_key(|(alias, _)| on_tensor(alias, before));
        let new = taker.or(claimant);
        new.map(|(alias, _)| alias.clone())
    }
}

/// The entries that name `old` as the alias that they replace.
fn takers<'a>(
    ports: &'a BTreeMap<String, TensorMapping>,
    old: &'a str,
) -> impl Iterator<Item = (&'a String, &'a TensorMapping)> {
    ports
        .iter()
        .filter(move |(_, port)| port.takes.as_deref() == Some(old))
}
