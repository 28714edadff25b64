//! Imports the signatures of a meta graph.
//!
//! Not here: reading `saved_model.pb` and choosing a meta graph (`mapper::signature`).

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use base::error::{Result, ServingError};
use bytes::Bytes;
use onnx::OnnxModel;
use prost::Message;
use proto::tensorflow::{MetaGraphDef, SignatureDef};

use crate::decode_limits;
use crate::effects::Effects;
use crate::files::Files;
use crate::graph::Graph;
use crate::report::{Missing, Refused};
use crate::resources::Resources;
use crate::signature::{Built, reference, translate};
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// The TensorFlow operators that all signatures reach, each once.
    pub operators: usize,
    /// The nodes of all ONNX graphs.
    pub nodes: usize,
    /// The TensorFlow nodes that became constants although they have inputs, each once.
    pub folded: usize,
    /// The nodes that each stand for a pattern of several operators, by their ONNX operator.
    pub fused: BTreeMap<String, usize>,
    /// How long it took, including the reading of the variables and tables that signatures use.
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
    for (name, definition) in called.filter(|(name, _)| !name.starts_with(INTERNAL_PREFIX)) {
        let reached = reached(&graph, definition);
        operators.extend(reached.keys().copied());
        let mut missing = unsupported(&reached);
        if missing.is_empty() {
            match translate(&graph, &resources, &effects, definition)? {
                Ok(signature) => built.push((name, definition, signature)),
                Err(found) => missing = found,
            }
        }
        imported.refuse(name, missing);
    }
    let writes: Vec<_> = built
        .iter()
        .map(|(_, _, it)| it.finished.written.clone())
        .collect();
    leave_out_writes(&graph, &resources, &mut built, &writes)?;
    let read = read_first(&built);
    let mut folded = HashSet::new();
    for ((name, _, signature), written) in built.into_iter().zip(writes) {
        let mut state: Vec<&str> = written.intersection(&read).map(|it| &**it).collect();
        state.sort_unstable();
        if !state.is_empty() {
            let text = format!(
                "it changes '{}', which a later request would read",
                state.join("', '")
            );
            imported.refuse(name, vec![Missing::Other(text)]);
            continue;
        }
        folded.extend(signature.finished.folded.iter().copied());
        imported.add(origin, name, signature)?;
    }
    imported.statistics.operators = operators.len();
    imported.statistics.folded = folded.len();
    imported.statistics.duration = started.elapsed();
    Ok(imported)
}

impl Imported {
    /// Notes the parts that a signature lacks, if there are any.
    fn refuse(&mut self, name: &str, missing: Vec<Missing>) {
        if !missing.is_empty() {
            self.refused.push(Refused {
                signature: name.to_owned(),
                missing,
            });
        }
    }

    fn add(&mut self, origin: &str, name: &str, signature: Built) -> Result<()> {
        let mut builder = signature.finished.builder;
        let fused = builder.take_fused();
        let proto = builder.finish(env!("CARGO_PKG_VERSION"));
        if let Some(graph) = &proto.graph {
            self.statistics.nodes += graph.node.len();
            fused.count(graph, &mut self.statistics.fused);
        }
        // All have the file's name, so that graphs share the weights that they have in common.
        let model = OnnxModel::from_proto(origin, proto)?;
        let signature = ImportedSignature {
            model,
            inputs: signature.inputs,
            outputs: signature.outputs,
        };
        self.signatures.insert(name.to_owned(), signature);
        Ok(())
    }
}

/// A signature that was translated, with its name and definition.
type Translated<'a> = (&'a String, &'a SignatureDef, Built);

/// Translates the signatures that write state again, without the writes. This counts if the writes do not reach
/// the outputs: the seed of a layer that only draws while it trains.
fn leave_out_writes<'a>(
    graph: &'a Graph<'a>,
    resources: &'a Resources<'a>,
    built: &mut [Translated<'a>],
    writes: &[HashSet<Rc<str>>],
) -> Result<()> {
    let read = read_first(built);
    let none = Effects::none();
    for ((_, definition, signature), written) in built.iter_mut().zip(writes) {
        if written.is_disjoint(&read) {
            continue;
        }
        if let Ok(pure) = translate(graph, resources, &none, definition)?
            && pure.finished.written.is_empty()
            && writes
                .iter()
                .all(|it| it.is_disjoint(&pure.finished.read_first))
        {
            *signature = pure;
        }
    }
    Ok(())
}

/// The variables that signatures read before they write them.
fn read_first(built: &[Translated<'_>]) -> HashSet<Rc<str>> {
    let read = built.iter().flat_map(|(_, _, it)| &it.finished.read_first);
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
