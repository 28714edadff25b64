//! Builds the ONNX graph of a signature, node by node.
//!
//! Nodes go to the innermost open graph; constants to the main graph, where each is stored once. The methods
//! for common operators are in `builder::common`, which also fold small integers.
//!
//! Not here: which nodes stand for a TensorFlow operator (`ops`).

mod axes;
mod axis;
pub(crate) mod common;
mod fused;
mod gather;
mod graphs;
mod guard;
pub(crate) mod kernels;
mod made;
mod origin;
mod prune;
mod require;
mod reshape;
mod strings;
mod text;

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use base::tensor::{DataType, Tensor as Elements};
use bytes::Bytes;
use proto::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto,
    attribute_proto::AttributeType,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};

use crate::refusal::Refusal;
use crate::transposed::Transposed;
use crate::value::{Constant, Shape, Tensor};

pub(crate) use self::common::{axis_of, from_start};
pub(crate) use self::graphs::OUT_OF_RANGE;
pub(crate) use self::made::Made;
pub(crate) use self::origin::Origin;

/// The version of ONNX's operators that a translation uses.
pub(crate) const OPSET: i64 = 21;
const IR_VERSION: i64 = 10;
/// The domain of the operators that ONNX Runtime adds.
pub(crate) const MICROSOFT: &str = "com.microsoft";
/// The domain of the operators for classic machine learning.
pub(crate) const ML: &str = "ai.onnx.ml";

/// A graph that is being built, with the graphs nested in it.
pub(crate) struct Builder {
    /// The open graphs, the innermost last.
    graphs: Vec<GraphProto>,
    initializers: Vec<TensorProto>,
    /// The initializers by dtype, shape and the address of their elements.
    by_place: HashMap<(DataType, Vec<usize>, usize, usize), Rc<str>>,
    /// The small initializers by dtype, shape and elements.
    by_value: HashMap<(DataType, Vec<usize>, Bytes), Rc<str>>,
    names: HashSet<Rc<str>>,
    /// The number that the next node with this name gets.
    next: HashMap<String, usize>,
    /// The TensorFlow node that is being translated.
    label: String,
    /// The constants that became initializers, so that no address of elements is used twice.
    kept: Vec<Rc<Constant>>,
    transposed: Rc<Transposed>,
    /// The TensorFlow nodes that tensors are results of, by the tensors' names.
    origins: HashMap<Rc<str>, Rc<Origin>>,
    /// The nodes that compute tensors, by the tensors' names.
    made: HashMap<Rc<str>, Rc<Made>>,
    /// The tensors that were transposed, with the order, by the names of the results.
    transposes: HashMap<Rc<str>, (Tensor, Vec<i64>)>,
    fused: fused::Fused,
}

/// Constants up to this size are compared by their elements.
const MAX_COMPARED_BYTES: usize = 1 << 10;

impl Builder {
    /// An empty graph.
    pub(crate) fn new() -> Self {
        Self {
            graphs: vec![GraphProto::default()],
            initializers: Vec::new(),
            by_place: HashMap::new(),
            by_value: HashMap::new(),
            names: HashSet::new(),
            next: HashMap::new(),
            label: String::new(),
            kept: Vec::new(),
            transposed: Rc::default(),
            origins: HashMap::new(),
            made: HashMap::new(),
            transposes: HashMap::new(),
            fused: fused::Fused::default(),
        }
    }

    /// Transposed constants are those of other graphs too.
    pub(crate) fn sharing(mut self, transposed: Rc<Transposed>) -> Self {
        self.transposed = transposed;
        self
    }

    /// The nodes that follow belong to this TensorFlow node.
    pub(crate) fn set_label(&mut self, label: &str) {
        label.clone_into(&mut self.label);
    }

    /// The TensorFlow node that is being translated.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// The number of nodes of the open graphs.
    #[cfg(test)]
    pub(crate) fn node_count(&self) -> usize {
        self.graphs.iter().map(|it| it.node.len()).sum()
    }

