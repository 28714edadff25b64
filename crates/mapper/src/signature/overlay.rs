//! Applies a signature map to a signature, and checks its entries against the graph.
//!
//! Not here: the aliases that an entry replaces (`renaming`). These are known only once the graph's tensors
//! have been found.

use std::collections::BTreeMap;

use super::SignatureDef;
use super::alias_change::Side;
use super::declaration::{
    Declaration, Interface, Layer, TensorMapping, fed_inputs, or_alias, shape_proto,
};
use super::default_value::contradicts;
use super::diagnosis::shape_text;
use super::passed_through::passed_through;
use base::error::{Result, ServingError};
use base::tensor::DataType;
use codec::tensor_proto::message::from_message;
use proto::onnx_model_server as map;
use proto::tensorflow::{TensorInfo, TensorShapeProto, tensor_info};
use runtime::ValueInfo;

/// A map's signature to be applied to a definition.
pub(super) struct Overlay<'a> {
    map: &'a map::Signature,
    graph: &'a Interface,
    /// The definition below the map.
    below: SignatureDef,
}

/// The fields that input and output entries have in common.
struct Entry<'a> {
    what: &'static str,
    alias: &'a str,
    tensor: &'a str,
    keep: bool,
    transpose: &'a [i64],
    reshape: &'a [i64],
    dtype: i32,
    shape: &'a Option<TensorShapeProto>,
}

impl<'a> Overlay<'a> {
    pub(super) fn new(map: &'a map::Signature, graph: &'a Interface, below: &SignatureDef) -> Self {
        let below = below.clone();
        Self { map, graph, below }
    }

    pub(super) fn lay_over(&self, declaration: &mut Declaration) -> Result<()> {
        if !self.map.method_name.is_empty() {
            declaration.definition.method_name = self.map.method_name.clone();
        }
        let fed = fed_inputs(self.map).into_iter().filter(|it| !it.is_empty());
        let mut layer = Layer {
            fed: fed.map(str::to_owned).collect(),
            ..Layer::default()
        };
        if let Some(below) = &declaration.example {
            self.check_example(below)?;
        }
        for input in &self.map.input {
            let port = self.lay_input(input, declaration)?;
            if layer.inputs.insert(input.alias.clone(), port).is_some() {
                return Err(named_twice("input", &input.alias));
            }
        }
        for output in &self.map.output {
            let inputs = [&layer.inputs, &declaration.inputs];
            let passed = passed_through(&self.below, self.graph, output, inputs);
            let port = self.lay_output(output, passed, declaration)?;
            if layer.outputs.insert(output.alias.clone(), port).is_some() {
                return Err(named_twice("output", &output.alias));
            }
        }
        for constant in &self.map.constant {
            self.lay_constant(constant, declaration)?;
        }
        if let Some(example) = &self.map.example_input {
            lay_example(example, declaration)?;
        }
        declaration.inputs.extend(layer.inputs.clone());
        declaration.outputs.extend(layer.outputs.clone());
        declaration.layers.push(layer);
        Ok(())
    }

    /// Refuses unsupported changes to the `example_input` of a map below.
    fn check_example(&self, below: &map::ExampleInput) -> Result<()> {
        let alias = &below.alias;
        if let Some(example) = self
            .map
            .example_input
            .as_ref()
            .filter(|it| it.alias != *alias)
        {
            return Err(ServingError::invalid_argument(format!(
                "example_input '{}': the map below has an example_input '{alias}', and a signature has \
                 one; give it that alias, or change the map below",
                example.alias
            )));
        }
        let features = map::Signature {
            example_input: Some(self.map.example_input.as_ref().unwrap_or(below).clone()),
            ..map::Signature::default()
        };
        let fed = fed_inputs(&features);
        for input in &self.map.input {
            let tensor = or_alias(&input.tensor, &input.alias);
            let is_of_graph = find(&self.graph.inputs, tensor).is_some();
            if input.alias == *alias || (tensor == alias && !is_of_graph) {
                return Err(ServingError::invalid_argument(format!(
                    "input '{}': '{alias}' is the example_input of the map below, which cannot be renamed, \
                     kept or dropped; write the change into that map",
                    input.alias
                )));
            }
            if !input.drop && fed.contains(&tensor) {
                return Err(ServingError::invalid_argument(format!(
                    "input '{}': a feature of the example_input '{alias}' feeds '{tensor}', so clients \
                     cannot send it themselves",
                    input.alias
                )));
            }
        }
        Ok(())
    }

    fn lay_input(
        &self,
        input: &map::Input,
        declaration: &mut Declaration,
    ) -> Result<TensorMapping> {
        if input.drop {
            let bare = map::Input {
                alias: input.alias.clone(),
                drop: true,
                ..map::Input::default()
            };
            self.check_drop("input", &input.alias, *input == bare)?;
            return Ok(dropped());
        }
        let entry = Entry {
            what: "input",
            alias: &input.alias,
            tensor: &input.tensor,
            keep: input.keep,
            transpose: &input.transpose,
            reshape: &input.reshape,
            dtype: input.dtype,
            shape: &input.shape,
        };
        let tensor = self.tensor(&entry, &declaration.inputs)?;
        if let Some(name) = tensor.map(|it| &it.name) {
            declaration.constants.retain(|(fed, _)| fed != name);
        }
        self.describe(&entry, tensor, &mut declaration.definition.inputs);
        Ok(TensorMapping {
            default: input.default.clone(),
            ..self.port(&entry, tensor)
        })
    }

