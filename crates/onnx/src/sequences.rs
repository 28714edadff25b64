//! Sequences of tensors returned by a graph: clients get each tensor as an output of its own, or all of them
//! stacked.
//!
//! Not here: the number of tensors in a sequence (`sequence_lengths`), sequences of maps (`zip_map`).

use std::collections::HashSet;

use super::constant::{MAX_HOPS, from_tensor};
use super::interface::{is_served, shaped_tensor_value};
use super::io_transforms::int_attribute;
use super::sequence_lengths::{Length, Lengths};
use super::{OnnxModel, Sequence, is_op, node, traverse};
use base::error::{Result, ServingError};
use base::tensor::Tensor;
use proto::onnx::{GraphProto, NodeProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto};

/// The maximum number of outputs made from the sequences of a graph.
const MAX_TENSORS: usize = 1024;

impl OnnxModel {
    /// Replaces every sequence that the graph returns with one output per tensor.
    pub fn take_sequences_apart(&mut self) {
        let functions = self.proto.functions.clone();
        let mut names = Names::of(self.graph());
        let mut left = MAX_TENSORS;
        let outputs = std::mem::take(&mut self.graph_mut().output);
        for output in outputs {
            let Some((elem_type, shape)) = sequence_type(&output) else {
                self.graph_mut().output.push(output);
                continue;
            };
            if self.sequences.iter().any(|it| it.name == output.name()) {
                continue;
            }
            let length = Lengths::new(&functions).of(self.graph(), output.name());
            let length = length.filter(|it| (1..=left).contains(&it.tensors));
            left -= length.map_or(0, |it| it.tensors);
            let elements = length
                .map(|length| self.elements(output.name(), length, elem_type, shape, &mut names));
            self.sequences.push(Sequence {
                name: output.name().to_owned(),
                elements,
                elem_type,
            });
        }
    }

    /// The sequences that the file's graph returned.
    pub fn sequences(&self) -> &[Sequence] {
        &self.sequences
    }

    /// Makes the tensors of the sequence `name` one output, stacked along a new axis. Returns the output's
    /// name.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` if the graph returned no such sequence.
    pub fn stack_sequence(&mut self, name: &str, axis: i64) -> Result<String> {
        let known = self.sequences.iter().find(|it| it.name == name);
        let elem_type = known.map(|it| it.elem_type).ok_or_else(|| {
            ServingError::invalid_argument(format!(
                "{}: stack_axis is for a sequence of tensors that the graph returns, and '{name}' is \
                 none",
                self.origin
            ))
        })?;
        let stacked = self.unused_name(&format!("{name}/stacked"));
        let mut concat = node("ConcatFromSequence", &[name], &stacked);
        concat.attribute.push(int_attribute("axis", axis));
        concat.attribute.push(int_attribute("new_axis", 1));
        let graph = self.graph_mut();
        graph.node.push(concat);
        let value = shaped_tensor_value(&stacked, elem_type, None);
        graph.output.push(value);
        Ok(stacked)
    }

    /// Adds the outputs for the tensors of a sequence and returns their names.
    fn elements(
        &mut self,
        sequence: &str,
        length: Length,
        elem_type: i32,
        shape: Option<TensorShapeProto>,
        names: &mut Names,
    ) -> Vec<String> {
        let outputs = (0..length.tensors).map(|index| format!("{sequence}_{index}"));
        let outputs = outputs.map(|wish| self.free_output_name(&wish, names));
        let outputs: Vec<String> = outputs.collect();
        let direct = self.tensors_of(sequence);
        let positions = match (&direct, length.is_declared) {
            (None, true) => Some(self.checked_positions(sequence, length.tensors, names)),
            _ => None,
        };
        for (index, name) in outputs.iter().enumerate() {
            let (nodes, shape) = match direct.as_ref().and_then(|it| it.get(index)) {
                Some(tensor) => {
                    let shape = self.declared_shape(tensor).or_else(|| shape.clone());
                    (vec![node("Identity", &[tensor], name)], shape)
                }
                None => {
                    let nodes = self.element(sequence, index, name, &positions, names);
                    (nodes, shape.clone())
                }
            };
            let graph = self.graph_mut();
            graph.node.extend(nodes);
            graph
                .output
                .push(shaped_tensor_value(name, elem_type, shape));
        }
        outputs
    }

    /// Nodes that take one tensor out of a sequence. If `positions` is given, it holds the numbers of all
    /// tensors.
    fn element(
        &mut self,
        sequence: &str,
        index: usize,
        output: &str,
        positions: &Option<String>,
        names: &mut Names,
    ) -> Vec<NodeProto> {
        let number = self.number(&format!("{output}/number"), index, names);
        let Some(positions) = positions else {
            return vec![node("SequenceAt", &[sequence, &number], output)];
        };
        let position = names.take(&format!("{output}/position"));
        vec![
            node("Gather", &[positions, &number], &position),
            node("SequenceAt", &[sequence, &position], output),
        ]
    }

