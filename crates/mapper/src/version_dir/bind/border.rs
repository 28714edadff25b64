//! Converts between the tensors of clients and those of the graph: casts, transposes, reshapes.

use super::Binder;
use crate::signature::{
    Feed, TensorMapping, arranged_shape, contradicts, is_convertible, known_shape, shape_text,
};
use base::error::{Result, ServingError};
use base::tensor::DataType;
use onnx::Transform;
use runtime::ValueInfo;

impl Binder<'_> {
    /// If the signature has bfloat16 and the graph float16, makes the graph compute in float.
    pub(super) fn widen_bfloat16(&mut self) {
        let definition = &self.declaration.definition;
        let infos = definition
            .inputs
            .values()
            .chain(definition.outputs.values());
        let mut dtypes = infos.filter_map(|info| DataType::from_number(info.dtype));
        let is_half = |it: &&mut ValueInfo| it.dtype == Some(DataType::Half);
        if !dtypes.clone().any(|it| it == DataType::BFloat16)
            || dtypes.any(|it| it == DataType::Half)
            || !self.model.widen_half()
        {
            return;
        }
        let values = self.graph.inputs.iter_mut().chain(&mut self.graph.outputs);
        for value in values.filter(is_half) {
            value.dtype = Some(DataType::Float);
        }
    }

    pub(super) fn transform_outputs(&mut self) -> Result<()> {
        let mut ready: Vec<(Transform, String, String)> = Vec::new();
        let found = self.outputs.found.clone();
        for (alias, (tensor, _)) in found {
            let info = self.declaration.definition.outputs.get(&alias);
            let info = info.ok_or_else(|| self.undescribed("output", &alias))?;
            let port = self.declaration.outputs.get(&alias);
            let declared = self.graph.outputs.iter().find(|it| it.name == tensor);
            let graph_dtype = declared.and_then(|it| it.dtype);
            check_axes(port, declared, None)
                .map_err(|error| self.explain(&format!("output '{alias}'"), error))?;
            let transform = self.transform(("output", &alias), port, info.dtype, graph_dtype)?;
            let known = ready.iter().find(|it| it.0 == transform && it.1 == tensor);
            let name = match known {
                _ if transform.is_empty() => tensor,
                Some((_, _, name)) => name.clone(),
                None => {
                    let name = self.model.transform_output(&tensor, &transform)?;
                    ready.push((transform, tensor, name.clone()));
                    name
                }
            };
            self.fetched.insert(alias, name);
        }
        let names: Vec<String> = self.fetched.values().cloned().collect();
        self.model.prune(&names);
        Ok(())
    }

    pub(super) fn transform_inputs(&mut self) -> Result<()> {
        let needed = self.needed();
        let wanted = self.declaration.wanted_inputs();
        let index_of = |alias: &str| wanted.iter().position(|it| it.alias == alias);
        for (alias, (tensor, _)) in self.inputs.found.clone() {
            let is_needed = needed.contains(&tensor);
            if !is_needed && self.model.default_of(&tensor).is_none() {
                continue;
            }
            let info = self.declaration.definition.inputs.get(&alias);
            let info = info.ok_or_else(|| self.undescribed("input", &alias))?;
            let port = self.declaration.inputs.get(&alias);
            let declared = self.graph.inputs.iter().find(|it| it.name == tensor);
            let graph_dtype = declared.and_then(|it| it.dtype);
            let sent = known_shape(info);
            check_axes(port, declared, sent.as_deref())
                .and_then(|()| self.check_default(&alias, port, declared))
                .map_err(|error| self.explain(&format!("input '{alias}'"), error))?;
            let transform = self.transform(("input", &alias), port, info.dtype, graph_dtype)?;
            let default = self.default(&alias, &tensor, &transform)?;
            self.optional
                .extend(default.map(|default| (alias.clone(), default)));
            if !is_needed {
                continue;
            }
            let name = if transform.is_empty() {
                tensor
            } else {
                self.model.transform_input(&tensor, &transform)?
            };
            let index = index_of(&alias).ok_or_else(|| self.undescribed("input", &alias))?;
            self.feeds.insert(name, Feed::Input(index));
        }
        for (example, features) in self.features.values().enumerate() {
            for (tensor, (feature, dtype)) in &features.feeds {
                if !needed.contains(tensor) {
                    continue;
                }
                self.model.set_input_type(tensor, *dtype);
                let inputs = self.model.inputs();
                let graph_dtype = inputs.iter().find(|it| it.name == *tensor);
                let graph_dtype = graph_dtype.and_then(|it| it.dtype);
                let what = ("feature for", tensor.as_str());
                let transform = self.transform(what, None, dtype.number(), graph_dtype)?;
                let name = if transform.is_empty() {
                    tensor.clone()
                } else {
                    self.model.transform_input(tensor, &transform)?
                };
                self.feeds.insert(name, Feed::Feature(example, *feature));
            }
        }
        Ok(())
    }

    /// Refuses a map's default whose shape the graph does not accept.
    fn check_default(
        &self,
        alias: &str,
        port: Option<&TensorMapping>,
        declared: Option<&ValueInfo>,
    ) -> Result<()> {
        let Some(port) = port.filter(|it| it.has_default) else {
            return Ok(());
        };
        let Some(default) = self.declaration.defaults()?.remove(alias) else {
            return Ok(());
        };
        let made = arranged_shape(default.shape(), &port.transpose, &port.reshape);
        let declared = declared
            .and_then(|it| it.shape.as_deref())
            .unwrap_or_default();
        match made {
            Some(made) if contradicts(&made, declared) => {
                Err(ServingError::invalid_argument(format!(
                    "the map's default of the shape {:?} gets to the graph as {made:?}, and the graph \
                     takes {}",
                    default.shape(),
                    shape_text(Some(declared))
                )))
            }
            Some(_) => Ok(()),
            None => Err(ServingError::invalid_argument(format!(
                "the map's default has the shape {:?}, to which its transpose and reshape do not apply",
                default.shape()
            ))),
        }
    }

    fn undescribed(&self, what: &str, alias: &str) -> ServingError {
        let error = ServingError::invalid_argument("it is not in the signature");
        self.explain(&format!("{what} '{alias}'"), error)
    }

    /// The conversions between the client and a graph tensor.
    fn transform(
        &self,
        (what, alias): (&str, &str),
        port: Option<&TensorMapping>,
        client_dtype: i32,
        graph_dtype: Option<DataType>,
    ) -> Result<Transform> {
        let mut transform = Transform::default();
        if let Some(port) = port {
            transform.transpose.clone_from(&port.transpose);
            transform.reshape.clone_from(&port.reshape);
        }
        let (Some(client), Some(graph)) = (DataType::from_number(client_dtype), graph_dtype) else {
            return Ok(transform);
        };
        if client != graph {
            if !is_convertible(client, graph) {
                return Err(ServingError::invalid_argument(format!(
                    "{}: signature '{}': {what} '{alias}' is {client} for clients and {graph} in \
                     the graph, which cannot be converted",
                    self.file.model.origin(),
                    self.declaration.name
                )));
            }
            tracing::info!(
                model = self.file.model.origin(),
                signature = self.declaration.name,
                "{what} '{alias}' is {client} for clients and {graph} in the graph: converted"
            );
            transform.dtype = Some(client);
        }
        Ok(transform)
    }
}

