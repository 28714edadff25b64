//! Finds the graph tensor behind every alias of a signature, by name or as the only one that fits.
//!
//! Exporters rename tensors and do not keep their order, so nothing is matched by position alone. Ambiguous
//! aliases stay open; `diagnosis` reports them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use base::tensor::DataType;
use proto::tensorflow::{TensorInfo, tensor_info};
use runtime::ValueInfo;

/// The rule that matched an alias with a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The signature map names the tensor.
    Map,
    /// The graph's name is the alias.
    Alias,
    /// The graph's name is that of the SavedModel's tensor (`x:0`).
    TensorName,
    /// The graph's name is that of the SavedModel's operation (`x`).
    OperationName,
    /// The graph's name is `<signature>_<alias>`, with or without `:0`.
    SignatureAlias,
    /// The graph's name is the alias as tf2onnx normalises it.
    CleanedAlias,
    /// The k-th output of a function, outputs sorted by alias.
    OutputNumber,
    /// The only tensor left with that dtype and a compatible shape.
    OnlyOneLeft,
    /// Passed through from an input on the same tensor of the SavedModel.
    PassThrough,
    /// The tensor of an input of the SavedModel, which TensorFlow does not fetch.
    Fed,
    /// Fed with features parsed from examples.
    Examples,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Map => "signature map",
            Self::Alias => "same name",
            Self::TensorName => "original tensor's name",
            Self::OperationName => "original operation's name",
            Self::SignatureAlias => "signature and alias",
            Self::CleanedAlias => "cleaned alias",
            Self::OutputNumber => "number of the output",
            Self::OnlyOneLeft => "only one left that fits",
            Self::PassThrough => "handed through",
            Self::Fed => "an input's tensor: requests for it fail, as in TensorFlow",
            Self::Examples => "tf.Example",
        })
    }
}

/// An alias to find a tensor for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The client's name.
    pub alias: String,
    /// Its metadata in the signature.
    pub info: TensorInfo,
}

/// Graph tensor and rule, by alias.
pub type Tensors = BTreeMap<String, (String, Rule)>;

/// The result of matching.
#[derive(Clone, Debug, Default)]
pub struct Matching {
    /// The tensors that were found.
    pub found: Tensors,
    /// Aliases without a tensor.
    pub open: Vec<String>,
    /// Names of the tensors without an alias.
    pub left: Vec<String>,
    /// Names of the tensors that have a new alias from a map and whose earlier alias is not known.
    pub unexplained: Vec<String>,
}

/// Matches aliases with the graph's inputs or with its outputs.
///
/// The last rule considers only the tensors in `likely`: those that the signature needs.
pub(super) fn match_aliases(
    signature: &str,
    wanted: &[Wanted],
    candidates: &[ValueInfo],
    likely: &dyn Fn(&str) -> bool,
) -> Matching {
    let mut matcher = Matcher::new(wanted, candidates);
    matcher.apply_names(signature);
    matcher.apply_output_numbers(wanted, candidates);
    matcher.apply_only_one_left(likely);
    matcher.into_matching()
}

/// The same for the aliases and tensors that are left, without the rule for output numbers: here the
/// numbers are not meaningful.
pub(super) fn match_rest(
    signature: &str,
    wanted: &[Wanted],
    candidates: &[ValueInfo],
    likely: &dyn Fn(&str) -> bool,
) -> Matching {
    let mut matcher = Matcher::new(wanted, candidates);
    matcher.apply_names(signature);
    matcher.apply_only_one_left(likely);
    matcher.into_matching()
}

/// Whether a tensor's dtype and shape are those that the signature has for an alias. Names do not matter.
pub(super) fn looks_like(wanted: &Wanted, candidate: &ValueInfo) -> bool {
    let groups = groups(std::slice::from_ref(wanted));
    groups.iter().all(|it| it.is_compatible_with(candidate))
}

/// Aliases of the same SavedModel tensor, which are matched together.
struct Group {
    aliases: Vec<String>,
    /// `TensorInfo.name`.
    name: String,
    dtype: Option<DataType>,
    shape: Option<Vec<i64>>,
}

fn groups(wanted: &[Wanted]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for it in wanted {
        let name = tensor_name(&it.info);
        match groups
            .iter_mut()
            .find(|group| !name.is_empty() && group.name == name)
        {
            Some(group) => group.aliases.push(it.alias.clone()),
            None => groups.push(Group {
                aliases: vec![it.alias.clone()],
                name: name.to_owned(),
                dtype: DataType::from_number(it.info.dtype),
                shape: known_shape(&it.info),
            }),
        }
    }
    groups
}