    /// The numbers of a sequence's tensors, in a tensor whose computation fails if there are more or fewer
    /// than `count`.
    fn checked_positions(&mut self, sequence: &str, count: usize, names: &mut Names) -> String {
        let numbers: Vec<i64> = (0..count).filter_map(|it| i64::try_from(it).ok()).collect();
        let numbers = Tensor::from_vec(&[count], numbers);
        let numbers = self.constant_named(&format!("{sequence}/numbers"), numbers, names);
        let vector = Tensor::from_vec(&[1], vec![-1_i64]);
        let vector = self.constant_named(&format!("{sequence}/vector"), vector, names);
        let [length, shape, positions] =
            ["length", "shape", "positions"].map(|it| names.take(&format!("{sequence}/{it}")));
        let nodes = [
            node("SequenceLength", &[sequence], &length),
            node("Reshape", &[&length, &vector], &shape),
            node("Reshape", &[&numbers, &shape], &positions),
        ];
        self.graph_mut().node.extend(nodes);
        positions
    }

    fn number(&mut self, wish: &str, value: usize, names: &mut Names) -> String {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.constant_named(wish, Tensor::from_vec(&[], vec![value]), names)
    }

    fn constant_named(&mut self, wish: &str, value: Option<Tensor>, names: &mut Names) -> String {
        let name = names.take(wish);
        let tensor = value.and_then(|it| from_tensor(&name, &it));
        self.graph_mut().initializer.extend(tensor);
        name
    }

    /// `wish` as the name of an output; a tensor inside the graph with that name gets another, if it can.
    fn free_output_name(&mut self, wish: &str, names: &mut Names) -> String {
        let is_made = || {
            let mut nodes = self.graph().node.iter();
            nodes.any(|node| node.output.iter().any(|name| name == wish))
        };
        let name = if names.taken.insert(wish.to_owned()) {
            wish.to_owned()
        } else if !names.visible.contains(wish) && is_made() {
            let other = names.take(wish);
            self.rename_made(wish, &other);
            wish.to_owned()
        } else {
            names.take(wish)
        };
        names.visible.insert(name.clone());
        name
    }

    /// The tensors that a sequence consists of, if a single node constructs it: then nothing has to be taken
    /// out of it.
    fn tensors_of(&self, sequence: &str) -> Option<Vec<String>> {
        let nodes = &self.graph().node;
        let mut name = sequence;
        for _ in 0..MAX_HOPS {
            let makes = |it: &&NodeProto| it.output.iter().any(|made| made == name);
            let maker = nodes.iter().find(makes)?;
            if is_op(maker, "SequenceConstruct") {
                return Some(maker.input.clone());
            }
            name = maker.input.first().filter(|_| is_op(maker, "Identity"))?;
        }
        None
    }

    fn declared_shape(&self, tensor: &str) -> Option<TensorShapeProto> {
        let graph = self.graph();
        let mut values = graph.value_info.iter().chain(&graph.input);
        let value = values.find(|it| it.name() == tensor)?;
        match value.r#type.as_ref()?.value.as_ref()? {
            type_proto::Value::TensorType(tensor) => tensor.shape.clone(),
            _ => None,
        }
    }
}

/// The names of a graph.
struct Names {
    taken: HashSet<String>,
    /// The names of outputs.
    visible: HashSet<String>,
}

impl Names {
    fn of(graph: &GraphProto) -> Self {
        let visible = graph.output.iter().map(|it| it.name().to_owned());
        Self {
            taken: traverse::names(graph)
                .into_iter()
                .map(str::to_owned)
                .collect(),
            visible: visible.collect(),
        }
    }

    fn take(&mut self, wish: &str) -> String {
        let mut name = wish.to_owned();
        let mut number = 0;
        while !self.taken.insert(name.clone()) {
            number += 1;
            name = format!("{wish}.{number}");
        }
        name
    }
}

/// The type of the tensors of a sequence, if they can be served, and their shape if declared. Converters
/// write an undeclared shape as one without dimensions.
fn sequence_type(value: &ValueInfoProto) -> Option<(i32, Option<TensorShapeProto>)> {
    let inner: &TypeProto = match value.r#type.as_ref()?.value.as_ref()? {
        type_proto::Value::SequenceType(sequence) => sequence.elem_type.as_ref()?,
        _ => return None,
    };
    match inner.value.as_ref()? {
        type_proto::Value::TensorType(tensor) if is_served(tensor.elem_type()) => {
            let shape = tensor.shape.clone().filter(|it| !it.dim.is_empty());
            Some((tensor.elem_type(), shape))
        }
        _ => None,
    }
}