    /// `passed` is the alias below the map of the output that the entry means by an input's tensor.
    fn lay_output(
        &self,
        output: &map::Output,
        passed: Option<&str>,
        declaration: &mut Declaration,
    ) -> Result<TensorMapping> {
        if output.drop {
            let bare = map::Output {
                alias: output.alias.clone(),
                drop: true,
                ..map::Output::default()
            };
            self.check_drop("output", &output.alias, *output == bare)?;
            return Ok(dropped());
        }
        let entry = Entry {
            what: "output",
            alias: &output.alias,
            tensor: passed.unwrap_or(&output.tensor),
            keep: output.keep,
            transpose: &output.transpose,
            reshape: &output.reshape,
            dtype: output.dtype,
            shape: &output.shape,
        };
        let tensor = self.tensor(&entry, &declaration.outputs)?;
        let top_k = usize::try_from(output.top_k).map_err(|_| {
            ServingError::invalid_argument(format!("output '{}': top_k is negative", output.alias))
        })?;
        self.describe(&entry, tensor, &mut declaration.definition.outputs);
        Ok(TensorMapping {
            labels: output.labels.clone(),
            top_k,
            is_stacked_first: output.stack_axis.is_some_and(|axis| axis <= 0),
            ..self.port(&entry, tensor)
        })
    }

    fn lay_constant(&self, constant: &map::Constant, declaration: &mut Declaration) -> Result<()> {
        let known = find(&self.graph.inputs, &constant.tensor);
        let known = known.ok_or_else(|| self.no_such("input", &constant.tensor))?;
        let value = constant.value.clone().unwrap_or_default();
        let shape: Option<Vec<usize>> = known.shape.as_ref().and_then(|shape| {
            let dims = shape.iter().map(|&dim| usize::try_from(dim).ok());
            dims.collect()
        });
        let value = from_message(&value, known.dtype, shape.as_deref())?;
        if contradicts(value.shape(), known.shape.as_deref().unwrap_or_default()) {
            return Err(ServingError::invalid_argument(format!(
                "the constant for '{}' has the shape {:?}, and the graph takes {}",
                constant.tensor,
                value.shape(),
                shape_text(known.shape.as_deref())
            )));
        }
        let constants = &mut declaration.constants;
        constants.retain(|(tensor, _)| *tensor != constant.tensor);
        constants.push((constant.tensor.clone(), value));
        Ok(())
    }

    fn port(&self, entry: &Entry<'_>, tensor: Option<&ValueInfo>) -> TensorMapping {
        TensorMapping {
            tensor: tensor.map(|it| it.name.clone()),
            takes: tensor
                .is_none()
                .then(|| or_alias(entry.tensor, entry.alias).to_owned()),
            keep: entry.keep,
            dtype: entry.dtype,
            shape: entry.shape.clone(),
            transpose: entry.transpose.to_vec(),
            reshape: entry.reshape.to_vec(),
            ..TensorMapping::default()
        }
    }

    /// Adds the alias so that maps above can name it. It is described once the graph's tensors have been
    /// found.
    fn describe(
        &self,
        entry: &Entry<'_>,
        tensor: Option<&ValueInfo>,
        infos: &mut BTreeMap<String, TensorInfo>,
    ) {
        infos
            .entry(entry.alias.to_owned())
            .or_insert_with(|| TensorInfo {
                encoding: tensor.map(|it| tensor_info::Encoding::Name(it.name.clone())),
                ..TensorInfo::default()
            });
    }

    /// The graph tensor that an entry names; `None` if the entry names an alias or leaves the tensor to the
    /// matching rules.
    fn tensor(
        &self,
        entry: &Entry<'_>,
        mapped: &BTreeMap<String, TensorMapping>,
    ) -> Result<Option<&ValueInfo>> {
        let Entry {
            what,
            alias,
            tensor,
            ..
        } = *entry;
        check_alias(what, alias)?;
        let name = or_alias(tensor, alias);
        // A map below names the tensor of the alias.
        if tensor.is_empty() && mapped.get(alias).is_some_and(|it| !it.drop) {
            return Ok(None);
        }
        match find(self.values(what), name) {
            Some(value) if value.dtype.is_none() => Err(self.graph.unserved(what, value)),
            Some(value) => Ok(Some(value)),
            None if self.below(what).contains_key(name) => Ok(None),
            None => Err(self.no_such(what, name)),
        }
    }

