//! Nodes between a client and a graph: transposes, reshapes, casts and constants.

use super::interface::{
    elem_type, is_served, ranked_tensor_value, tensor_type, tensor_value, value_info,
};
use super::{OnnxModel, constant, node, traverse};
use base::error::{Result, ServingError};
use base::tensor::{DataType, Tensor};
use proto::onnx::{AttributeProto, NodeProto, attribute_proto::AttributeType};

/// The steps applied to a tensor on its way in or out: `transpose`, then `reshape`, then a cast.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transform {
    /// A permutation of the dimensions; empty for none.
    pub transpose: Vec<i64>,
    /// As in ONNX Reshape: 0 keeps a dim, and a single -1 is computed; empty for none.
    pub reshape: Vec<i64>,
    /// The dtype on the client's side, if it differs from the graph's.
    pub dtype: Option<DataType>,
}

impl Transform {
    /// Whether it has no steps.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl OnnxModel {
    /// Puts `transform` in front of the graph's input `name`, so that it receives the client's tensor.
    /// Returns the input's new name.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` if the graph lacks this input or ONNX lacks this type.
    pub fn transform_input(&mut self, name: &str, transform: &Transform) -> Result<String> {
        let index = self.graph().input.iter().position(|it| it.name() == name);
        let index = index.ok_or_else(|| self.no_such("input", name))?;
        let graph_type = self.elem_type_at(&self.graph().input[index])?;
        let client_type = self.client_type(transform, graph_type)?;

        let sent = self.unused_name(&format!("{name}/sent"));
        let mut steps = self.shape_steps(name, transform)?;
        if client_type != graph_type {
            steps.push(cast(graph_type));
        }
        let chain = self.chain(&sent, steps, name);
        let graph = self.graph_mut();
        let rank = value_info(&graph.input[index])
            .shape
            .map(|shape| shape.len());
        graph.input[index] = match rank.filter(|_| transform.reshape.is_empty()) {
            Some(rank) => ranked_tensor_value(&sent, client_type, rank),
            None => tensor_value(&sent, client_type),
        };
        graph.node.splice(0..0, chain);
        Ok(sent)
    }

    /// Puts `transform` after the graph's output `name`. Returns the output's new name.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` if the graph lacks this output or ONNX lacks this type.
    pub fn transform_output(&mut self, name: &str, transform: &Transform) -> Result<String> {
        let index = self.graph().output.iter().position(|it| it.name() == name);
        let index = index.ok_or_else(|| self.no_such("output", name))?;
        let graph_type = self.elem_type_at(&self.graph().output[index])?;
        let client_type = self.client_type(transform, graph_type)?;

        let served = self.unused_name(&format!("{name}/served"));
        let mut steps = self.shape_steps(name, transform)?;
        if client_type != graph_type {
            steps.push(cast(client_type));
        }
        let chain = self.chain(name, steps, &served);
        let graph = self.graph_mut();
        graph.output.push(tensor_value(&served, client_type));
        graph.node.extend(chain);
        Ok(served)
    }

    /// Sets the graph's input `name` to a constant, so that clients do not send it.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` if the graph lacks this input or it has a different type.
    pub fn set_constant(&mut self, name: &str, value: &Tensor) -> Result<()> {
        let index = self.graph().input.iter().position(|it| it.name() == name);
        let index = index.ok_or_else(|| self.no_such("input", name))?;
        let wanted = self.elem_type_at(&self.graph().input[index])?;
        let tensor = constant::from_tensor(name, value);
        let tensor = tensor
            .filter(|it| it.data_type() == wanted)
            .ok_or_else(|| {
                ServingError::invalid_argument(format!(
                    "{}: the constant for '{name}' is {}, which the graph does not take there",
                    self.origin,
                    value.dtype()
                ))
            })?;
        let graph = self.graph_mut();
        graph.input.remove(index);
        graph.initializer.retain(|it| it.name() != name);
        graph.initializer.push(tensor);
        Ok(())
    }

    /// Puts a node in front of every output that is also an input or a constant of the graph: ONNX Runtime
    /// requires one between the two. Returns the old and new names.
    pub fn separate_outputs(&mut self) -> Vec<(String, String)> {
        let graph = self.graph();
        let taken = |name: &str| {
            graph.input.iter().any(|it| it.name() == name)
                || constant::initializer(graph, name).is_some()
        };
        let outputs = graph.output.iter().map(|it| it.name().to_owned());
        let shared: Vec<String> = outputs.filter(|name| taken(name)).collect();
        let mut renamed = Vec::with_capacity(shared.len());
        for name in shared {
            let returned = self.unused_name(&format!("{name}/returned"));
            let copy = node("Identity", &[&name], &returned);
            let graph = self.graph_mut();
            for output in graph.output.iter_mut().filter(|it| it.name() == name) {
                output.name = Some(returned.clone());
            }
            graph.node.push(copy);
            renamed.push((name, returned));
        }
        renamed
    }