/// Refuses a map's transpose that is not a permutation of the tensor's axes. For an input, `sent` is the
/// shape that clients send.
fn check_axes(
    port: Option<&TensorMapping>,
    declared: Option<&ValueInfo>,
    sent: Option<&[i64]>,
) -> Result<()> {
    let Some(port) = port.filter(|it| !it.transpose.is_empty()) else {
        return Ok(());
    };
    let transpose = &port.transpose;
    let mut axes = transpose.clone();
    axes.sort_unstable();
    if !axes.iter().copied().eq((0..).take(transpose.len())) {
        return Err(ServingError::invalid_argument(format!(
            "the map's transpose {transpose:?} has to name each axis from 0 to {} once",
            transpose.len() - 1
        )));
    }
    // An unknown rank is sometimes written as an empty list of dimensions.
    let of_graph = declared.and_then(|it| it.shape.as_deref());
    let of_graph = of_graph.filter(|it| !it.is_empty());
    let transposed = match (sent, port.reshape.is_empty()) {
        (Some(sent), false) => Some(sent),
        _ => of_graph,
    };
    let is_input_reshaped = !port.reshape.is_empty() && sent.is_some();
    match transposed.map(<[i64]>::len) {
        Some(rank) if rank != transpose.len() => Err(ServingError::invalid_argument(format!(
            "the map's transpose {transpose:?} is for tensors of {} dimensions, and {} {rank}",
            transpose.len(),
            if is_input_reshaped {
                "clients send"
            } else {
                "the graph's tensor has"
            }
        ))),
        _ => Ok(()),
    }
}
