//! Outputs of a SavedModel that are one of its inputs, named in a map by that input's tensor in the graph.
//!
//! `show` prints this tensor, and `import_model.py` writes it, although the graph has no such output.
//!
//! Not here: which outputs are inputs once the graph's tensors are known (`version_dir::bind`).

use std::collections::BTreeMap;

use super::SignatureDef;
use super::declaration::{Interface, TensorMapping, or_alias};
use super::matching::tensor_name;
use proto::onnx_model_server as map;
use proto::tensorflow::TensorInfo;

/// The alias below a map of the output that an entry means by the tensor of a graph input; `None` if it
/// means something else. `inputs` are the entries for inputs of the same map, then of those below it.
pub(super) fn passed_through<'a>(
    below: &'a SignatureDef,
    graph: &Interface,
    output: &map::Output,
    inputs: [&BTreeMap<String, TensorMapping>; 2],
) -> Option<&'a str> {
    let name = or_alias(&output.tensor, &output.alias);
    let is_output = graph.outputs.iter().any(|it| it.name == name);
    let is_input = graph.inputs.iter().any(|it| it.name == name);
    if !is_input || is_output || below.outputs.contains_key(name) {
        return None;
    }
    let is_on = |alias: &String, info: &TensorInfo| {
        let mut ports = inputs.iter().filter_map(|it| it.get(alias));
        match ports.find_map(|it| it.tensor.as_deref()) {
            Some(tensor) => tensor == name,
            None => alias == name || tensor_name(info).strip_suffix(":0") == Some(name),
        }
    };
    let mut passed = Vec::new();
    let mut on_tensor = Vec::new();
    for (alias, info) in &below.outputs {
        let original = tensor_name(info);
        let fed = below.inputs.iter().filter(|_| !original.is_empty());
        let fed: Vec<_> = fed
            .filter(|(_, input)| tensor_name(input) == original)
            .collect();
        if !fed.is_empty() {
            passed.push(alias);
        }
        if fed.into_iter().any(|(input, info)| is_on(input, info)) {
            on_tensor.push(alias);
        }
    }
    let own = on_tensor.iter().find(|alias| ***alias == output.alias);
    let only = passed.first().filter(|_| passed.len() == 1);
    own.or(on_tensor.first())
        .or(only)
        .map(|alias| alias.as_str())
}
