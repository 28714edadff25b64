//! Applies the aliases that a map gives to tensors.
//!
//! First every alias is matched without any map. A map's alias then replaces the aliases that its
//! tensor has had so far, unless the map keeps them. Aliases that are still open after that are matched
//! with the remaining tensors (`rest`).
//!
//! Not here: the contents of a map (`overlay`), the rules of matching (`matching`).

mod kept;
mod layer;
mod rest;
mod restate;

use std::collections::{BTreeMap, BTreeSet};

use super::SignatureDef;
use super::alias_change::{AliasChange, Side};
use super::declaration::Layer;
use super::description::Description;
use super::matching::{Matching, Rule, Tensors, Wanted, match_aliases};
use base::error::Result;
use proto::tensorflow::TensorInfo;
use runtime::ValueInfo;

/// One side of a signature, matched, with the changes that the maps made to its aliases.
#[derive(Debug, Default)]
pub struct Settled {
    /// Under the aliases that clients use now.
    pub matching: Matching,
    /// Their descriptions.
    pub descriptions: BTreeMap<String, Description>,
    /// The additional aliases of inputs, each with the newest one.
    pub kept: Vec<(String, String)>,
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
    let found: Tensors = base.found.into_iter().chain(through).collect();
    let mut state = State {
        it,
        open: open.cloned().collect(),
        descriptions: descriptions(it),
        base: found.clone(),
        found,
        gone: BTreeSet::new(),
        unexplained: BTreeMap::new(),
        named: BTreeMap::new(),
        introduced: BTreeMap::new(),
        removed: BTreeMap::new(),
        earlier: Vec::new(),
    };
    for layer in layers {
        state.lay(layer)?;
    }
    state.match_rest();
    state.restore_removed();
    state.forget_replaced();
    let kept = match it.side {
        Side::Input => state.kept_inputs()?,
        Side::Output => Vec::new(),
    };
    let taken = state.taken();
    let left = it.candidates.iter().map(|it| it.name.clone());
    Ok(Settled {
        kept,
        changes: state.changes(),
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

/// One side of a signature while its maps are applied.
struct State<'a> {
    it: &'a Unsettled<'a>,
    /// Without any map.
    base: Tensors,
    found: Tensors,
    open: Vec<Wanted>,
    descriptions: BTreeMap<String, Description>,
    /// Tensors whose alias was dropped, and those that a map feeds with a constant or a feature.
    gone: BTreeSet<String>,
    /// Tensors whose new alias has not replaced a known alias, and whether the earlier alias stays.
    unexplained: BTreeMap<String, bool>,
    /// For each alias that a map names: the number of the last such map, and whether the alias replaces
    /// others there.
    named: BTreeMap<String, (usize, bool)>,
    /// The number of the map that gave an alias its tensor; not for aliases that have had it without a map.
    introduced: BTreeMap<String, usize>,
    /// For the index of a map and an alias below it: the number of the map that removed the alias, and the
    /// tensor that it had.
    removed: BTreeMap<(usize, String), (usize, String)>,
    /// See [`Settled::earlier`].
    earlier: Vec<BTreeMap<String, Option<String>>>,
}

impl State<'_> {
    fn tensor(&self, name: &str) -> Option<&ValueInfo> {
        self.it.tensors.iter().find(|it| it.name == name)
    }
}
