//! What becomes of a signature's aliases when a map gives their tensors others.
//!
//! First every alias is matched as if there were no map. A map's alias then takes the place of those
//! that its tensor has had so far, unless it keeps them; what is still open after that is matched with
//! the tensors that are left.
//!
//! Not here: what a map says (`overlay`), the rules of matching (`matching`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::declaration::{Declaration, Layer, Port};
use super::matching::{Matching, Rule, Wanted, looks_like, match_aliases, match_rest, tensor_name};
use crate::proto::tensorflow::{TensorInfo, tensor_info};
use crate::runtime::ValueInfo;

/// One of a signature's two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What clients send.
    Input,
    /// What clients get.
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

/// What a signature map did to an alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AliasChange {
    /// Of which side.
    pub side: Side,
    /// The alias before.
    pub old: String,
    /// The alias that its tensor has now; `None`: the alias is gone, and nothing took its place.
    pub new: Option<String>,
    /// Whether clients may still use the old one.
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

/// One side of a signature, matched, and what the maps did to its aliases.
#[derive(Debug, Default)]
pub struct Settled {
    /// Under the aliases that clients use now.
    pub matching: Matching,
    /// In the order of the maps.
    pub changes: Vec<AliasChange>,
}

/// One side of a signature before its map, and the graph's side that it is matched with.
pub struct Unsettled<'a> {
    /// The signature's name.
    pub signature: &'a str,
    /// Which side it is.
    pub side: Side,
    /// The aliases without any map.
    pub wanted: &'a [Wanted],
    /// Outputs that are handed through from inputs, which no graph tensor is looked for.
    pub handed_through: &'a BTreeMap<String, String>,
    /// The graph's tensors.
    pub candidates: &'a [ValueInfo],
    /// As for [`match_aliases`].
    pub likely: &'a dyn Fn(&str) -> bool,
}

/// Matches one side of a signature with its graph, map by map.
pub fn settle(it: &Unsettled<'_>, layers: &[Layer]) -> Settled {
    let base = match_aliases(it.signature, it.wanted, it.candidates, it.likely);
    let through = it.handed_through.iter();
    let through = through.map(|(alias, name)| (alias.clone(), (name.clone(), Rule::PassThrough)));
    let open = it.wanted.iter().filter(|it| base.open.contains(&it.alias));
    let mut state = State {
        side: it.side,
        wanted: it.wanted,
        open: open.cloned().collect(),
        found: base.found.into_iter().chain(through).collect(),
        gone: BTreeSet::new(),
        unexplained: Vec::new(),
        changes: Vec::new(),
    };
    for layer in layers {
        state.lay(layer);
    }
    state.match_rest(it);
    state.replace_rest(it.candidates);
    let taken = state.taken();
    let left = it.candidates.iter().map(|it| it.name.clone());
    Settled {
        matching: Matching {
            open: state.open.into_iter().map(|it| it.alias).collect(),
            left: left.filter(|name| !taken.contains(name)).collect(),
            found: state.found,
        },
        changes: state.changes,
    }
}

struct State<'a> {
    side: Side,
    wanted: &'a [Wanted],
    found: BTreeMap<String, (String, Rule)>,
    open: Vec<Wanted>,
    /// Tensors whose alias was dropped or that a map feeds otherwise.
    gone: BTreeSet<String>,
    /// New aliases, each with its tensor, that took no alias's place.
    unexplained: Vec<(String, String)>,
    changes: Vec<AliasChange>,
}

/// That a map gives a tensor an alias, or feeds it otherwise.
struct Claim<'a> {
    tensor: &'a str,
    alias: Option<&'a str>,
    keep: bool,
    is_new: bool,
}

