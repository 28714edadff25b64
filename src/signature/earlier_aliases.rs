//! Requests under the aliases that a signature map has changed: those that it keeps, for every client;
//! all of them, for requests that were recorded before.
//!
//! Not here: what a map changes (`renaming`).

use super::{RequestInputs, Side, Signature};
use crate::error::{Result, ServingError};

impl Signature {
    /// The further aliases that a map keeps for an input.
    pub fn kept_aliases(&self, alias: &str) -> Vec<String> {
        let kept = self.kept_inputs().filter(|(_, new)| *new == alias);
        kept.map(|(kept, _)| kept.to_owned()).collect()
    }

    /// The aliases that a map keeps for inputs, each with the one it gives it.
    fn kept_inputs(&self) -> impl Iterator<Item = (&str, &str)> {
        let changes = self.changes.iter();
        let kept = changes.filter(|it| it.side == Side::Input && it.kept);
        kept.filter_map(|it| Some((it.old.as_str(), it.new.as_deref()?)))
    }

    /// Whether a request has an input, under whichever of its aliases.
    pub(super) fn sends(&self, inputs: &RequestInputs, alias: &str) -> bool {
        let mut kept = self.kept_inputs().filter(|(_, new)| *new == alias);
        inputs.contains_key(alias) || kept.any(|(kept, _)| inputs.contains_key(kept))
    }

    /// A request with kept aliases replaced by the new ones.
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

    /// A request that was made before a map changed the aliases, such as a recorded one, as it would
    /// be made now.
    pub fn update(&self, inputs: &mut RequestInputs, output_filter: &mut Vec<String>) {
        for change in &self.changes {
            match (change.side, &change.new) {
                (Side::Input, Some(new)) if !inputs.contains_key(new) => {
                    if let Some(tensor) = inputs.remove(&change.old) {
                        inputs.insert(new.clone(), tensor);
                    }
                }
                (Side::Input, None) if self.inputs.iter().all(|it| it.alias != change.old) => {
                    inputs.remove(&change.old);
                }
                (Side::Output, Some(new)) => {
                    let asked = output_filter.iter_mut().filter(|it| **it == change.old);
                    asked.for_each(|it| it.clone_from(new));
                }
                (Side::Output, None) => output_filter.retain(|it| *it != change.old),
                (Side::Input, _) => {}
            }
        }
    }
}