    /// An unused name, made from `wish`.
    pub(crate) fn take_name(&mut self, wish: &str) -> Rc<str> {
        let number = self.next.entry(wish.to_owned()).or_default();
        loop {
            let name: Rc<str> = match *number {
                0 => Rc::from(wish),
                number => Rc::from(format!("{wish}.{number}")),
            };
            *number += 1;
            if self.names.insert(Rc::clone(&name)) {
                return name;
            }
        }
    }

    /// Adds an input of the innermost graph.
    pub(crate) fn input(
        &mut self,
        wish: &str,
        dtype: DataType,
        shape: Shape,
    ) -> Result<Tensor, Refusal> {
        let name = self.take_name(wish);
        let value = value_info(&name, dtype, &shape)?;
        self.graph().input.push(value);
        Ok(Tensor::named(name, dtype, shape))
    }

    /// Adds an output of the innermost graph: `value` under a name of its own.
    pub(crate) fn output(&mut self, wish: &str, value: &Tensor) -> Result<Rc<str>, Refusal> {
        let name = self.take_name(wish);
        let input = self.operand(value)?;
        let declared = value_info(&name, value.dtype, &value.shape)?;
        self.graph().node.push(NodeProto {
            op_type: Some("Identity".to_owned()),
            name: Some(format!("{name}/Identity")),
            input: vec![input],
            output: vec![(*name).to_owned()],
            ..NodeProto::default()
        });
        self.graph().output.push(declared);
        Ok(name)
    }

    /// Opens a graph nested in the innermost one: the body of an `If`, a `Loop` or a `Scan`. It can read all
    /// tensors around it.
    pub(crate) fn open_graph(&mut self) {
        self.graphs.push(GraphProto::default());
    }

    /// Closes the innermost graph, which the node that contains it takes as an attribute.
    pub(crate) fn close_graph(&mut self) -> GraphProto {
        let name = self.take_name("body");
        let mut graph = self.graphs.pop().unwrap_or_default();
        prune::prune(&mut graph);
        graph.name = Some((*name).to_owned());
        graph
    }

    /// Whether the innermost graph is the body of an operator.
    pub(crate) fn is_nested(&self) -> bool {
        self.graphs.len() > 1
    }

