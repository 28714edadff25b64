//! What a signature is meant to be, before its graph is looked at closely: the original's
//! definition or the graph's own names, and over that a signature map.
//!
//! What the map names replaces or adds, alias by alias; what it does not name stays. Where there is
//! no original, outputs that a map leaves out are not served.

use std::collections::{BTreeMap, BTreeSet};

use super::matching::Wanted;
use super::tensor_value::{from_proto, static_shape};
use super::{CLASSIFY_METHOD_NAME, PREDICT_METHOD_NAME, REGRESS_METHOD_NAME, SignatureDef};
use crate::error::{Result, ServingError};
use crate::proto::onnx_model_server as map;
use crate::proto::tensorflow::{
    TensorInfo, TensorShapeProto, tensor_info, tensor_shape_proto::Dim,
};
use crate::runtime::ValueInfo;
use crate::tensor::{DataType, Tensor};

/// A graph's inputs and outputs, as its file declares them.
pub struct Interface {
    /// What every run has to be given.
    pub inputs: Vec<ValueInfo>,
    /// What a run can return.
    pub outputs: Vec<ValueInfo>,
    /// The inputs that the graph has a default for.
    pub optional: BTreeSet<String>,
    /// The types of those inputs and outputs that cannot be served, in words, by name.
    pub unserved: BTreeMap<String, String>,
}

/// A signature with everything that is known about it apart from the graph's tensors.
#[derive(Clone, Debug)]
pub struct Declaration {
    /// Its key in the model.
    pub name: String,
    /// Whether the definition is that of a `saved_model.pb`.
    pub is_original: bool,
    /// What clients see as metadata.
    pub definition: SignatureDef,
    /// What the map says about inputs, by alias.
    pub inputs: BTreeMap<String, Port>,
    /// What the map says about outputs, by alias.
    pub outputs: BTreeMap<String, Port>,
    /// Graph inputs that no client sends, by graph name.
    pub constants: Vec<(String, Tensor)>,
    /// What the map says about examples.
    pub example: Option<map::ExampleInput>,
}

/// What a map says about one input or output.
#[derive(Clone, Debug, Default)]
pub struct Port {
    /// The graph's name; `None`: to be found.
    pub tensor: Option<String>,
    /// On the way to the other side, before the reshape.
    pub transpose: Vec<i64>,
    /// As ONNX Reshape.
    pub reshape: Vec<i64>,
    /// For Classify.
    pub labels: Option<map::Labels>,
    /// For Classify; 0: all.
    pub top_k: usize,
    /// The map says what stands in for the input.
    pub has_default: bool,
    /// Dimension 0 counts the rows of the request.
    pub has_rows: bool,
}

/// Declares the signature `name`. `original` is what the model's own files say, if they do.
///
/// # Errors
///
/// `INVALID_ARGUMENT` for a map that names what is not there or contradicts itself;
/// `UNIMPLEMENTED` where a derived signature would have an input or output that is no tensor.
pub fn declare(
    name: &str,
    original: Option<SignatureDef>,
    map: Option<&map::Signature>,
    graph: &Interface,
) -> Result<Declaration> {
    let is_derived = original.is_none();
    let definition = match original {
        Some(definition) => definition,
        None => derive(map, graph)?,
    };
    let mut declaration = Declaration {
        name: name.to_owned(),
        is_original: !is_derived,
        definition,
        inputs: BTreeMap::new(),
        outputs: BTreeMap::new(),
        constants: Vec::new(),
        example: None,
    };
    if let Some(map) = map {
        let overlay = Overlay { map, graph };
        overlay.lay_over(&mut declaration).map_err(|error| {
            let text = format!("signature map, signature '{name}': {error}");
            ServingError::new(error.code(), text)
        })?;
    }
    if is_derived && declaration.definition.outputs.is_empty() {
        return Err(ServingError::invalid_argument(format!(
            "signature '{name}' has no output"
        )));
    }
    Ok(declaration)
}

impl Declaration {
    /// The inputs to be matched, sorted by alias.
    pub fn wanted_inputs(&self) -> Vec<Wanted> {
        wanted(&self.definition.inputs, &self.inputs)
    }