/// `TensorInfo.name`; empty for tensors of several parts.
pub fn tensor_name(info: &TensorInfo) -> &str {
    match &info.encoding {
        Some(tensor_info::Encoding::Name(name)) => name,
        _ => "",
    }
}

/// The declared sizes, -1 for any; `None` if the rank is not known.
pub fn known_shape(info: &TensorInfo) -> Option<Vec<i64>> {
    let shape = info.tensor_shape.as_ref().filter(|it| !it.unknown_rank)?;
    Some(shape.dim.iter().map(|dim| dim.size).collect())
}

impl Group {
    fn has_name(&self, rule: Rule, signature: &str, name: &str) -> bool {
        let unindexed = name.strip_suffix(":0").unwrap_or(name);
        let mut aliases = self.aliases.iter();
        match rule {
            Rule::Alias => aliases.any(|alias| alias == name),
            Rule::TensorName => self.name == name,
            Rule::OperationName => self.name.strip_suffix(":0") == Some(name),
            Rule::SignatureAlias => {
                aliases.any(|alias| format!("{signature}_{alias}") == unindexed)
            }
            Rule::CleanedAlias => aliases.any(|alias| clean(alias) == unindexed),
            _ => false,
        }
    }

    /// Whether the tensor's dtype can be cast to the signature's and back, and the ranks fit.
    fn converts_from(&self, candidate: &ValueInfo) -> bool {
        let (Some(own), Some(other)) = (self.dtype, candidate.dtype) else {
            return false;
        };
        is_convertible(own, other) && ranks_fit(self.shape.as_deref(), candidate.shape.as_deref())
    }

    /// Whether the tensor's dtype and shape are those of the signature. Names do not matter.
    fn is_compatible_with(&self, candidate: &ValueInfo) -> bool {
        let (Some(own), Some(other)) = (self.dtype, candidate.dtype) else {
            return false;
        };
        // tf2onnx converts bfloat16 to float16.
        let same = own == other || (own == DataType::BFloat16 && other == DataType::Half);
        same && shapes_fit(self.shape.as_deref(), candidate.shape.as_deref())
    }
}

/// Whether values of one type can be cast to the other.
pub fn is_convertible(one: DataType, other: DataType) -> bool {
    let is_number = |dtype: DataType| {
        !matches!(
            dtype,
            DataType::String
                | DataType::Resource
                | DataType::Variant
                | DataType::Complex64
                | DataType::Complex128
        )
    };
    one == other || (is_number(one) && is_number(other))
}

/// tf2onnx writes an unknown rank as an empty list of dimensions, so a graph tensor without dimensions fits
/// every rank.
fn ranks_fit(wanted: Option<&[i64]>, declared: Option<&[i64]>) -> bool {
    match (wanted, declared) {
        (Some(wanted), Some(declared)) if !declared.is_empty() => wanted.len() == declared.len(),
        _ => true,
    }
}

fn shapes_fit(wanted: Option<&[i64]>, declared: Option<&[i64]>) -> bool {
    let (Some(wanted), Some(declared)) = (wanted, declared) else {
        return true;
    };
    let mut sizes = wanted.iter().zip(declared);
    ranks_fit(Some(wanted), Some(declared))
        && sizes.all(|(&a, &b)| a == b || a < 0 || b < 0 || declared.is_empty())
}

/// The names that tf2onnx gives the inputs of a TensorFlow 1 model: the alias in lower case, with `_` for
/// all characters other than letters and digits.
fn clean(alias: &str) -> String {
    let clean = |c: char| if c.is_alphanumeric() { c } else { '_' };
    alias.to_lowercase().chars().map(clean).collect()
}

struct Matcher<'a> {
    /// Not matched yet.
    groups: Vec<Group>,
    /// Not taken yet.
    candidates: Vec<&'a ValueInfo>,
    found: BTreeMap<String, (String, Rule)>,
}

impl<'a> Matcher<'a> {
    fn new(wanted: &[Wanted], candidates: &'a [ValueInfo]) -> Self {
        Self {
            groups: groups(wanted),
            candidates: candidates.iter().collect(),
            found: BTreeMap::new(),
        }
    }

    fn into_matching(self) -> Matching {
        let open = self.groups.into_iter().flat_map(|group| group.aliases);
        let left = self.candidates.into_iter().map(|it| it.name.clone());
        Matching {
            open: open.collect(),
            left: left.collect(),
            unexplained: Vec::new(),
            found: self.found,
        }
    }

    fn apply_names(&mut self, signature: &str) {
        for rule in [
            Rule::Alias,
            Rule::TensorName,
            Rule::OperationName,
            Rule::SignatureAlias,
            Rule::CleanedAlias,
        ] {
            self.apply(rule, &|group, candidate| {
                group.has_name(rule, signature, &candidate.name) && group.converts_from(candidate)
            });
        }
    }

