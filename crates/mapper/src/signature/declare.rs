//! Declares a signature: the SavedModel's definition or the graph's own names, with the signature maps
//! applied on top.
//!
//! Alias by alias, an entry of the map replaces or adds; aliases that the map does not name stay. Without
//! a SavedModel, outputs that a map leaves out are not served.
//!
//! Not here: the contents of a map's entry (`overlay`), the aliases that it replaces (`renaming`).

use std::collections::{BTreeMap, BTreeSet};

use super::declaration::{Declaration, Interface, fed_inputs, or_alias, shape_proto};
use super::overlay::Overlay;
use super::{CLASSIFY_METHOD_NAME, PREDICT_METHOD_NAME, REGRESS_METHOD_NAME, SignatureDef};
use base::error::{Result, ServingError};
use proto::onnx_model_server as map;
use proto::tensorflow::{TensorInfo, tensor_info};
use runtime::ValueInfo;

/// Declares the signature `name`. `original` is the definition in the model's own files, if there is one;
/// each of `maps` lies over those before it.
///
/// # Errors
///
/// `INVALID_ARGUMENT` for a map that contradicts itself or names a tensor or alias that does not exist;
/// `UNIMPLEMENTED` if a derived signature would have an input or output that is not a tensor.
pub fn declare(
    name: &str,
    original: Option<SignatureDef>,
    maps: &[map::Signature],
    graph: &Interface,
) -> Result<Declaration> {
    let is_derived = original.is_none();
    let definition = match original {
        Some(definition) => definition,
        None => derive(maps, graph)?,
    };
    let mut declaration = Declaration {
        name: name.to_owned(),
        is_original: !is_derived,
        before: definition.clone(),
        definition,
        layers: Vec::new(),
        inputs: BTreeMap::new(),
        outputs: BTreeMap::new(),
        changes: Vec::new(),
        kept: Vec::new(),
        earlier: Vec::new(),
        constants: Vec::new(),
        example: None,
    };
    for map in maps {
        let overlay = Overlay::new(map, graph, &declaration.definition);
        overlay.lay_over(&mut declaration).map_err(|error| {
            let text = format!("signature map, signature '{name}': {error}");
            error.with_text(text)
        })?;
    }
    if is_derived && declaration.definition.outputs.is_empty() {
        return Err(ServingError::invalid_argument(format!(
            "signature '{name}' has no output"
        )));
    }
    Ok(declaration)
}

/// Derives a definition from the graph's own names. If a map lists outputs, the others are left out.
fn derive(maps: &[map::Signature], graph: &Interface) -> Result<SignatureDef> {
    let inputs: BTreeSet<&str> = maps.iter().flat_map(claimed_inputs).collect();
    let examples = maps.iter().filter_map(|map| map.example_input.as_ref());
    let examples: BTreeSet<&str> = examples.map(|it| it.alias.as_str()).collect();
    let entries = || maps.iter().flat_map(|map| &map.output);
    let listed = entries().any(|it| !it.drop);
    let outputs: BTreeSet<&str> = entries()
        .map(|it| or_alias(&it.tensor, &it.alias))
        .collect();
    // Tensors that the maps have created do not have a name of their own.
    let stacked = entries().filter(|it| it.stack_axis.is_some());
    let stacked: BTreeSet<&str> = stacked.map(|it| or_alias(&it.tensor, &it.alias)).collect();
    let mut definition = SignatureDef {
        method_name: PREDICT_METHOD_NAME.to_owned(),
        ..SignatureDef::default()
    };
    // Classify and Regress take exactly one input.
    let takes_examples = maps.iter().any(|map| map.example_input.is_some()) || {
        let mut methods = maps.iter().map(|map| map.method_name.as_str());
        let method = methods.rfind(|it| !it.is_empty());
        method.is_some_and(|it| [CLASSIFY_METHOD_NAME, REGRESS_METHOD_NAME].contains(&it))
    };
    for value in &graph.inputs {
        let name = value.name.as_str();
        let is_left_out = (inputs.contains(name) && value.dtype.is_none())
            || (takes_examples && graph.optional.contains(name));
        if !is_left_out && !examples.contains(name) {
            let info = tensor_info(graph, "input", value)?;
            definition.inputs.insert(name.to_owned(), info);
        }
    }
    for value in graph
        .outputs
        .iter()
        .filter(|it| !stacked.contains(it.name.as_str()))
    {
        let is_claimed = outputs.contains(value.name.as_str());
        let is_left_out = if is_claimed {
            value.dtype.is_none()
        } else {
            listed
        };
        if !is_left_out {
            let info = tensor_info(graph, "output", value)?;
            definition.outputs.insert(value.name.clone(), info);
        }
    }
    Ok(definition)
}

/// The graph inputs that a map's entries refer to.
fn claimed_inputs(map: &map::Signature) -> Vec<&str> {
    let inputs = map.input.iter();
    let inputs = inputs.map(|it| or_alias(&it.tensor, &it.alias));
    let fed = fed_inputs(map).into_iter();
    inputs.chain(fed).collect()
}

/// The metadata for a graph tensor.
fn tensor_info(graph: &Interface, what: &str, value: &ValueInfo) -> Result<TensorInfo> {
    let dtype = value.dtype.ok_or_else(|| graph.unserved(what, value))?;
    Ok(TensorInfo {
        dtype: dtype.number(),
        tensor_shape: Some(shape_proto(value.shape.as_deref())),
        encoding: Some(tensor_info::Encoding::Name(value.name.clone())),
    })
}