    /// The outputs to be matched, sorted by alias.
    pub fn wanted_outputs(&self) -> Vec<Wanted> {
        wanted(&self.definition.outputs, &self.outputs)
    }

    /// The defaults of inputs (`SignatureDef.defaults`), by alias.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` where one makes no tensor.
    pub fn defaults(&self) -> Result<BTreeMap<String, Tensor>> {
        let defaults = self.definition.defaults.iter();
        defaults
            .map(|(alias, proto)| {
                let info = self.definition.inputs.get(alias);
                let dtype = info.and_then(|info| DataType::from_number(info.dtype));
                let tensor = from_proto(proto, dtype, None).map_err(|error| {
                    let text = format!("the default of input '{alias}': {error}");
                    ServingError::invalid_argument(text)
                })?;
                Ok((alias.clone(), tensor))
            })
            .collect()
    }
}

fn wanted(infos: &BTreeMap<String, TensorInfo>, ports: &BTreeMap<String, Port>) -> Vec<Wanted> {
    let infos = infos.iter();
    infos
        .map(|(alias, info)| Wanted {
            alias: alias.clone(),
            info: info.clone(),
            pinned: ports.get(alias).and_then(|port| port.tensor.clone()),
        })
        .collect()
}

/// A definition from the graph's own names, less what the map gives another alias.
fn derive(map: Option<&map::Signature>, graph: &Interface) -> Result<SignatureDef> {
    let mut claimed = BTreeSet::new();
    let mut outputs_listed = false;
    if let Some(map) = map {
        claimed.extend(map.input.iter().map(|it| or_alias(&it.tensor, &it.alias)));
        claimed.extend(map.constant.iter().map(|it| it.tensor.as_str()));
        let example = map.example_input.iter();
        for example in example {
            claimed.insert(example.alias.as_str());
            claimed.extend(example.feature.iter().map(|it| it.tensor.as_str()));
            for it in &example.sparse_feature {
                let tensors = [&it.indices_tensor, &it.values_tensor, &it.shape_tensor];
                claimed.extend(tensors.map(String::as_str));
            }
            for it in &example.ragged_feature {
                claimed.extend([it.values_tensor.as_str(), it.row_splits_tensor.as_str()]);
            }
        }
        outputs_listed = !map.output.is_empty();
    }
    let mut definition = SignatureDef {
        method_name: PREDICT_METHOD_NAME.to_owned(),
        ..SignatureDef::default()
    };
    // Classify and Regress want one input and no more.
    let takes_examples = map.is_some_and(|map| {
        let methods = [CLASSIFY_METHOD_NAME, REGRESS_METHOD_NAME];
        map.example_input.is_some() || methods.contains(&map.method_name.as_str())
    });
    let offered = |name: &str| !(takes_examples && graph.optional.contains(name));
    for value in graph.inputs.iter().filter(|it| offered(&it.name)) {
        if !claimed.contains(value.name.as_str()) {
            let info = tensor_info(graph, "input", value)?;
            definition.inputs.insert(value.name.clone(), info);
        }
    }
    for value in graph.outputs.iter().filter(|_| !outputs_listed) {
        let info = tensor_info(graph, "output", value)?;
        definition.outputs.insert(value.name.clone(), info);
    }
    Ok(definition)
}

fn or_alias<'a>(tensor: &'a str, alias: &'a str) -> &'a str {
    if tensor.is_empty() { alias } else { tensor }
}

/// A map's signature on its way over a definition.
struct Overlay<'a> {
    map: &'a map::Signature,
    graph: &'a Interface,
}

