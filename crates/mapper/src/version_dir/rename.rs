//! Other aliases for the inputs and outputs of imported signatures: `OLD=NEW`, as entries of a signature map.
//!
//! `OLD` is an alias of any signature; `input:x` and `output:x` distinguish an input from an output of that
//! name, and `serving_default:x` names one signature.

use std::collections::BTreeMap;

use crate::signature::{Side, SignatureDef};
use base::error::{Result, ServingError};
use proto::onnx_model_server::{Input as MapInput, Output as MapOutput, Signature as MapSignature};

/// New aliases by signature, side and old alias.
pub(super) struct Renames(BTreeMap<(String, Side), BTreeMap<String, String>>);

impl Renames {
    /// Finds the aliases that `texts` mean.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` for a text of another form, for an alias that does not exist or that can mean two
    /// things, and for two inputs or two outputs of one name.
    pub(super) fn find(
        texts: &[String],
        signatures: &BTreeMap<String, SignatureDef>,
    ) -> Result<Self> {
        let mut renames = Self(BTreeMap::new());
        for text in texts {
            let (old, new) = text
                .rsplit_once('=')
                .filter(|(old, new)| !old.is_empty() && !new.is_empty())
                .ok_or_else(|| refused(text, "it is not of the form OLD=NEW"))?;
            let mut is_found = false;
            for (name, definition) in signatures {
                let sides =
                    aliases(definition).filter(|(side, alias)| meets(old, name, *side, alias));
                let sides: Vec<_> = sides.collect();
                let (side, alias) = match sides.as_slice() {
                    [] => continue,
                    [only] => *only,
                    _ => {
                        let text_of = |side| format!("{side}:{old}={new}");
                        return Err(refused(
                            text,
                            &format!(
                                "signature '{name}' has an input and an output of that name; use {} or {}",
                                text_of(Side::Input),
                                text_of(Side::Output)
                            ),
                        ));
                    }
                };
                is_found = true;
                let of_side = renames.0.entry((name.clone(), side)).or_default();
                let known = of_side
                    .entry(alias.to_owned())
                    .or_insert_with(|| new.to_owned());
                if known != new {
                    return Err(refused(
                        text,
                        &format!("'{alias}' is already renamed to '{known}'"),
                    ));
                }
            }
            if !is_found {
                return Err(refused(text, &unknown(old, signatures)));
            }
        }
        renames.check(signatures)?;
        Ok(renames)
    }

    fn check(&self, signatures: &BTreeMap<String, SignatureDef>) -> Result<()> {
        for ((name, side), of_side) in &self.0 {
            let known = aliases(&signatures[name]).filter(|(it, _)| it == side);
            let mut names: Vec<&str> = known
                .map(|(_, alias)| of_side.get(alias).map_or(alias, String::as_str))
                .collect();
            names.sort_unstable();
            if let Some(twice) = names.windows(2).find(|it| it[0] == it[1]) {
                return Err(ServingError::invalid_argument(format!(
                    "--rename: signature '{name}' would have two {side}s '{}'",
                    twice[0]
                )));
            }
        }
        Ok(())
    }

    /// Whether anything of a signature is renamed.
    pub(super) fn concern(&self, signature: &str) -> bool {
        self.0.keys().any(|(name, _)| name == signature)
    }

    /// Enters the new aliases of the signature that `map` is for. `map` already has the tensors of aliases that
    /// have another name in the graph.
    pub(super) fn enter(&self, map: &mut MapSignature) {
        let none = BTreeMap::new();
        let of_side = |side| self.0.get(&(map.name.clone(), side)).unwrap_or(&none);
        let (inputs, outputs) = (of_side(Side::Input), of_side(Side::Output));
        // Found before any changes, because two aliases can swap places.
        let found: Vec<_> = inputs
            .keys()
            .map(|old| map.input.iter().position(|it| it.alias == *old))
            .collect();
        for ((old, new), found) in inputs.iter().zip(found) {
            match found.and_then(|index| map.input.get_mut(index)) {
                Some(entry) => entry.alias.clone_from(new),
                None => map.input.push(MapInput {
                    alias: new.clone(),
                    tensor: old.clone(),
                    ..MapInput::default()
                }),
            }
        }
        let mut dropped = Vec::new();
        let found: Vec<_> = outputs
            .keys()
            .map(|old| map.output.iter().position(|it| it.alias == *old))
            .collect();
        for ((old, new), found) in outputs.iter().zip(found) {
            match found.and_then(|index| map.output.get_mut(index)) {
                Some(entry) => {
                    entry.alias.clone_from(new);
                    dropped.push(old);
                }
                None => map.output.push(MapOutput {
                    alias: new.clone(),
                    tensor: old.clone(),
                    ..MapOutput::default()
                }),
            }
        }
        // The old alias of an output that has the name of an input would stay as that input, handed through.
        for old in dropped {
            if !outputs.values().any(|new| new == old) {
                map.output.push(MapOutput {
                    alias: old.clone(),
                    drop: true,
                    ..MapOutput::default()
                });
            }
        }
    }
}

