//! Turns the matched tensors into a signature.

use std::sync::Arc;

use super::optional::show_defaults;
use super::{Binder, BoundSignature, Tensors};
use crate::signature::{
    Classes, ExampleInput, Input, Output, OutputSource, Rule, Signature, known_shape, tensor_name,
};
use base::error::{Result, ServingError};
use base::tensor::DataType;

impl Binder<'_> {
    pub(super) fn into_bound(mut self) -> Result<BoundSignature> {
        for (name, returned) in self.model.separate_outputs() {
            let fetched = self.fetched.values_mut().filter(|it| **it == name);
            fetched.for_each(|it| it.clone_from(&returned));
        }
        let mut fetches = Vec::new();
        let inputs = self.signature_inputs()?;
        let outputs = self.signature_outputs(&inputs, &mut fetches)?;
        let examples = self.features.iter().map(|(alias, features)| {
            let input = index_of(&inputs, alias).ok_or_else(|| {
                let text = "it takes examples, and is not in the signature";
                let error = ServingError::invalid_argument(text);
                self.explain(&format!("input '{alias}'"), error)
            })?;
            Ok(ExampleInput {
                input,
                spec: features.spec.clone(),
                takes_scalar: features.takes_scalar,
                node: self.parse_node_name(alias),
            })
        });
        let examples = examples.collect::<Result<Vec<_>>>()?;
        let (input_tensors, output_tensors) = self.described();
        let fed_twice = self.fed_twice(&inputs);
        let is_original = self.declaration.is_original;
        let mut definition = self.declaration.definition;
        show_defaults(&mut definition, &inputs, &self.declaration.kept);
        for change in &self.declaration.changes {
            tracing::info!(
                model = self.file.model.origin(),
                signature = self.declaration.name,
                "the signature map: {change}"
            );
        }
        Ok(BoundSignature {
            signature: Signature {
                name: self.declaration.name,
                method_name: definition.method_name.clone(),
                inputs,
                outputs,
                examples,
                feeds: Vec::new(),
                declared_shapes: Vec::new(),
                fed_twice,
                is_original,
                definition,
                changes: self.declaration.changes,
                kept: self.declaration.kept,
                earlier: self.declaration.earlier,
            },
            model: self.model,
            feeds: self.feeds,
            inputs: input_tensors,
            outputs: output_tensors,
            fetches,
            optional: self.optional,
        })
    }

    fn signature_inputs(&self) -> Result<Vec<Input>> {
        let mut defaults = self.declaration.defaults()?;
        let wanted = self.declaration.wanted_inputs().into_iter();
        wanted
            .map(|it| {
                let dtype = match self.features.contains_key(&it.alias) {
                    true => Some(DataType::String),
                    false => DataType::from_number(it.info.dtype),
                };
                let dtype = dtype.ok_or_else(|| {
                    let error = ServingError::invalid_argument("its dtype is not known");
                    self.explain(&format!("input '{}'", it.alias), error)
                })?;
                let of_graph = self.optional.get(&it.alias).cloned();
                let port = self.declaration.inputs.get(&it.alias);
                let sent = known_shape(&it.info);
                Ok(Input {
                    tensor_name: tensor_name(&it.info).to_owned(),
                    dtype,
                    is_optional: of_graph.is_some() || port.is_some_and(|it| it.has_default),
                    graph_has_default: of_graph.is_some(),
                    default: defaults.remove(&it.alias).or(of_graph),
                    has_rows: port.is_none_or(|it| it.keeps_rows(sent.as_deref())),
                    alias: it.alias,
                })
            })
            .collect()
    }

    /// The parse node that reads the input's tensor in the graph of `saved_model.pb`. Nodes in functions
    /// are left out because errors there name more than the node.
    fn parse_node_name(&self, alias: &str) -> Option<String> {
        let info = self.declaration.definition.inputs.get(alias)?;
        let operation = tensor_name(info).strip_suffix(":0")?;
        let mut nodes = self.file.parse_nodes.iter();
        let node = nodes.find(|it| !it.is_in_function && it.serialized == operation);
        node.map(|it| it.name.clone())
    }

    /// The first tensor that several inputs feed, because they have the same name in the signature or
    /// because of a map.
    fn fed_twice(&self, inputs: &[Input]) -> Option<String> {
        let mapped = inputs.iter().map(|input| {
            let found = self.inputs.found.get(&input.alias);
            found.map_or("", |(tensor, _)| tensor.as_str())
        });
        let named = inputs.iter().map(|input| input.tensor_name.as_str());
        first_repeated(named).or_else(|| first_repeated(mapped))
    }

    /// The outputs. Adds each graph output that they need to `fetches`, once.
    fn signature_outputs(
        &self,
        inputs: &[Input],
        fetches: &mut Vec<String>,
    ) -> Result<Vec<Output>> {
        let mut outputs = Vec::new();
        for alias in self.declaration.definition.outputs.keys() {
            let input = self.handed_through.get(alias);
            let source = match input.and_then(|input| index_of(inputs, input)) {
                Some(index) if self.declaration.is_original => OutputSource::Fed(index),
                Some(index) => OutputSource::Input(index),
                None => {
                    let name = self.fetched.get(alias).ok_or_else(|| {
                        let error = ServingError::invalid_argument("no tensor of the graph is it");
                        self.explain(&format!("output '{alias}'"), error)
                    })?;
                    let known = fetches.iter().position(|it| it == name);
                    OutputSource::Graph(known.unwrap_or_else(|| {
                        fetches.push(name.clone());
                        fetches.len() - 1
                    }))
                }
            };
            outputs.push(Output {
                alias: alias.clone(),
                source,
                has_rows: self.has_rows(alias),
                classes: self.classes(alias)?.map(Arc::new),
            });
        }
        Ok(outputs)
    }

    fn has_rows(&self, alias: &str) -> bool {
        let Some(port) = self.declaration.outputs.get(alias) else {
            return true;
        };
        let found = self.outputs.found.get(alias);
        let found = found.and_then(|(tensor, _)| {
            let mut outputs = self.graph.outputs.iter();
            outputs.find(|it| it.name == *tensor)
        });
        let made = found.and_then(|it| it.shape.as_deref());
        !port.is_stacked_first && port.keeps_rows(made)
    }

    fn classes(&self, alias: &String) -> Result<Option<Classes>> {
        let port = self.declaration.outputs.get(alias);
        let top_k = port.map_or(0, |port| port.top_k);
        if let Some(labels) = port.and_then(|port| port.labels.as_ref()) {
            let labels = (self.file.read_labels)(labels)?;
            return Ok(Some(Classes { labels, top_k }));
        }
        let tensor = self.outputs.found.get(alias).map(|(tensor, _)| tensor);
        let mut known = self.file.class_labels.iter();
        let known = known.find(|it| Some(&it.output) == tensor);
        if known.is_none() && top_k > 0 {
            let error = ServingError::invalid_argument(
                "top_k needs labels, and neither the map nor the graph has any for it",
            );
            return Err(self.explain(&format!("output '{alias}'"), error));
        }
        Ok(known.map(|it| Classes {
            labels: it.labels.clone(),
            top_k,
        }))
    }

    /// Graph tensor and rule by alias, of inputs and of outputs.
    fn described(&self) -> (Tensors, Tensors) {
        let mut inputs = self.inputs.found.clone();
        for (alias, features) in &self.features {
            let tensors: Vec<&str> = features.feeds.keys().map(String::as_str).collect();
            inputs.insert(alias.clone(), (tensors.join(", "), Rule::Examples));
        }
        for (kept, newest) in &self.declaration.kept {
            if let Some((tensor, _)) = inputs.get(newest) {
                let found = (tensor.clone(), Rule::Map);
                inputs.insert(kept.clone(), found);
            }
        }
        let mut outputs = self.outputs.found.clone();
        for (alias, input) in &self.handed_through {
            let rule = match self.declaration.is_original {
                true => Rule::Fed,
                false => Rule::PassThrough,
            };
            let tensor = self.inputs.found.get(input).map(|(tensor, _)| tensor);
            outputs.insert(alias.clone(), (tensor.unwrap_or(input).clone(), rule));
        }
        (inputs, outputs)
    }
}

/// The smallest name that occurs more than once.
fn first_repeated<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    let repeated = names.windows(2).find(|pair| pair[0] == pair[1]);
    repeated.map(|pair| pair[0].to_owned())
}

fn index_of(inputs: &[Input], alias: &str) -> Option<usize> {
    inputs.iter().position(|it| it.alias == alias)
}
