//! Applies the aliases that a map gives to tensors.
//!
//! First every alias is matched without any map. A map's alias then replaces the aliases that its
//! tensor has had so far, unless the map keeps them. Aliases that are still open after that are matched
//! with the remaining tensors (`rest`).
//!
//! Not here: the contents of a map (`overlay`), the rules of matching (`matching`).

mod rest;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::SignatureDef;
use super::declaration::{Declaration, Layer, Port};
use super::description::{Description, Source};
use super::matching::{Matching, Rule, Wanted, match_aliases};
use base::error::{Result, ServingError};
use proto::tensorflow::TensorInfo;
use runtime::ValueInfo;

/// One of a signature's two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The tensors that clients send.
    Input,
    /// The tensors that clients get.
    Output,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => "input",
            Self::Output => "output",
        })
    }
}

/// A change that a signature map made to an alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AliasChange {
    /// The side that the alias is on.
    pub side: Side,
    /// The alias before.
    pub old: String,
    /// The alias that its tensor has now; `None`: the alias was removed without a replacement.
    pub new: Option<String>,
    /// Whether clients can still use the old one.
    pub kept: bool,
}

impl fmt::Display for AliasChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { side, old, .. } = self;
        match &self.new {
            None => write!(f, "{side}s['{old}'] is not served"),
            Some(new) if self.kept => {
                write!(f, "{side}s['{old}'] is served as {side}s['{new}'], too")
            }
            Some(new) => write!(f, "{side}s['{old}'] is served as {side}s['{new}']"),
        }
    }
}

/// One side of a signature, matched, with the changes that the maps made to its aliases.
#[derive(Debug, Default)]
pub struct Settled {
    /// Under the aliases that clients use now.
    pub matching: Matching,
    /// Their descriptions.
    pub descriptions: BTreeMap<String, Description>,
    /// The changes to the earlier aliases.
    pub changes: Vec<AliasChange>,
    /// For each map: the aliases below it, each with its present alias; `None`: it was removed.
    pub earlier: Vec<BTreeMap<String, Option<String>>>,
}

/// One side of a signature before its maps, and the side of the graph to match it with.
pub struct Unsettled<'a> {
    /// The signature's name.
    pub signature: &'a str,
    /// Which side it is.
    pub side: Side,
    /// The signature without any map.
    pub before: &'a SignatureDef,
    /// Whether it comes from a `saved_model.pb`.
    pub is_original: bool,
    /// The aliases without any map.
    pub wanted: &'a [Wanted],
    /// Outputs that are passed through from inputs. No graph tensor is searched for them.
    pub handed_through: &'a BTreeMap<String, String>,
    /// The graph's tensors.
    pub candidates: &'a [ValueInfo],
    /// The candidates and other tensors that a map can name.
    pub tensors: &'a [ValueInfo],
    /// The `likely` argument of `match_aliases`.
    pub likely: &'a dyn Fn(&str) -> bool,
}

/// Matches one side of a signature with its graph, map by map.
///
/// # Errors
///
/// `INVALID_ARGUMENT` if a map names an alias that a map below it removed, or describes one input in two
/// ways.
pub fn settle(it: &Unsettled<'_>, layers: &[Layer]) -> Result<Settled> {
    let base = match_aliases(it.signature, it.wanted, it.candidates, it.likely);
    let through = it.handed_through.iter();
    let through = through.map(|(alias, name)| (alias.clone(), (name.clone(), Rule::PassThrough)));
    let open = it.wanted.iter().filter(|it| base.open.contains(&it.alias));
    let found: Found = base.found.into_iter().chain(through).collect();
    let mut state = State {
        it,
        open: open.cloned().collect(),
        descriptions: descriptions(it),
        base: found.clone(),
        found,
        gone: BTreeSet::new(),
        unexplained: BTreeMap::new(),
        named: BTreeMap::new(),
        earlier: Vec::new(),
    };
    for layer in layers {
        state.lay(layer)?;
    }
    state.match_rest();
    let kept = state.kept()?;
    let taken = state.taken();
    let left = it.candidates.iter().map(|it| it.name.clone());
    Ok(Settled {
        changes: state.changes(kept),
        matching: Matching {
            unexplained: state.unexplained.into_keys().collect(),
            open: state.open.into_iter().map(|it| it.alias).collect(),
            left: left.filter(|name| !taken.contains(name)).collect(),
            found: state.found,
        },
        descriptions: state.descriptions,
        earlier: state.earlier,
    })
}

fn descriptions(it: &Unsettled<'_>) -> BTreeMap<String, Description> {
    let infos = match it.side {
        Side::Input => &it.before.inputs,
        Side::Output => &it.before.outputs,
    };
    let description = |(alias, info): (&String, &TensorInfo)| {
        let default = it.before.defaults.get(alias);
        let description = Description {
            info: info.clone(),
            default: default.filter(|_| it.side == Side::Input).cloned(),
            ..Description::default()
        };
        (alias.clone(), description)
    };
    infos.iter().map(description).collect()
}

/// Graph tensor and rule, by alias.
type Found = BTreeMap<String, (String, Rule)>;

struct State<'a> {
    it: &'a Unsettled<'a>,
    /// Without any map.
    base: Found,
    found: Found,
    open: Vec<Wanted>,
    descriptions: BTreeMap<String, Description>,
    /// Tensors whose alias was dropped, and those that a map feeds with a constant or a feature.
    gone: BTreeSet<String>,
    /// Tensors whose new alias has not replaced a known alias, and whether the earlier alias stays.
    unexplained: BTreeMap<String, bool>,
    /// For each alias that a map names: the number of the last such map, and whether the alias replaces
    /// others there.
    named: BTreeMap<String, (usize, bool)>,
    /// See [`Settled::earlier`].
    earlier: Vec<BTreeMap<String, Option<String>>>,
}