impl State<'_> {
    fn lay(&mut self, layer: &Layer) {
        let ports = layer.ports(self.side);
        let before = self.found.clone();
        let mut pinned = Vec::new();
        for (alias, port) in ports {
            if port.drop {
                self.drop_alias(alias);
            } else if let Some(old) = &port.takes {
                pinned.extend(self.take_over(old, alias, port, ports, &before));
            } else if let Some(tensor) = &port.tensor {
                pinned.push((alias.clone(), (tensor.clone(), Rule::Map)));
            }
        }
        let claims = self.claims(layer, &before);
        for (old, (tensor, rule)) in &before {
            if !ports.contains_key(old) {
                self.replace(old, *rule, &claims, tensor);
            }
        }
        for claim in claims.iter().filter(|claim| claim.is_new) {
            let explained = before.values().any(|(tensor, _)| tensor == claim.tensor);
            match claim.alias {
                None => drop(self.gone.insert(claim.tensor.to_owned())),
                Some(alias) if !explained && !claim.keep => {
                    let unexplained = (alias.to_owned(), claim.tensor.to_owned());
                    self.unexplained.push(unexplained);
                }
                Some(_) => {}
            }
        }
        for (alias, found) in pinned {
            self.open.retain(|it| it.alias != alias);
            self.found.insert(alias, found);
        }
    }

    fn drop_alias(&mut self, alias: &str) {
        if let Some((tensor, _)) = self.found.remove(alias) {
            self.gone.insert(tensor);
        }
        self.open.retain(|it| it.alias != alias);
        self.note(alias, None, false);
    }

    /// Gives `alias` what `old` has had so far.
    fn take_over(
        &mut self,
        old: &str,
        alias: &str,
        port: &Port,
        ports: &BTreeMap<String, Port>,
        before: &BTreeMap<String, (String, Rule)>,
    ) -> Option<(String, (String, Rule))> {
        let is_named = ports.contains_key(old);
        let open = self.open.iter().position(|it| it.alias == old);
        if let Some(index) = open {
            let mut wanted = self.open[index].clone();
            wanted.alias = alias.to_owned();
            if is_named || port.keep {
                self.open.push(wanted);
            } else {
                self.open[index] = wanted;
            }
        }
        if !is_named {
            if !port.keep {
                self.found.remove(old);
            }
            self.note(old, Some(alias), port.keep);
        }
        let (tensor, rule) = before.get(old)?;
        let rule = match rule {
            Rule::PassThrough => Rule::PassThrough,
            _ => Rule::Map,
        };
        Some((alias.to_owned(), (tensor.clone(), rule)))
    }

    fn claims<'l>(
        &self,
        layer: &'l Layer,
        before: &BTreeMap<String, (String, Rule)>,
    ) -> Vec<Claim<'l>> {
        let ports = layer.ports(self.side).iter();
        let claims = ports.filter_map(|(alias, port)| {
            let tensor = port.tensor.as_deref()?;
            let own = before.get(alias).is_some_and(|(own, _)| own == tensor);
            (!own).then_some(Claim {
                tensor,
                alias: Some(alias),
                keep: port.keep,
                is_new: !self.wanted.iter().any(|it| it.alias == *alias),
            })
        });
        let fed = layer.fed.iter().filter(|_| self.side == Side::Input);
        let fed = fed.map(|tensor| Claim {
            tensor,
            alias: None,
            keep: false,
            is_new: true,
        });
        claims.chain(fed).collect()
    }

    /// Replaces `old` where a claim is for its tensor.
    fn replace(&mut self, old: &str, rule: Rule, claims: &[Claim<'_>], tensor: &str) {
        let claims = claims.iter().filter(|claim| claim.tensor == tensor);
        let claims: Vec<&Claim<'_>> = claims.collect();
        if claims.is_empty() || !self.found.contains_key(old) {
            return;
        }
        let Some(claim) = claims.iter().find(|claim| !claim.keep) else {
            let kept = claims[0].alias;
            self.note(old, kept, true);
            return;
        };
        self.found.remove(old);
        let is_new = claims.iter().any(|claim| claim.is_new);
        let wanted = self.wanted.iter().find(|it| it.alias == old);
        match wanted {
            // It was the only one left that fits, before the map gave it to another alias.
            Some(wanted) if rule == Rule::OnlyOneLeft && !is_new => self.open.push(wanted.clone()),
            _ => self.note(old, claim.alias, false),
        }
    }

    /// Matches what is open with the tensors that are left.
    fn match_rest(&mut self, it: &Unsettled<'_>) {
        if self.open.is_empty() {
            return;
        }
        let rest = match_rest(
            it.signature,
            &self.open,
            &self.free(it.candidates),
            it.likely,
        );
        self.open.retain(|it| rest.open.contains(&it.alias));
        self.found.extend(rest.found);
    }

    /// Aliases for which only tensors with new aliases are left were replaced by these.
    fn replace_rest(&mut self, candidates: &[ValueInfo]) {
        let free = self.free(candidates);
        let claimed: Vec<&ValueInfo> = candidates
            .iter()
            .filter(|it| self.unexplained.iter().any(|(_, name)| *name == it.name))
            .collect();
        let fits = |it: &&Wanted| {
            !free.iter().any(|value| looks_like(it, value))
                && claimed.iter().any(|value| looks_like(it, value))
        };
        let replaced: Vec<Wanted> = self.open.iter().filter(fits).cloned().collect();
        let tensors: BTreeSet<&str> = replaced.iter().map(original_of).collect();
        if replaced.is_empty() || tensors.len() > self.unexplained.len() {
            return;
        }
        let new = match self.unexplained.as_slice() {
            [(alias, _)] => Some(alias.clone()),
            _ => None,
        };
        for it in &replaced {
            self.open.retain(|open| open.alias != it.alias);
            self.note(&it.alias, new.as_deref(), false);
        }
    }

    fn free(&self, candidates: &[ValueInfo]) -> Vec<ValueInfo> {
        let taken = self.taken();
        let free = candidates.iter().filter(|it| !taken.contains(&it.name));
        free.cloned().collect()
    }

    fn taken(&self) -> BTreeSet<String> {
        let found = self.found.values().map(|(tensor, _)| tensor);
        found.chain(&self.gone).cloned().collect()
    }

    fn note(&mut self, old: &str, new: Option<&str>, kept: bool) {
        self.changes.push(AliasChange {
            side: self.side,
            old: old.to_owned(),
            new: new.map(str::to_owned),
            kept,
        });
    }
}

