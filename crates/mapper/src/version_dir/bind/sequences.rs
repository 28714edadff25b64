//! Turns the sequences that a graph returns into outputs of a signature: one output per tensor or, if the
//! map asks for it, one output with the stacked tensors.
//!
//! Not here: the nodes for this (`onnx`).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};

use crate::signature::{Signature, Tensors, known_shape, layered, shape_proto};
use crate::version_dir::plan::PlannedSignature;
use base::error::{Code, Result, ServingError};
use onnx::{OnnxModel, Sequence};
use proto::onnx_model_server::{Output, Signature as MapSignature};
use runtime::Graph;

/// Stacks the sequences for which the maps ask, and returns maps that name the stacked tensors. Each map
/// also has the stacking of the maps below it.
pub(super) fn stack(
    model: &mut OnnxModel,
    planned: &PlannedSignature,
) -> Result<Vec<MapSignature>> {
    let mut maps = layered(&planned.maps);
    let mut stacked: BTreeMap<(String, i64), String> = BTreeMap::new();
    let mut aliases: HashSet<String> = HashSet::new();
    for map in &mut maps {
        for output in map.output.iter_mut().filter(|it| !it.drop) {
            let name = tensor(output).to_owned();
            let sequence = model.sequences().iter().find(|it| it.name == name);
            match (output.stack_axis, sequence) {
                (Some(axis), sequence) => {
                    check_stack_axis(model, sequence, axis).map_err(|error| {
                        let (origin, name, alias) = (model.origin(), &planned.name, &output.alias);
                        let text =
                            format!("{origin}: signature '{name}': output '{alias}': {error}");
                        error.with_text(text)
                    })?;
                    output.tensor = match stacked.entry((name.clone(), axis)) {
                        Entry::Occupied(known) => known.get().clone(),
                        Entry::Vacant(new) => {
                            new.insert(model.stack_sequence(&name, axis)?).clone()
                        }
                    };
                }
                // A map below gives this name to a tensor that can be served.
                (None, Some(_)) if aliases.contains(&name) => {}
                (None, Some(sequence)) => {
                    return Err(ServingError::invalid_argument(format!(
                        "{}: signature '{}': output '{}': '{name}' is a sequence of tensors. {}",
                        model.origin(),
                        planned.name,
                        output.alias,
                        advice(sequence)
                    )));
                }
                (None, None) => {}
            }
        }
        let outputs = map.output.iter().filter(|it| !it.drop);
        aliases.extend(outputs.map(|it| it.alias.clone()));
    }
    Ok(maps)
}

/// Refuses an axis that the stacked tensors do not have, where their rank is known.
fn check_stack_axis(model: &OnnxModel, sequence: Option<&Sequence>, axis: i64) -> Result<()> {
    let mut elements = sequence
        .into_iter()
        .flat_map(|it| it.elements.iter().flatten());
    let outputs = model.outputs();
    let rank = elements.find_map(|element| {
        let output = outputs.iter().find(|it| it.name == *element);
        let shape = output.and_then(|it| it.shape.as_ref());
        // An unknown rank is sometimes written as an empty list of dimensions.
        shape.map(Vec::len).filter(|&rank| rank > 0)
    });
    let rank = rank.and_then(|it| i64::try_from(it).ok());
    match rank.filter(|rank| !(-(rank + 1)..=*rank).contains(&axis)) {
        Some(rank) => Err(ServingError::invalid_argument(format!(
            "stack_axis {axis} is none of the stacked tensors: each of the sequence has {rank} \
             dimensions, so it can be 0 to {rank}, or -1 to -{} from the end",
            rank + 1
        ))),
        None => Ok(()),
    }
}

/// Adds the sequence that was left out to an error about a signature without outputs.
pub(super) fn explain(error: ServingError, model: &OnnxModel) -> ServingError {
    if error.code() != Code::InvalidArgument || !model.outputs().is_empty() {
        return error;
    }
    let left_out = model.sequences().iter().find(|it| it.elements.is_none());
    match left_out {
        Some(sequence) => {
            let text = format!("{error}: {}", left_out_text(sequence));
            error.with_text(text)
        }
        None => error,
    }
}

/// Logs the sequences that are not returned because their length is not known or too large.
pub(super) fn tell_what_is_left_out(model: &OnnxModel, planned: &PlannedSignature) {
    let mut outputs = planned.maps.iter().flat_map(|map| &map.output);
    let lists_outputs = outputs.any(|it| !it.drop);
    if planned.original.is_some() || lists_outputs {
        return;
    }
    for sequence in model.sequences().iter().filter(|it| it.elements.is_none()) {
        tracing::warn!(
            model = model.origin(),
            signature = planned.name,
            "{}",
            left_out_text(sequence)
        );
    }
}

fn left_out_text(sequence: &Sequence) -> String {
    format!(
        "the graph's output '{}' is not served: it is a sequence of tensors, and how many there are is not \
         known before a run, or too many. {}",
        sequence.name,
        advice(sequence)
    )
}

fn advice(sequence: &Sequence) -> String {
    let stacked = format!(
        "A signature_map.pbtxt can have them stacked: output {{ alias: \"{0}\" tensor: \"{0}\" stack_axis: 1 }}",
        sequence.name
    );
    match &sequence.elements {
        None => stacked,
        Some(elements) => format!("They are '{}'. {stacked}", elements.join("', '")),
    }
}

/// Adds the shapes of tensors taken out of sequences to the metadata: files rarely declare them, but the
/// backend has inferred them.
pub(super) fn add_shapes(
    signature: &mut Signature,
    tensors: &Tensors,
    model: &OnnxModel,
    graph: &dyn Graph,
) {
    let elements = model
        .sequences()
        .iter()
        .filter_map(|it| it.elements.as_ref());
    let elements: HashSet<&String> = elements.flatten().collect();
    for (alias, info) in &mut signature.definition.outputs {
        let tensor = tensors.get(alias).map(|(tensor, _)| tensor);
        let Some(tensor) = tensor.filter(|it| elements.contains(it)) else {
            continue;
        };
        let known = graph.outputs().iter().find(|it| it.name == *tensor);
        // A backend can report an unknown rank as an empty list of dimensions.
        let shape = known.and_then(|it| it.shape.as_deref()).unwrap_or_default();
        if known_shape(info).is_none() && !shape.is_empty() {
            info.tensor_shape = Some(shape_proto(Some(shape)));
        }
    }
}

/// The graph's name for an output of a map.
fn tensor(output: &Output) -> &str {
    match output.tensor.is_empty() {
        true => &output.alias,
        false => &output.tensor,
    }
}