impl Overlay<'_> {
    fn lay_over(&self, declaration: &mut Declaration) -> Result<()> {
        if !self.map.method_name.is_empty() {
            declaration.definition.method_name = self.map.method_name.clone();
        }
        for input in &self.map.input {
            self.lay_input(input, declaration)?;
        }
        for output in &self.map.output {
            self.lay_output(output, declaration)?;
        }
        for constant in &self.map.constant {
            let known = find(&self.graph.inputs, &constant.tensor);
            let known = known.ok_or_else(|| self.no_such("input", &constant.tensor))?;
            let value = constant.value.clone().unwrap_or_default();
            let shape: Option<Vec<usize>> = known.shape.as_ref().and_then(|shape| {
                let dims = shape.iter().map(|&dim| usize::try_from(dim).ok());
                dims.collect()
            });
            let value = from_proto(&value, known.dtype, shape.as_deref())?;
            declaration.constants.push((constant.tensor.clone(), value));
        }
        if let Some(example) = &self.map.example_input {
            self.lay_example(example, declaration)?;
        }
        Ok(())
    }

    fn lay_input(&self, input: &map::Input, declaration: &mut Declaration) -> Result<()> {
        let infos = &mut declaration.definition.inputs;
        let tensor = self.tensor(
            ("input", &input.alias, &input.tensor),
            &self.graph.inputs,
            infos,
        )?;
        let port = Port {
            tensor: tensor.map(|it| it.name.clone()),
            transpose: input.transpose.clone(),
            reshape: input.reshape.clone(),
            has_default: input.default.is_some(),
            has_rows: true,
            ..Port::default()
        };
        let default = input.default.clone();
        if let Some(mut default) = default {
            let dtype = DataType::from_number(input.dtype).or(tensor.and_then(|it| it.dtype));
            if default.dtype == 0 {
                default.dtype = dtype.map_or(0, DataType::number);
            }
            let alias = input.alias.clone();
            declaration.definition.defaults.insert(alias, default);
        }
        // The client's dim that becomes the graph's first one is `transpose[0]`, and so on.
        let shape = tensor.and_then(|it| client_shape(it, &port, |from, to| (to, from)));
        let info = infos
            .entry(input.alias.clone())
            .or_insert_with(|| TensorInfo {
                encoding: name_encoding(tensor),
                dtype: tensor.and_then(|it| it.dtype).map_or(0, DataType::number),
                tensor_shape: Some(shape_proto(shape.as_deref())),
            });
        replace(info, input.dtype, &input.shape);
        declaration.inputs.insert(input.alias.clone(), port);
        Ok(())
    }

    fn lay_output(&self, output: &map::Output, declaration: &mut Declaration) -> Result<()> {
        let infos = &mut declaration.definition.outputs;
        let tensor = self.tensor(
            ("output", &output.alias, &output.tensor),
            &self.graph.outputs,
            infos,
        )?;
        let port = Port {
            tensor: tensor.map(|it| it.name.clone()),
            transpose: output.transpose.clone(),
            reshape: output.reshape.clone(),
            labels: output.labels.clone(),
            top_k: usize::try_from(output.top_k).map_err(|_| {
                ServingError::invalid_argument(format!(
                    "output '{}': top_k is negative",
                    output.alias
                ))
            })?,
            has_default: false,
            // Stacked along a first axis, the tensors of a sequence come before the rows.
            has_rows: output.stack_axis.is_none_or(|axis| axis > 0),
        };
        let shape = tensor.and_then(|it| client_shape(it, &port, |from, to| (from, to)));
        let info = infos
            .entry(output.alias.clone())
            .or_insert_with(|| TensorInfo {
                encoding: name_encoding(tensor),
                dtype: tensor.and_then(|it| it.dtype).map_or(0, DataType::number),
                tensor_shape: Some(shape_proto(shape.as_deref())),
            });
        replace(info, output.dtype, &output.shape);
        declaration.outputs.insert(output.alias.clone(), port);
        Ok(())
    }

    fn lay_example(
        &self,
        example: &map::ExampleInput,
        declaration: &mut Declaration,
    ) -> Result<()> {
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

    /// The graph tensor that an entry means; `None` where it is left to the matching rules.
    fn tensor<'a>(
        &self,
        (what, alias, tensor): (&str, &str, &str),
        values: &'a [ValueInfo],
        known: &BTreeMap<String, TensorInfo>,
    ) -> Result<Option<&'a ValueInfo>> {
        if alias.is_empty() {
            let text = format!("an {what} has no alias");
            return Err(ServingError::invalid_argument(text));
        }
        match find(values, or_alias(tensor, alias)) {
            Some(value) if value.dtype.is_none() => Err(self.graph.unserved(what, value)),
            Some(value) => Ok(Some(value)),
            None if tensor.is_empty() && known.contains_key(alias) => Ok(None),
            None => Err(self.no_such(what, or_alias(tensor, alias))),
        }
    }

    fn no_such(&self, what: &str, name: &str) -> ServingError {
        let values = match what {
            "output" => &self.graph.outputs,
            _ => &self.graph.inputs,
        };
        let names: Vec<String> = values.iter().map(|it| format!("'{}'", it.name)).collect();
        ServingError::invalid_argument(format!(
            "the graph has no {what} '{name}'; it has {}",
            names.join(", ")
        ))
    }
}

