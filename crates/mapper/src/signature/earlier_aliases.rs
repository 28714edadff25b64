//! Accepts requests under aliases that a signature map has changed. Kept aliases work for every client;
//! recorded requests can use all earlier aliases.
//!
//! Not here: the changes that a map makes (`alias_change`, `renaming`).

use super::alias_change::{Aliases, EarlierAliases};
use super::mapping::Signature;
use base::error::{Result, ServingError};
use base::request::{RequestInputs, RequestTensor};

/// The present name of an alias. `known` are the aliases below the map that knows all aliases of the request.
/// Without such a map, a valid alias stays as it is, and others are looked up in the outermost map that has
/// them.
fn updated<'a>(
    alias: String,
    known: Option<&Aliases>,
    mut all: impl Iterator<Item = &'a Aliases>,
    is_valid: &dyn Fn(&str) -> bool,
) -> Option<String> {
    let new = match known {
        Some(known) => known.0.get(&alias),
        None if is_valid(&alias) => None,
        None => all.find_map(|it| it.0.get(&alias)),
    };
    match new {
        Some(new) => new.clone(),
        None => Some(alias),
    }
}

impl Signature {
    /// The additional aliases that a map keeps for an input.
    pub fn kept_aliases(&self, alias: &str) -> Vec<String> {
        let kept = self.kept_inputs().filter(|(_, new)| *new == alias);
        kept.map(|(kept, _)| kept.to_owned()).collect()
    }

    /// The aliases that a map keeps for inputs, each with the new alias.
    fn kept_inputs(&self) -> impl Iterator<Item = (&str, &str)> {
        let kept = self.kept.iter();
        kept.map(|(kept, new)| (kept.as_str(), new.as_str()))
    }

    /// Whether a request has an input, under any of its aliases.
    pub(super) fn sends(&self, inputs: &RequestInputs, alias: &str) -> bool {
        let mut kept = self.kept_inputs().filter(|(_, new)| *new == alias);
        inputs.contains_key(alias) || kept.any(|(kept, _)| inputs.contains_key(kept))
    }

    /// Replaces kept aliases in a request by the new ones.
    pub(super) fn with_new_aliases(&self, mut inputs: RequestInputs) -> Result<RequestInputs> {
        for (kept, new) in self.kept_inputs() {
            let Some(tensor) = inputs.remove(kept) else {
                continue;
            };
            if inputs.insert(new.to_owned(), tensor).is_some() {
                return Err(ServingError::invalid_argument(format!(
                    "'{kept}' and '{new}' are two aliases of one input: send one of them"
                )));
            }
        }
        Ok(inputs)
    }

    /// Updates a request, such as a recorded one, that was made before a map changed the aliases. A request
    /// that is valid now stays as it is.
    pub fn update(&self, inputs: &mut RequestInputs, output_filter: &mut Vec<String>) {
        if self.accepts(inputs, output_filter) {
            return;
        }
        let sent = inputs.keys().cloned().collect::<Vec<String>>();
        let has_inputs = |it: &&EarlierAliases| it.inputs.has(&sent);
        let has_outputs = |it: &&EarlierAliases| it.outputs.has(output_filter);
        let stages = || self.earlier.iter().rev();
        let both = stages().find(|it| has_inputs(it) && has_outputs(it));
        let of_inputs = both.or_else(|| stages().find(has_inputs));
        let of_outputs = both.or_else(|| stages().find(has_outputs));
        let is_kept = |alias: &str| self.kept_inputs().any(|(kept, _)| kept == alias);
        let is_input =
            |alias: &str| self.inputs.iter().any(|it| it.alias == alias) || is_kept(alias);
        let is_output = |alias: &str| self.outputs.iter().any(|it| it.alias == alias);
        let all = || stages().map(|it| &it.inputs);
        for (alias, tensor) in std::mem::take(inputs) {
            let new = updated(alias, of_inputs.map(|it| &it.inputs), all(), &is_input);
            if let Some(new) = new {
                inputs.entry(new).or_insert(tensor);
            }
        }
        let all = || stages().map(|it| &it.outputs);
        let before = std::mem::take(output_filter).into_iter();
        let now = before.filter_map(|alias| {
            updated(alias, of_outputs.map(|it| &it.outputs), all(), &is_output)
        });
        output_filter.extend(now);
    }

    /// Whether a request is valid under the present aliases.
    fn accepts(&self, inputs: &RequestInputs, output_filter: &[String]) -> bool {
        let input_of = |alias: &String| {
            let mut kept = self.kept_inputs();
            let new = kept.find(|(kept, _)| kept == alias);
            let new = new.map_or(alias.as_str(), |(_, new)| new);
            self.inputs.iter().find(|it| it.alias == new)
        };
        let mut sent = inputs.iter();
        let mut missing = self.inputs.iter().filter(|it| it.default.is_none());
        sent.all(|(alias, tensor)| match (input_of(alias), tensor) {
            (Some(input), RequestTensor::Valid(tensor)) => input.dtype == tensor.dtype(),
            (input, _) => input.is_some(),
        }) && missing.all(|it| self.sends(inputs, &it.alias))
            && output_filter
                .iter()
                .all(|alias| self.outputs.iter().any(|it| it.alias == *alias))
    }
}