    fn apply_only_one_left(&mut self, likely: &dyn Fn(&str) -> bool) {
        while self.apply(Rule::OnlyOneLeft, &|group, candidate| {
            likely(&candidate.name) && group.is_compatible_with(candidate)
        }) {}
    }

    /// Assigns each group the only candidate that `fits` it, unless two groups want the same one. Returns
    /// whether anything was matched.
    fn apply(&mut self, rule: Rule, fits: &dyn Fn(&Group, &ValueInfo) -> bool) -> bool {
        let mut claims: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (index, group) in self.groups.iter().enumerate() {
            let fitting = (0..self.candidates.len()).filter(|&it| fits(group, self.candidates[it]));
            let fitting: Vec<usize> = fitting.collect();
            // Several aliases of one tensor can each have a graph tensor of their own name.
            let one_each = rule == Rule::Alias && fitting.len() <= group.aliases.len();
            if fitting.len() == 1 || (one_each && !fitting.is_empty()) {
                for candidate in fitting {
                    claims.entry(candidate).or_default().push(index);
                }
            }
        }
        let mut matched: BTreeMap<usize, String> = BTreeMap::new();
        let mut taken = BTreeSet::new();
        for (candidate, claimants) in claims {
            if let [group] = claimants[..] {
                let name = &self.candidates[candidate].name;
                matched.entry(group).or_insert_with(|| name.clone());
                taken.insert(name.clone());
            }
        }
        self.settle(rule, matched, &taken)
    }

    fn settle(
        &mut self,
        rule: Rule,
        matched: BTreeMap<usize, String>,
        taken: &BTreeSet<String>,
    ) -> bool {
        for (group, tensor) in &matched {
            for alias in &self.groups[*group].aliases {
                self.found.insert(alias.clone(), (tensor.clone(), rule));
            }
        }
        let mut index = 0;
        self.groups.retain(|_| {
            index += 1;
            !matched.contains_key(&(index - 1))
        });
        self.candidates
            .retain(|candidate| !taken.contains(&candidate.name));
        !matched.is_empty()
    }

    /// Outputs named `Identity_2` or `StatefulPartitionedCall:2` come from a Keras or TensorFlow 2
    /// function, which sorts its outputs by alias.
    fn apply_output_numbers(&mut self, wanted: &[Wanted], candidates: &[ValueInfo]) {
        let mut aliases: Vec<&Wanted> = wanted.iter().collect();
        aliases.sort_by(|a, b| a.alias.cmp(&b.alias));
        let mut by_number: BTreeMap<usize, &ValueInfo> = BTreeMap::new();
        for candidate in candidates {
            let Some(number) = output_number(&candidate.name) else {
                return;
            };
            by_number.insert(number, candidate);
        }
        let complete = by_number.keys().copied().eq(0..aliases.len());
        if !complete || by_number.len() != candidates.len() {
            return;
        }
        let fits = |(wanted, candidate): (&&Wanted, &&ValueInfo)| {
            let group = groups(std::slice::from_ref(*wanted));
            group.iter().all(|group| {
                let same = group.dtype == candidate.dtype
                    || (group.dtype, candidate.dtype)
                        == (Some(DataType::BFloat16), Some(DataType::Half));
                same && ranks_fit(group.shape.as_deref(), candidate.shape.as_deref())
            })
        };
        if !aliases.iter().zip(by_number.values()).all(fits) {
            return;
        }
        let number_of = |alias: &String| aliases.iter().position(|it| it.alias == *alias);
        let mut matched = BTreeMap::new();
        let mut taken = BTreeSet::new();
        for (index, group) in self.groups.iter().enumerate() {
            for number in group.aliases.iter().filter_map(number_of) {
                let name = &by_number[&number].name;
                if self
                    .candidates
                    .iter()
                    .any(|candidate| candidate.name == *name)
                {
                    matched.entry(index).or_insert_with(|| name.clone());
                    taken.insert(name.clone());
                }
            }
        }
        self.settle(Rule::OutputNumber, matched, &taken);
    }
}

/// The k of `Identity`, `Identity_k`, `StatefulPartitionedCall:k`, with or without `:0`.
fn output_number(name: &str) -> Option<usize> {
    for function in ["StatefulPartitionedCall", "PartitionedCall"] {
        if let Some(rest) = name.strip_prefix(function) {
            return match rest {
                "" => Some(0),
                rest => rest.strip_prefix(':')?.parse().ok(),
            };
        }
    }
    let rest = name.strip_prefix("Identity")?;
    match rest.strip_suffix(":0").unwrap_or(rest) {
        "" => Some(0),
        rest => rest.strip_prefix('_')?.parse().ok(),
    }
}
