//! Translates one signature: its inputs become the graph's, and its outputs those that it computes.
//!
//! Not here: the walk through the graph (`translation`), all signatures of a file (`import`).

use std::collections::BTreeMap;

use base::error::Result;
use base::tensor::DataType;
use proto::tensorflow::{SignatureDef, TensorInfo, attr_value, tensor_info};

use crate::effects::Effects;
use crate::graph::{Graph, TensorRef, attribute};
use crate::op::shape_of;
use crate::ops;
use crate::refusal::Refusal;
use crate::report::Missing;
use crate::resources::Resources;
use crate::translation::{Finished, Translation};
use crate::value::{Shape, Value};
use crate::values::Values;

/// A translated signature before its model is finished.
pub(crate) struct Built {
    pub(crate) finished: Finished,
    /// The name in the model of each input alias.
    pub(crate) inputs: BTreeMap<String, String>,
    /// The name in the model of each output alias.
    pub(crate) outputs: BTreeMap<String, String>,
}

/// Translates a signature. The inner error lists everything that is missing.
///
/// # Errors
///
/// Those of reading the files.
pub(crate) fn translate<'a>(
    graph: &'a Graph<'a>,
    resources: &'a Resources<'a>,
    effects: &'a Effects,
    definition: &'a SignatureDef,
) -> Result<std::result::Result<Built, Vec<Missing>>> {
    let mut translation = Translation::new(graph, resources, effects, ops::rule_of);
    let mut missing = Vec::new();
    let mut values = Values::default();
    let inputs = add_inputs(&mut translation, definition, &mut values, &mut missing);
    let outputs = add_outputs(&mut translation, definition, values, &mut missing);
    let mut finished = translation.finish();
    if let Some(error) = finished.failed.take() {
        return Err(error);
    }
    let refused = std::mem::take(&mut finished.refused);
    missing.extend(refused.into_iter().map(Missing::from));
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

/// Makes the signature's inputs those of the graph. Returns the name of each.
fn add_inputs<'a>(
    translation: &mut Translation<'a>,
    definition: &'a SignatureDef,
    values: &mut Values<'a>,
    missing: &mut Vec<Missing>,
) -> BTreeMap<String, String> {
    let mut inputs = BTreeMap::new();
    for (alias, info) in &definition.inputs {
        let other = |reason: &str| Missing::Other(format!("its input '{alias}' {reason}"));
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
        let dtype = placeholder_dtype(translation.graph, reference).or(declared);
        let dtype = dtype.unwrap_or(DataType::Variant);
        let shape = info.tensor_shape.as_ref();
        let shape = shape.map_or_else(Shape::unknown, shape_of);
        match translation.builder.input(alias, dtype, shape) {
            Ok(tensor) => {
                let name = tensor.name().map(|it| it.to_string()).unwrap_or_default();
                inputs.insert(alias.clone(), name);
                values.fed.insert(place, Value::Tensor(tensor));
            }
            Err(refusal) => missing.push(other(&refusal.to_string())),
        }
    }
    inputs
}

/// Translates the nodes that the signature's outputs need. Returns the name of each output that could be.
fn add_outputs<'a>(
    translation: &mut Translation<'a>,
    definition: &'a SignatureDef,
    values: Values<'a>,
    missing: &mut Vec<Missing>,
) -> BTreeMap<String, String> {
    let (mut aliases, mut references) = (Vec::new(), Vec::new());
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
    let graph = translation.graph;
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
                Err(Refusal::new("is not a tensor"))
            }
        };
        match name {
            Ok(name) => {
                outputs.insert(alias.clone(), name.to_string());
            }
            Err(refusal) => missing.push(Missing::Other(format!("its output '{alias}' {refusal}"))),
        }
    }
    outputs
}

/// The reference of a signature's tensor; `None` for a sparse or composite one.
pub(crate) fn reference(info: &TensorInfo) -> Option<TensorRef<'_>> {
    match info.encoding.as_ref()? {
        tensor_info::Encoding::Name(name) => TensorRef::parse(name),
        _ => None,
    }
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