    /// Declares the type of the graph's input `name` if the file does not.
    pub fn set_input_type(&mut self, name: &str, dtype: DataType) {
        let Some(elem_type) = elem_type(dtype) else {
            return;
        };
        let inputs = self.graph_mut().input.iter_mut();
        for input in inputs.filter(|it| it.name() == name) {
            if tensor_type(input).is_none_or(|tensor| tensor.elem_type() == 0) {
                *input = tensor_value(name, elem_type);
            }
        }
    }

    /// Renames a tensor that a node of the graph writes, in that node and in its readers; the graph's
    /// declared outputs keep their names.
    pub(super) fn rename_made(&mut self, name: &str, new: &str) {
        let graph = self.graph_mut();
        for node in &mut graph.node {
            for output in node.output.iter_mut().filter(|it| *it == name) {
                *output = new.to_owned();
            }
        }
        rename_read(&mut graph.node, name, new);
    }

    fn shape_steps(&mut self, name: &str, transform: &Transform) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        if !transform.transpose.is_empty() {
            steps.push(Step {
                op_type: "Transpose",
                operand: None,
                attribute: Some(ints_attribute("perm", &transform.transpose)),
            });
        }
        if !transform.reshape.is_empty() {
            let dims = transform.reshape.clone();
            let shape = Tensor::from_vec(&[dims.len()], dims)
                .and_then(|shape| self.add_constant(&format!("{name}/shape"), &shape));
            steps.push(Step {
                op_type: "Reshape",
                operand: Some(shape.expect("ONNX has int64 vectors")),
                attribute: None,
            });
        }
        Ok(steps)
    }

    /// Nodes that apply all steps to `from` and write `to`.
    fn chain(&self, from: &str, steps: Vec<Step>, to: &str) -> Vec<NodeProto> {
        let count = steps.len();
        let mut nodes = Vec::with_capacity(count.max(1));
        let mut current = from.to_owned();
        for (index, step) in steps.into_iter().enumerate() {
            let next = if index + 1 == count {
                to.to_owned()
            } else {
                self.unused_name(&format!("{from}/{}", step.op_type))
            };
            let mut inputs = vec![current.as_str()];
            inputs.extend(step.operand.as_deref());
            let mut made = node(step.op_type, &inputs, &next);
            made.attribute.extend(step.attribute);
            nodes.push(made);
            current = next;
        }
        if nodes.is_empty() {
            nodes.push(node("Identity", &[from], to));
        }
        nodes
    }

    fn elem_type_at(&self, value: &proto::onnx::ValueInfoProto) -> Result<i32> {
        let tensor = tensor_type(value).map(|tensor| tensor.elem_type());
        tensor.ok_or_else(|| {
            ServingError::unimplemented(format!(
                "{}: '{}' is not a tensor",
                self.origin,
                value.name()
            ))
        })
    }

    fn client_type(&self, transform: &Transform, graph_type: i32) -> Result<i32> {
        let Some(dtype) = transform.dtype else {
            return Ok(graph_type);
        };
        elem_type(dtype).filter(|&it| is_served(it)).ok_or_else(|| {
            ServingError::unimplemented(format!("{}: {dtype} tensors are not served", self.origin))
        })
    }

    fn no_such(&self, what: &str, name: &str) -> ServingError {
        ServingError::invalid_argument(format!("{}: the graph has no {what} '{name}'", self.origin))
    }
}

struct Step {
    op_type: &'static str,
    operand: Option<String>,
    attribute: Option<AttributeProto>,
}

fn cast(to: i32) -> Step {
    Step {
        op_type: "Cast",
        operand: None,
        attribute: Some(int_attribute("to", i64::from(to))),
    }
}

/// Renames a tensor wherever nodes read it, including in nested graphs that do not define that name
/// themselves. Returns whether any node reads it.
pub(super) fn rename_read(nodes: &mut [NodeProto], name: &str, new: &str) -> bool {
    let mut is_read = false;
    for node in nodes {
        for input in node.input.iter_mut().filter(|it| *it == name) {
            *input = new.to_owned();
            is_read = true;
        }
        let visible = traverse::subgraphs_mut(node).filter(|graph| !traverse::defines(graph, name));
        for graph in visible {
            for output in graph.output.iter_mut().filter(|it| it.name() == name) {
                output.name = Some(new.to_owned());
                is_read = true;
            }
            is_read |= rename_read(&mut graph.node, name, new);
        }
    }
    is_read
}

/// An attribute that is one integer.
pub(super) fn int_attribute(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Int as i32),
        i: Some(value),
        ..AttributeProto::default()
    }
}

/// An attribute that is a list of integers.
pub(super) fn ints_attribute(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Ints as i32),
        ints: values.to_vec(),
        ..AttributeProto::default()
    }
}