    /// The input of the main graph whose elements a tensor has in the same order, if there is one.
    pub(crate) fn input_behind(&self, tensor: &Tensor) -> Option<Tensor> {
        const SAME_ELEMENTS: &[&str] = &["Identity", "Reshape", "Squeeze", "Unsqueeze"];
        let main = self.graphs.first()?;
        let mut name: &str = tensor.name().ok()?;
        for node in main.node.iter().rev() {
            if node.output.first().is_some_and(|it| it == name) {
                if !SAME_ELEMENTS.contains(&node.op_type()) {
                    return None;
                }
                name = node.input.first()?;
            }
        }
        let input = main.input.iter().find(|it| it.name() == name)?;
        let Some(type_proto::Value::TensorType(of)) = &input.r#type.as_ref()?.value else {
            return None;
        };
        let dims = of.shape.as_ref().map(|it| it.dim.iter());
        let dims = dims.map(|it| {
            it.map(|it| match it.value {
                Some(dimension::Value::DimValue(size)) => Some(size),
                _ => None,
            })
            .collect()
        });
        Some(Tensor::named(name, tensor.dtype, Shape(dims)))
    }

    /// Writes down the dtype and shape of a tensor that nodes of this server's own leave open.
    pub(crate) fn declare(&mut self, tensor: &Tensor) -> Result<(), Refusal> {
        if let Ok(name) = tensor.name() {
            let declared = value_info(name, tensor.dtype, &tensor.shape)?;
            self.graph().value_info.push(declared);
        }
        Ok(())
    }

    /// Starts a node of ONNX's own domain.
    pub(crate) fn op<'a>(&'a mut self, op_type: &str, inputs: &[&Tensor]) -> NewNode<'a> {
        NewNode {
            inputs: inputs.iter().map(|&it| it.clone()).collect(),
            node: NodeProto {
                op_type: Some(op_type.to_owned()),
                ..NodeProto::default()
            },
            builder: self,
        }
    }

    /// The name under which a node reads a tensor. A constant becomes an initializer.
    fn operand(&mut self, tensor: &Tensor) -> Result<String, Refusal> {
        let constant = match tensor.name() {
            Ok(name) => return Ok((**name).to_owned()),
            Err(constant) => constant,
        };
        let elements = &constant.elements;
        let key = (elements.dtype(), elements.shape().to_vec());
        let small = elements
            .bytes()
            .filter(|it| it.len() <= MAX_COMPARED_BYTES)
            .map(|it| (key.0, key.1.clone(), it.clone()));
        let place = elements.bytes().map_or_else(
            || {
                elements
                    .strings()
                    .map(|it| (it.as_ptr() as usize, it.len()))
            },
            |it| Some((it.as_ptr() as usize, it.len())),
        );
        let place = place.map(|(address, len)| (key.0, key.1, address, len));
        let known = match (&small, &place) {
            (Some(small), _) => self.by_value.get(small),
            (None, Some(place)) => self.by_place.get(place),
            (None, None) => None,
        };
        if let Some(name) = known {
            return Ok((**name).to_owned());
        }
        let wish = match constant.name.get() {
            Some(name) => Rc::clone(name),
            None => Rc::from(format!("{}/constant", self.label)),
        };
        let name = self.take_name(&wish);
        let initializer = onnx::initializer(&name, elements)
            .ok_or_else(|| Refusal::new(format!("has a constant of dtype {}", elements.dtype())))?;
        self.initializers.push(initializer);
        self.kept.push(Rc::clone(constant));
        if let Some(small) = small {
            self.by_value.insert(small, Rc::clone(&name));
        } else if let Some(place) = place {
            self.by_place.insert(place, Rc::clone(&name));
        }
        Ok((*name).to_owned())
    }

    fn graph(&mut self) -> &mut GraphProto {
        self.graphs.last_mut().expect("the main graph stays open")
    }

    /// The finished model.
    pub(crate) fn finish(mut self, producer_version: &str) -> ModelProto {
        let mut graph = self.graphs.swap_remove(0);
        prune::prune(&mut graph);
        prune::retain_read(&graph, &mut self.initializers);
        graph.name = Some("signature".to_owned());
        graph.initializer = self.initializers;
        let import = |domain: &str, version| OperatorSetIdProto {
            domain: Some(domain.to_owned()),
            version: Some(version),
        };
        ModelProto {
            ir_version: Some(IR_VERSION),
            opset_import: vec![import("", OPSET), import(MICROSOFT, 1), import(ML, 4)],
            producer_name: Some("onnx_model_server".to_owned()),
            producer_version: Some(producer_version.to_owned()),
            graph: Some(graph),
            ..ModelProto::default()
        }
    }
}

/// A node before it is added.
#[must_use]
pub(crate) struct NewNode<'a> {
    builder: &'a mut Builder,
    inputs: Vec<Tensor>,
    node: NodeProto,
}

