//! Imports the signatures of a meta graph.
//!
//! Not here: reading `saved_model.pb` and choosing a meta graph (`mapper::signature`).

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use base::error::{Result, ServingError};
use base::tensor::DataType;
use bytes::Bytes;
use onnx::OnnxModel;
use prost::Message;
use proto::tensorflow::{MetaGraphDef, SignatureDef, TensorInfo, attr_value, tensor_info};

use crate::decode_limits;
use crate::effects::Effects;
use crate::files::Files;
use crate::graph::{Graph, TensorRef, attribute};
use crate::op::shape_of;
use crate::report::{Missing, Refused};
use crate::resources::Resources;
use crate::translation::{Finished, Translation, Values};
use crate::value::{Shape, Value};
use crate::{ops, scan};

/// Signatures that TensorFlow adds for itself and that no client calls.
const INTERNAL_PREFIX: &str = "__saved_model_";

/// The most signatures of a meta graph. Each is translated by itself.
const MAX_SIGNATURES: usize = 1000;

/// An imported meta graph.
pub struct Imported {
    /// By the signature's name.
    pub signatures: BTreeMap<String, ImportedSignature>,
    /// The signatures that cannot be imported.
    pub refused: Vec<Refused>,
    /// For the log.
    pub statistics: Statistics,
}

/// A signature and its model.
pub struct ImportedSignature {
    /// Its inputs and outputs are named after the aliases, except for those in `inputs` and `outputs`.
    pub model: OnnxModel,
    /// The name in the model of each input alias.
    pub inputs: BTreeMap<String, String>,
    /// The name in the model of each output alias.
    pub outputs: BTreeMap<String, String>,
}

/// The extent of an import, for the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// The TensorFlow operators that all signatures reach, each once.
    pub operators: usize,
    /// The nodes of all ONNX graphs.
    pub nodes: usize,
    /// How long it took, without reading the files.
    pub duration: Duration,
}

/// Decodes a meta graph. `origin` names the file in errors.
///
/// # Errors
///
/// `INVALID_ARGUMENT` if it is damaged, and if it is small and would take very much memory.
pub fn decode(origin: &str, meta_graph: Bytes) -> Result<MetaGraphDef> {
    let damaged = |text: String| ServingError::invalid_argument(format!("{origin} {text}"));
    if !decode_limits::is_bounded(&meta_graph) {
        return Err(damaged(
            "consists of too many nearly empty parts to be decoded".to_owned(),
        ));
    }
    MetaGraphDef::decode(meta_graph).map_err(|error| damaged(format!("is damaged: {error}")))
}