    fn check_drop(&self, what: &str, alias: &str, is_bare: bool) -> Result<()> {
        check_alias(what, alias)?;
        if !is_bare {
            return Err(ServingError::invalid_argument(format!(
                "{what} '{alias}': drop removes the alias, so nothing else can be set with it"
            )));
        }
        // Tensors that cannot be served can be dropped, too.
        let known = find(self.values(what), alias);
        if self.below(what).contains_key(alias) || known.is_some_and(|it| it.dtype.is_none()) {
            return Ok(());
        }
        Err(ServingError::invalid_argument(format!(
            "there is no {what} alias '{alias}' to drop; there are {}",
            quoted(self.below(what).keys())
        )))
    }

    fn no_such(&self, what: &str, name: &str) -> ServingError {
        let values = self.values(what);
        let mut text = format!(
            "the graph has no {what} '{name}'; it has {}",
            quoted(values.iter().map(|it| &it.name))
        );
        let aliases = self.below(what).keys();
        let aliases: Vec<&String> = aliases.filter(|it| find(values, it).is_none()).collect();
        if !aliases.is_empty() {
            text += &format!(", and the signature's aliases are {}", quoted(aliases));
        }
        ServingError::invalid_argument(text)
    }

    fn values(&self, what: &str) -> &'a [ValueInfo] {
        match what {
            "output" => &self.graph.outputs,
            _ => &self.graph.inputs,
        }
    }

    fn below(&self, what: &str) -> &BTreeMap<String, TensorInfo> {
        match what {
            "output" => &self.below.outputs,
            _ => &self.below.inputs,
        }
    }
}

fn named_twice(what: &str, alias: &str) -> ServingError {
    ServingError::invalid_argument(format!(
        "the map names the {what} alias '{alias}' twice; write one entry with all that it says"
    ))
}

fn dropped() -> TensorMapping {
    TensorMapping {
        drop: true,
        ..TensorMapping::default()
    }
}

fn lay_example(example: &map::ExampleInput, declaration: &mut Declaration) -> Result<()> {
    if example.alias.is_empty() {
        return Err(ServingError::invalid_argument("example_input has no alias"));
    }
    let infos = &mut declaration.definition.inputs;
    infos.entry(example.alias.clone()).or_insert_with(|| {
        let shape = Some(vec![-1]);
        TensorInfo {
            dtype: DataType::String.number(),
            tensor_shape: Some(shape_proto(shape.as_deref())),
            encoding: Some(tensor_info::Encoding::Name(example.alias.clone())),
        }
    });
    declaration.example = Some(example.clone());
    Ok(())
}

fn check_alias(what: &str, alias: &str) -> Result<()> {
    if alias.is_empty() {
        let text = format!("an {what} has no alias");
        return Err(ServingError::invalid_argument(text));
    }
    Ok(())
}

fn find<'a>(values: &'a [ValueInfo], name: &str) -> Option<&'a ValueInfo> {
    values.iter().find(|value| value.name == name)
}

fn quoted<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("'{name}'")).collect();
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    }
}

/// The shape of a graph tensor that clients see through a port's transpose.
pub(super) fn client_shape(
    side: Side,
    tensor: &ValueInfo,
    port: &TensorMapping,
) -> Option<Vec<i64>> {
    let graph = tensor.shape.clone()?;
    if !port.reshape.is_empty() {
        return None;
    }
    if port.transpose.is_empty() {
        return Some(graph);
    }
    let mut client = vec![-1; graph.len()];
    for (index, &value) in port.transpose.iter().enumerate() {
        let axis = usize::try_from(value).ok()?;
        // The client's dimension that becomes the graph's first one is `transpose[0]`, and so on.
        let (from, to) = match side {
            Side::Input => (index, axis),
            Side::Output => (axis, index),
        };
        *client.get_mut(to)? = *graph.get(from)?;
    }
    Some(client)
}

/// Copies the stacking of outputs from each map to the map above it, unless that map sets its own.
pub fn layered(maps: &[map::Signature]) -> Vec<map::Signature> {
    let mut layered: Vec<map::Signature> = Vec::with_capacity(maps.len());
    for map in maps {
        let map = match layered.last() {
            Some(inner) => merged(inner, map),
            None => map.clone(),
        };
        layered.push(map);
    }
    layered
}

/// Merges a map's signature with that of an inner map: for an output with the same alias and tensor, the
/// stacking is taken from the inner one. Everything else follows the tensors once they have been found.
fn merged(inner: &map::Signature, outer: &map::Signature) -> map::Signature {
    let mut merged = outer.clone();
    for new in merged.output.iter_mut().filter(|it| !it.drop) {
        let old = inner.output.iter().find(|it| it.alias == new.alias);
        let Some(old) = old.filter(|it| !it.drop) else {
            continue;
        };
        let is_same = new.tensor.is_empty() || or_alias(&old.tensor, &old.alias) == new.tensor;
        if is_same && (old.stack_axis.is_some() || new.stack_axis.is_some()) {
            set_default(&mut new.stack_axis, &old.stack_axis);
            set_default(&mut new.tensor, &old.tensor);
        }
    }
    merged
}

/// Fills a field that is unset, meaning that it has its type's default value.
fn set_default<T: Clone + Default + PartialEq>(new: &mut T, old: &T) {
    if *new == T::default() {
        new.clone_from(old);
    }
}
