//! Derives a signature for a graph that does not have one: `serving_default` with the graph's own names.

use std::collections::{BTreeMap, BTreeSet};

use super::Signature;
use super::{
    DEFAULT_SIGNATURE_NAME, Feed, Input, Interface, Output, OutputSource, PREDICT_METHOD_NAME,
    declare,
};
use base::error::Result;
use runtime::Graph;

/// Derives a predict signature whose aliases are the graph's names.
///
/// # Errors
///
/// `UNIMPLEMENTED` for an input or output that is not a tensor.
pub fn derive(name: &str, graph: &dyn Graph) -> Result<Signature> {
    let interface = Interface {
        inputs: graph.inputs().to_vec(),
        outputs: graph.outputs().to_vec(),
        optional: BTreeSet::new(),
        unserved: BTreeMap::new(),
    };
    let definition = declare(name, None, &[], &interface)?.definition;

    let inputs = inputs_of(graph);
    let feeds = graph
        .inputs()
        .iter()
        .map(|info| inputs.iter().position(|input| input.alias == info.name))
        .map(|index| Feed::Input(index.expect("made from the same list")))
        .collect();
    let mut outputs: Vec<Output> = graph
        .outputs()
        .iter()
        .enumerate()
        .map(|(index, info)| Output {
            alias: info.name.clone(),
            source: OutputSource::Graph(index),
            classes: None,
            has_rows: true,
        })
        .collect();
    outputs.sort_by(|a, b| a.alias.cmp(&b.alias));

    Ok(Signature {
        name: if name.is_empty() {
            DEFAULT_SIGNATURE_NAME
        } else {
            name
        }
        .to_owned(),
        method_name: PREDICT_METHOD_NAME.to_owned(),
        inputs,
        outputs,
        examples: Vec::new(),
        feeds,
        declared_shapes: graph.inputs().iter().map(|it| it.shape.clone()).collect(),
        fed_twice: None,
        is_original: false,
        definition,
        changes: Vec::new(),
        kept: Vec::new(),
        earlier: Vec::new(),
    })
}

/// The inputs that clients send, sorted by alias.
fn inputs_of(graph: &dyn Graph) -> Vec<Input> {
    let mut inputs = Vec::new();
    for info in graph.inputs() {
        inputs.push(Input {
            alias: info.name.clone(),
            tensor_name: info.name.clone(),
            dtype: info.dtype.expect("it was declared"),
            default: None,
            is_optional: false,
            graph_has_default: false,
            has_rows: true,
        });
    }
    inputs.sort_by(|a, b| a.alias.cmp(&b.alias));
    inputs
}