/// What tells whether two aliases were of one tensor.
fn original_of(wanted: &Wanted) -> &str {
    match tensor_name(&wanted.info) {
        "" => &wanted.alias,
        name => name,
    }
}

impl Declaration {
    /// Takes over what became of one side's aliases: an alias that takes another's place is described
    /// as that one was, apart from what the map says about it.
    pub fn take(&mut self, changes: &[AliasChange]) {
        for change in changes {
            if let Some(new) = &change.new {
                self.inherit(change.side, &change.old, new);
            }
            match (change.kept, &change.new) {
                (true, Some(new)) if change.side == Side::Input => {
                    self.describe_as(&change.old, new)
                }
                (true, _) => {}
                (false, _) => self.remove(change.side, &change.old),
            }
        }
        self.changes.extend_from_slice(changes);
    }

    fn inherit(&mut self, side: Side, old: &str, new: &str) {
        let (infos, ports) = match side {
            Side::Input => (&mut self.definition.inputs, &mut self.inputs),
            Side::Output => (&mut self.definition.outputs, &mut self.outputs),
        };
        let before = ports.get(old).cloned().unwrap_or_default();
        let Some(port) = ports.get_mut(new) else {
            return;
        };
        port.is_stacked_first |= before.is_stacked_first;
        let is_arranged = !port.transpose.is_empty() || !port.reshape.is_empty();
        if let (Some(old), Some(new)) = (infos.get(old).cloned(), infos.get_mut(new)) {
            inherit_info(new, old, port, is_arranged);
        }
        if !is_arranged {
            port.transpose = before.transpose;
            port.reshape = before.reshape;
        }
        port.labels = port.labels.take().or(before.labels);
        if port.top_k == 0 {
            port.top_k = before.top_k;
        }
        let defaults = &mut self.definition.defaults;
        if side == Side::Input
            && !defaults.contains_key(new)
            && let Some(default) = defaults.get(old).cloned()
        {
            defaults.insert(new.to_owned(), default);
            port.has_default = before.has_default;
        }
    }

    /// Of two aliases of one input clients send either, so both are described alike.
    fn describe_as(&mut self, kept: &str, new: &str) {
        let infos = &mut self.definition.inputs;
        if let (Some(new), Some(kept)) = (infos.get(new).cloned(), infos.get_mut(kept)) {
            kept.dtype = new.dtype;
            kept.tensor_shape = new.tensor_shape;
        }
    }

    fn remove(&mut self, side: Side, alias: &str) {
        match side {
            Side::Input => {
                self.definition.inputs.remove(alias);
                self.definition.defaults.remove(alias);
                self.inputs.remove(alias);
            }
            Side::Output => {
                self.definition.outputs.remove(alias);
                self.outputs.remove(alias);
            }
        }
    }
}

fn inherit_info(new: &mut TensorInfo, old: TensorInfo, port: &Port, is_arranged: bool) {
    if !port.says_dtype {
        new.dtype = old.dtype;
    }
    if !port.says_shape && !is_arranged {
        new.tensor_shape = old.tensor_shape;
    }
    if let Some(tensor_info::Encoding::Name(name)) = old.encoding {
        new.encoding = Some(tensor_info::Encoding::Name(name));
    }
}