fn find<'a>(values: &'a [ValueInfo], name: &str) -> Option<&'a ValueInfo> {
    values.iter().find(|value| value.name == name)
}

fn name_encoding(tensor: Option<&ValueInfo>) -> Option<tensor_info::Encoding> {
    tensor.map(|it| tensor_info::Encoding::Name(it.name.clone()))
}

fn replace(info: &mut TensorInfo, dtype: i32, shape: &Option<TensorShapeProto>) {
    if dtype != 0 {
        info.dtype = dtype;
    }
    if shape.is_some() {
        info.tensor_shape.clone_from(shape);
    }
}

/// What clients see of a graph tensor's shape through a port's transpose. `place` tells which of
/// two dims, the permutation's value and its index, is the graph's, and which the client's.
fn client_shape(
    tensor: &ValueInfo,
    port: &Port,
    place: impl Fn(usize, usize) -> (usize, usize),
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
        let (from, to) = place(usize::try_from(value).ok()?, index);
        *client.get_mut(to)? = *graph.get(from)?;
    }
    Some(client)
}

impl Interface {
    /// Says that a tensor of the graph cannot be served, and what can be done.
    fn unserved(&self, what: &str, value: &ValueInfo) -> ServingError {
        let known = self.unserved.get(&value.name);
        let ty = known.map_or("no tensor", String::as_str);
        let advice = match what {
            "output" => {
                "clients cannot get that. A signature_map.pbtxt with the other outputs leaves it out"
            }
            _ => "clients cannot send that. Let the graph take another type and convert it",
        };
        let name = &value.name;
        ServingError::unimplemented(format!("the graph's {what} '{name}' is {ty}: {advice}"))
    }
}

/// How a graph tensor looks to clients.
fn tensor_info(graph: &Interface, what: &str, value: &ValueInfo) -> Result<TensorInfo> {
    let dtype = value.dtype.ok_or_else(|| graph.unserved(what, value))?;
    Ok(TensorInfo {
        dtype: dtype.number(),
        tensor_shape: Some(shape_proto(value.shape.as_deref())),
        encoding: Some(tensor_info::Encoding::Name(value.name.clone())),
    })
}

/// A shape as clients see it: -1 for any size, `None` for any rank.
pub fn shape_proto(shape: Option<&[i64]>) -> TensorShapeProto {
    let dims = shape.unwrap_or_default().iter();
    let dims = dims.map(|&size| Dim {
        size,
        ..Dim::default()
    });
    TensorShapeProto {
        dim: dims.collect(),
        unknown_rank: shape.is_none(),
    }
}

/// The sizes of one example's values that a map gives a feature; -1 is kept for the first.
pub fn feature_shape(shape: &Option<TensorShapeProto>) -> Vec<i64> {
    let dims = shape.iter().flat_map(|shape| &shape.dim);
    dims.map(|dim| dim.size).collect()
}

/// A feature's default, of the feature's dtype and shape where it names none itself.
///
/// # Errors
///
/// `INVALID_ARGUMENT` where it makes no tensor.
pub fn feature_default(feature: &map::Feature) -> Result<Option<Tensor>> {
    let Some(default) = &feature.default else {
        return Ok(None);
    };
    let dtype = DataType::from_number(feature.dtype);
    let shape = feature.shape.as_ref().and_then(static_shape);
    from_proto(default, dtype, shape.as_deref()).map(Some)
}