/// Imports all signatures of a meta graph that clients can call. `origin` names the file in errors.
///
/// # Errors
///
/// `INVALID_ARGUMENT` if the files contradict each other or are damaged. A signature that cannot be imported is
/// no error: it stands in [`Imported::refused`].
pub fn import(origin: &str, meta_graph: &MetaGraphDef, files: &dyn Files) -> Result<Imported> {
    let started = Instant::now();
    if meta_graph.signature_def.len() > MAX_SIGNATURES {
        return Err(ServingError::invalid_argument(format!(
            "{origin} has more than {MAX_SIGNATURES} signatures"
        )));
    }
    let empty = Default::default();
    let graph = Graph::new(meta_graph.graph_def.as_ref().unwrap_or(&empty));
    let effects = Effects::of(&graph);
    let resources = Resources::of(origin, meta_graph, &graph, files)?;
    let mut imported = Imported {
        signatures: BTreeMap::new(),
        refused: Vec::new(),
        statistics: Statistics::default(),
    };
    let mut operators = HashSet::new();
    let called = meta_graph.signature_def.iter();
    let mut built = Vec::new();
    let mut definitions = Vec::new();
    for (name, definition) in called.filter(|(name, _)| !name.starts_with(INTERNAL_PREFIX)) {
        let reached = reached(&graph, definition);
        operators.extend(reached.keys().copied());
        let missing = unsupported(&reached);
        if !missing.is_empty() {
            imported.refused.push(Refused {
                signature: name.clone(),
                missing,
            });
            continue;
        }
        match translate(&graph, &resources, &effects, definition)? {
            Ok(signature) => {
                built.push((name, signature));
                definitions.push(definition);
            }
            Err(missing) => imported.refused.push(Refused {
                signature: name.clone(),
                missing,
            }),
        }
    }
    let writes: Vec<_> = built
        .iter()
        .map(|(_, it)| it.finished.written.clone())
        .collect();
    let read = read_first(&built);
    for (index, (_, signature)) in built.iter_mut().enumerate() {
        if !writes[index].is_disjoint(&read) {
            let definition = definitions[index];
            let pure = translate(&graph, &resources, &Effects::none(), definition)?;
            if let Ok(pure) = pure
                && pure.finished.written.is_empty()
                && writes
                    .iter()
                    .all(|it| it.is_disjoint(&pure.finished.read_first))
            {
                // The writes do not reach the outputs: the seed of a layer that only draws while it trains.
                *signature = pure;
            }
        }
    }
    let read = read_first(&built);
    for ((name, signature), written) in built.into_iter().zip(writes) {
        let state: Vec<_> = written.intersection(&read).cloned().collect();
        if !state.is_empty() {
            let mut state: Vec<&str> = state.iter().map(|it| &**it).collect();
            state.sort_unstable();
            imported.refused.push(Refused {
                signature: name.clone(),
                missing: vec![Missing::Other(format!(
                    "it changes '{}', which a later request would read",
                    state.join("', '")
                ))],
            });
            continue;
        }
        let proto = signature.finished.builder.finish(env!("CARGO_PKG_VERSION"));
        imported.statistics.nodes += proto.graph.as_ref().map_or(0, |it| it.node.len());
        // All have the file's name, so that graphs share the weights that they have in common.
        let model = OnnxModel::from_proto(origin, proto)?;
        imported.signatures.insert(
            name.clone(),
            ImportedSignature {
                model,
                inputs: signature.inputs,
                outputs: signature.outputs,
            },
        );
    }
    imported.statistics.operators = operators.len();
    imported.statistics.duration = started.elapsed();
    Ok(imported)
}

/// The variables that signatures read before they write them.
fn read_first(built: &[(&String, Built)]) -> HashSet<Rc<str>> {
    let read = built.iter().flat_map(|(_, it)| &it.finished.read_first);
    read.cloned().collect()
}

/// The TensorFlow operators that each signature reaches, with the name of one node for each, and whether the
/// operator is supported.
pub fn operators(meta_graph: &MetaGraphDef) -> BTreeMap<String, BTreeMap<String, (String, bool)>> {
    let empty = Default::default();
    let graph = Graph::new(meta_graph.graph_def.as_ref().unwrap_or(&empty));
    let signatures = meta_graph.signature_def.iter();
    let called = signatures.filter(|(name, _)| !name.starts_with(INTERNAL_PREFIX));
    let reached = called.map(|(name, definition)| {
        let reached = reached(&graph, definition).into_iter();
        let rows =
            reached.map(|(op, node)| (op.to_owned(), (node.to_owned(), ops::rule(op).is_some())));
        (name.clone(), rows.collect())
    });
    reached.collect()
}

/// The reference of a signature's tensor; `None` for a sparse or composite one.
fn reference(info: &TensorInfo) -> Option<TensorRef<'_>> {
    match info.encoding.as_ref()? {
        tensor_info::Encoding::Name(name) => TensorRef::parse(name),
        _ => None,
    }
}

fn reached<'a>(graph: &Graph<'a>, definition: &'a SignatureDef) -> BTreeMap<&'a str, &'a str> {
    let inputs = definition.inputs.values().filter_map(reference);
    let fed = inputs.map(|it| (it.node, it.index)).collect();
    let outputs: Vec<_> = definition.outputs.values().filter_map(reference).collect();
    scan::reached(graph, &outputs, &fed)
}

fn unsupported(reached: &BTreeMap<&str, &str>) -> Vec<Missing> {
    let missing = reached.iter().filter(|(op, _)| ops::rule(op).is_none());
    let missing = missing.map(|(op, node)| Missing::Operator {
        op: (*op).to_owned(),
        node: (*node).to_owned(),
    });
    missing.collect()
}