/// The aliases of a signature, with their sides.
fn aliases(definition: &SignatureDef) -> impl Iterator<Item = (Side, &str)> {
    let inputs = definition
        .inputs
        .keys()
        .map(|it| (Side::Input, it.as_str()));
    let outputs = definition
        .outputs
        .keys()
        .map(|it| (Side::Output, it.as_str()));
    inputs.chain(outputs)
}

/// Whether `old` means this alias.
fn meets(old: &str, signature: &str, side: Side, alias: &str) -> bool {
    let with_side = format!("{side}:{alias}");
    let in_signature = old
        .strip_prefix(signature)
        .and_then(|it| it.strip_prefix(':'));
    [Some(old), in_signature]
        .into_iter()
        .flatten()
        .any(|it| it == alias || it == with_side)
}

fn refused(text: &str, reason: &str) -> ServingError {
    ServingError::invalid_argument(format!("--rename {text}: {reason}"))
}

fn unknown(old: &str, signatures: &BTreeMap<String, SignatureDef>) -> String {
    let described = signatures.iter().map(|(name, definition)| {
        let names = |side| {
            let of_side = aliases(definition).filter(|(it, _)| *it == side);
            let names: Vec<&str> = of_side.map(|(_, alias)| alias).collect();
            match names.is_empty() {
                true => "none".to_owned(),
                false => names.join(", "),
            }
        };
        format!(
            "{name} has the inputs {} and the outputs {}",
            names(Side::Input),
            names(Side::Output)
        )
    });
    let described: Vec<String> = described.collect();
    format!(
        "there is no input or output '{old}': {}",
        described.join("; ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signatures() -> BTreeMap<String, SignatureDef> {
        let definition = |inputs: &[&str], outputs: &[&str]| {
            let side = |names: &[&str]| {
                let names = names.iter();
                names
                    .map(|it| ((*it).to_owned(), Default::default()))
                    .collect()
            };
            SignatureDef {
                inputs: side(inputs),
                outputs: side(outputs),
                ..SignatureDef::default()
            }
        };
        BTreeMap::from([
            ("embed".to_owned(), definition(&["x"], &["y"])),
            (
                "serving_default".to_owned(),
                definition(&["x", "keys"], &["y", "keys"]),
            ),
        ])
    }

    /// The map of `serving_default`: the new alias and the tensor of each input and output.
    fn entries(renames: &[&str]) -> Result<Vec<(String, String)>> {
        let renames: Vec<String> = renames.iter().map(|it| (*it).to_owned()).collect();
        let found = Renames::find(&renames, &signatures())?;
        let mut map = MapSignature {
            name: "serving_default".to_owned(),
            output: vec![MapOutput {
                alias: "keys".to_owned(),
                tensor: "keys.1".to_owned(),
                ..MapOutput::default()
            }],
            ..MapSignature::default()
        };
        found.enter(&mut map);
        let inputs = map.input.into_iter().map(|it| (it.alias, it.tensor));
        let outputs = map.output.into_iter().map(|it| (it.alias, it.tensor));
        Ok(inputs.chain(outputs).collect())
    }

    #[track_caller]
    fn check(renames: &[&str], expected: &[(&str, &str)]) {
        let expected = expected
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
        assert_eq!(entries(renames).unwrap(), expected.collect::<Vec<_>>());
    }

    #[test]
    fn aliases_are_renamed_in_every_signature_or_in_one() {
        let keys = ("keys", "keys.1");
        check(&["y=z"], &[keys, ("z", "y")]);
        check(
            &["x=a", "serving_default:y=z"],
            &[("a", "x"), keys, ("z", "y")],
        );
        check(&["embed:y=z"], &[keys]);
        check(&["input:keys=k"], &[("k", "keys"), keys]);
    }

    #[test]
    fn output_with_a_tensor_of_another_name_does_not_keep_its_alias() {
        check(&["output:keys=k"], &[("k", "keys.1"), ("keys", "")]);
        check(
            &["output:keys=y", "y=keys"],
            &[("y", "keys.1"), ("keys", "y")],
        );
    }

    #[test]
    fn renames_that_mean_nothing_or_two_things_are_refused() {
        let error = |renames: &[&str]| entries(renames).unwrap_err().to_string();
        assert!(error(&["y"]).contains("OLD=NEW"));
        assert!(error(&["nothing=z"]).contains("embed has the inputs x and the outputs y"));
        assert!(error(&["keys=k"]).contains("input:keys=k or output:keys=k"));
        assert!(error(&["y=a", "serving_default:y=b"]).contains("already renamed to 'a'"));
        assert!(error(&["y=keys"]).contains("two outputs 'keys'"));
    }
}