/// A map's claim to a tensor: it gives it an alias, or feeds it with a constant or a feature.
struct Claim<'a> {
    tensor: &'a str,
    alias: Option<&'a str>,
    keep: bool,
    is_new: bool,
}

impl State<'_> {
    fn lay(&mut self, layer: &Layer) -> Result<()> {
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
        for (old, (tensor, rule)) in &before {
            match ports.get(old) {
                Some(port) if port.drop => {
                    self.found.remove(old);
                    self.gone.insert(tensor.clone());
                }
                Some(_) => {}
                None => self.replace(old, *rule, ports, &claims, tensor),
            }
        }
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
                    self.found.insert(alias.clone(), found);
                }
                // It replaces an alias whose tensor has not been found yet.
                None => drop(self.found.remove(alias)),
            }
            self.named
                .insert(alias.clone(), (self.earlier.len(), !port.keep));
        }
        self.descriptions.extend(descriptions);
        let transitions: BTreeMap<&String, Option<String>> = aliases
            .iter()
            .map(|old| (old, self.transition(old, ports, &before, &open)))
            .collect();
        for stage in &mut self.earlier {
            for alias in stage.values_mut() {
                let new = alias.as_ref().and_then(|it| transitions.get(it));
                if let Some(new) = new {
                    alias.clone_from(new);
                }
            }
        }
        Ok(())
    }

    /// Refuses entries that name an alias that a map below removed.
    fn check(&self, ports: &BTreeMap<String, Port>, aliases: &BTreeSet<String>) -> Result<()> {
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
        ports: &BTreeMap<String, Port>,
        claims: &[Claim<'_>],
        before: &Found,
    ) -> BTreeMap<String, Description> {
        let named = |alias: &str| self.named.get(alias).copied();
        let describe = |(alias, port): (&String, &Port)| {
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
                            port: Port::default(),
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

    fn tensor(&self, name: &str) -> Option<&ValueInfo> {
        self.it.tensors.iter().find(|it| it.name == name)
    }

    /// Renames aliases without a tensor as the map says.
    fn rename_open(&mut self, ports: &BTreeMap<String, Port>) {
        let mut open = Vec::new();
        for wanted in &self.open {
            let takers = takers(ports, &wanted.alias);
            let takers: Vec<(&String, &Port)> =
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

    fn claims<'l>(&self, layer: &'l Layer, before: &Found) -> Vec<Claim<'l>> {
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
        ports: &BTreeMap<String, Port>,
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
        ports: &BTreeMap<String, Port>,
        before: &Found,
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
        let claimant = ports.iter().find(|(alias, _)| {
            let found = self.found.get(*alias).map(|(tensor, _)| tensor);
            found.is_some() && found == tensor
        });
        let new = taker.or(claimant);
        new.map(|(alias, _)| alias.clone())
    }

    /// The additional aliases of tensors, each with the newest alias. Clients can send an input under
    /// either alias, so both need the same description.
    fn kept(&mut self) -> Result<Vec<(String, String)>> {
        let is_current = |alias: &String, it: &Self| {
            it.found.contains_key(alias) || it.open.iter().any(|open| open.alias == *alias)
        };
        let known: Vec<String> = self.descriptions.keys().cloned().collect();
        for alias in known {
            if !is_current(&alias, self) {
                self.descriptions.remove(&alias);
            }
        }
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
        for (alias, newest) in kept.iter().filter(|_| is_input) {
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
        Ok(kept)
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
    fn changes(&self, kept: Vec<(String, String)>) -> Vec<AliasChange> {
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

/// The entries that name `old` as the alias that they replace.
fn takers<'a>(
    ports: &'a BTreeMap<String, Port>,
    old: &'a str,
) -> impl Iterator<Item = (&'a String, &'a Port)> {
    ports
        .iter()
        .filter(move |(_, port)| port.takes.as_deref() == Some(old))
}

impl Declaration {
    /// Applies the result for one side.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` if a default cannot be restated in the dtype and axes that a map gives the input.
    pub fn take(&mut self, side: Side, settled: &Settled) -> Result<()> {
        let descriptions = settled.descriptions.iter();
        let infos = descriptions
            .clone()
            .map(|(alias, it)| (alias.clone(), it.info.clone()));
        let infos: BTreeMap<String, TensorInfo> = infos.collect();
        let ports = descriptions
            .clone()
            .map(|(alias, it)| (alias.clone(), it.port.clone()));
        self.earlier
            .resize_with(settled.earlier.len(), Default::default);
        let stages = self.earlier.iter_mut().zip(&settled.earlier);
        match side {
            Side::Input => {
                stages.for_each(|(stage, inputs)| stage.inputs.0.clone_from(inputs));
                self.inputs = ports.collect();
                let of_example = self.example.as_ref().and_then(|example| {
                    let known = self.definition.inputs.remove_entry(&example.alias);
                    known.filter(|(alias, _)| !infos.contains_key(alias))
                });
                self.definition.inputs = infos;
                self.definition.inputs.extend(of_example);
                let before = &self.before;
                let defaults = &mut self.definition.defaults;
                defaults.retain(|alias, _| !before.inputs.contains_key(alias));
                for (alias, it) in descriptions {
                    let Some(mut default) = it.default_now(alias)? else {
                        continue;
                    };
                    if default.dtype == 0 {
                        default.dtype = it.info.dtype;
                    }
                    defaults.insert(alias.clone(), default);
                }
            }
            Side::Output => {
                stages.for_each(|(stage, outputs)| stage.outputs.0.clone_from(outputs));
                self.outputs = ports.collect();
                self.definition.outputs = infos;
            }
        }
        self.changes.extend_from_slice(&settled.changes);
        Ok(())
    }
}