/// The dtype of a placeholder, which counts where a signature declares another one.
fn placeholder_dtype(graph: &Graph<'_>, reference: TensorRef<'_>) -> Option<DataType> {
    let node = graph.main.nodes.get(reference.node)?;
    match attribute(node, "dtype")? {
        attr_value::Value::Type(number) if node.op.starts_with("Placeholder") => {
            DataType::from_number(*number)
        }
        _ => None,
    }
}

/// A translated signature before its model is finished.
struct Built {
    finished: Finished,
    inputs: BTreeMap<String, String>,
    outputs: BTreeMap<String, String>,
}

fn translate<'a>(
    graph: &'a Graph<'a>,
    resources: &'a Resources<'a>,
    effects: &'a Effects,
    definition: &'a SignatureDef,
) -> Result<std::result::Result<Built, Vec<Missing>>> {
    let mut translation = Translation::new(graph, resources, effects);
    let mut missing = Vec::new();
    let mut values = Values::default();
    let mut inputs = BTreeMap::new();
    for (alias, info) in &definition.inputs {
        let other = |what: &str| Missing::Other(format!("its input '{alias}' {what}"));
        let Some(reference) = reference(info) else {
            missing.push(other("is a sparse or composite tensor"));
            continue;
        };
        let place = (reference.node, reference.index);
        // Two aliases of one tensor are one input.
        if let Some(Value::Tensor(known)) = values.fed.get(&place) {
            let name = known.name().map(|it| it.to_string()).unwrap_or_default();
            inputs.insert(alias.clone(), name);
            continue;
        }
        let declared = DataType::from_number(info.dtype);
        let dtype = placeholder_dtype(graph, reference).or(declared);
        let dtype = dtype.unwrap_or(DataType::Variant);
        let shape = info
            .tensor_shape
            .as_ref()
            .map_or_else(Shape::unknown, shape_of);
        match translation.builder.input(alias, dtype, shape) {
            Ok(tensor) => {
                inputs.insert(
                    alias.clone(),
                    tensor.name().map(|it| it.to_string()).unwrap_or_default(),
                );
                values.fed.insert(place, Value::Tensor(tensor));
            }
            Err(refusal) => missing.push(other(&refusal.to_string())),
        }
    }
    let mut aliases = Vec::new();
    let mut references = Vec::new();
    for (alias, info) in &definition.outputs {
        match reference(info) {
            Some(reference) => {
                aliases.push(alias);
                references.push(reference);
            }
            None => missing.push(Missing::Other(format!(
                "its output '{alias}' is a sparse or composite tensor"
            ))),
        }
    }
    let results = translation.run(&graph.main, values, &references, &[]);
    let mut outputs = BTreeMap::new();
    for (alias, result) in aliases.into_iter().zip(results) {
        let name = match result {
            Value::Tensor(tensor) => translation.builder.output(alias, &tensor),
            Value::Reference(name) => {
                let tensor = translation.read(&name);
                tensor.and_then(|it| translation.builder.output(alias, &it))
            }
            Value::Nothing => continue,
            Value::Variable(_) | Value::Table(_) | Value::List(_) => {
                Err(crate::refusal::Refusal::new("is not a tensor"))
            }
        };
        match name {
            Ok(name) => {
                outputs.insert(alias.clone(), name.to_string());
            }
            Err(refusal) => missing.push(Missing::Other(format!("its output '{alias}' {refusal}"))),
        }
    }
    let mut finished = translation.finish();
    if let Some(error) = finished.failed.take() {
        return Err(error);
    }
    missing.extend(
        std::mem::take(&mut finished.refused)
            .into_iter()
            .map(Missing::from),
    );
    if missing.is_empty() && outputs.len() < definition.outputs.len() {
        missing.push(Missing::Other(
            "an output names no tensor of the graph".to_owned(),
        ));
    }
    Ok(match missing.is_empty() {
        true => Ok(Built {
            finished,
            inputs,
            outputs,
        }),
        false => Err(missing),
    })
}