impl NewNode<'_> {
    /// In a domain other than ONNX's own.
    pub(crate) fn domain(mut self, domain: &str) -> Self {
        self.node.domain = Some(domain.to_owned());
        self
    }

    /// With this name instead of that of its first output.
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.node.name = Some(name.to_owned());
        self
    }

    pub(crate) fn int(self, name: &str, value: i64) -> Self {
        self.attribute(name, AttributeType::Int, |it| it.i = Some(value))
    }

    pub(crate) fn ints(self, name: &str, values: &[i64]) -> Self {
        self.attribute(name, AttributeType::Ints, |it| it.ints = values.to_vec())
    }

    pub(crate) fn float(self, name: &str, value: f32) -> Self {
        self.attribute(name, AttributeType::Float, |it| it.f = Some(value))
    }

    pub(crate) fn text(self, name: &str, value: &str) -> Self {
        let value = Bytes::copy_from_slice(value.as_bytes());
        self.attribute(name, AttributeType::String, |it| it.s = Some(value))
    }

    pub(crate) fn graph(self, name: &str, value: GraphProto) -> Self {
        self.attribute(name, AttributeType::Graph, |it| it.g = Some(value))
    }

    /// A tensor of a dtype that ONNX has.
    pub(crate) fn elements(self, name: &str, value: &Elements) -> Self {
        let value = onnx::initializer("", value);
        self.attribute(name, AttributeType::Tensor, |it| it.t = value)
    }

    fn attribute(
        mut self,
        name: &str,
        r#type: AttributeType,
        set: impl FnOnce(&mut AttributeProto),
    ) -> Self {
        let mut attribute = AttributeProto {
            name: Some(name.to_owned()),
            r#type: Some(r#type.into()),
            ..AttributeProto::default()
        };
        set(&mut attribute);
        self.node.attribute.push(attribute);
        self
    }

    /// Adds the node. It has one output, of the dtype and shape of its first input.
    pub(crate) fn same(self) -> Result<Tensor, Refusal> {
        let (dtype, shape) = (self.inputs[0].dtype, self.inputs[0].shape.clone());
        self.one(dtype, shape)
    }

    /// Adds the node, which has one output.
    pub(crate) fn one(self, dtype: DataType, shape: Shape) -> Result<Tensor, Refusal> {
        let mut outputs = self.many([(dtype, shape)])?;
        Ok(outputs.swap_remove(0))
    }

    /// Adds the node, with these outputs.
    pub(crate) fn many(
        mut self,
        outputs: impl IntoIterator<Item = (DataType, Shape)>,
    ) -> Result<Vec<Tensor>, Refusal> {
        let builder = self.builder;
        for input in &self.inputs {
            let name = builder.operand(input)?;
            self.node.input.push(name);
        }
        // A Loop without variables still needs the place of its condition.
        let least = if self.node.op_type() == "Loop" { 2 } else { 0 };
        while self.node.input.len() > least && self.node.input.last().is_some_and(String::is_empty)
        {
            self.node.input.pop();
        }
        let wish = match builder.label.is_empty() {
            true => self.node.op_type().to_owned(),
            false => format!("{}/{}", builder.label, self.node.op_type()),
        };
        let mut results = Vec::new();
        for (dtype, shape) in outputs {
            let name = builder.take_name(&wish);
            self.node.output.push((*name).to_owned());
            let made = Made::new(
                self.node.op_type(),
                &self.inputs,
                &self.node.attribute,
                results.len(),
            );
            builder.made.insert(Rc::clone(&name), Rc::new(made));
            results.push(Tensor::named(name, dtype, shape));
        }
        if self.node.name.is_none() {
            self.node.name = self.node.output.first().cloned();
        }
        builder.graph().node.push(self.node);
        Ok(results)
    }
}

fn value_info(name: &str, dtype: DataType, shape: &Shape) -> Result<ValueInfoProto, Refusal> {
    let elem_type = onnx::elem_type(dtype)
        .filter(|_| !matches!(dtype, DataType::Complex64 | DataType::Complex128))
        .ok_or_else(|| Refusal::new(format!("has a tensor of dtype {dtype}")))?;
    let dimension = |size: &Option<i64>| Dimension {
        value: size.map(dimension::Value::DimValue),
        ..Dimension::default()
    };
    let shape = shape.0.as_ref().map(|dims| TensorShapeProto {
        dim: dims.iter().map(dimension).collect(),
    });
    Ok(ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(type_proto::Tensor {
                elem_type: Some(elem_type),
                shape,
            })),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    })
}
