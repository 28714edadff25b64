//! A TensorFlow node whose inputs are translated, as the functions in `ops` read it.
//!
//! Not here: the nodes that stand for it (`ops`).

use base::tensor::{DataType, Tensor as Elements};
use proto::tensorflow::{NodeDef, TensorShapeProto, attr_value};

use crate::graph;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor, Value};

/// The outputs of a translated node.
pub(crate) type Translated = Result<Vec<Value>, Refusal>;

/// One output.
pub(crate) fn one(tensor: Tensor) -> Translated {
    Ok(vec![Value::Tensor(tensor)])
}

/// Several outputs.
pub(crate) fn many(tensors: impl IntoIterator<Item = Tensor>) -> Translated {
    Ok(tensors.into_iter().map(Value::Tensor).collect())
}

/// A node with its inputs.
pub(crate) struct Op<'a> {
    pub(crate) node: &'a NodeDef,
    /// Control inputs are left out.
    pub(crate) inputs: &'a [Value],
}

impl Op<'_> {
    /// The number of inputs.
    pub(crate) fn len(&self) -> usize {
        self.inputs.len()
    }

    /// An input, which is a tensor.
    pub(crate) fn input(&self, index: usize) -> Result<&Tensor, Refusal> {
        match self.inputs.get(index) {
            Some(Value::Tensor(tensor)) => Ok(tensor),
            Some(Value::Nothing) => Err(Refusal::of_input()),
            Some(Value::List(_)) => Err(Refusal::new("reads a list as a tensor")),
            Some(Value::Variable(_) | Value::Reference(_) | Value::Table(_)) => {
                Err(Refusal::new("reads a resource as a tensor"))
            }
            None => Err(Refusal::new(format!("has no input {index}"))),
        }
    }

    /// All inputs from `start` to `end`, which are tensors.
    pub(crate) fn inputs(&self, range: std::ops::Range<usize>) -> Result<Vec<&Tensor>, Refusal> {
        range.map(|index| self.input(index)).collect()
    }

    /// The integers of an input that has to be known.
    pub(crate) fn ints(&self, index: usize, what: &str) -> Result<Vec<i64>, Refusal> {
        let ints = self.input(index)?.ints();
        ints.ok_or_else(|| Refusal::new(format!("has a {what} that is not constant")))
    }

    /// The integer of an input that has to be known.
    pub(crate) fn int(&self, index: usize, what: &str) -> Result<i64, Refusal> {
        let int = self.input(index)?.int();
        int.ok_or_else(|| Refusal::new(format!("has a {what} that is not constant")))
    }

    /// An attribute.
    pub(crate) fn attr(&self, name: &str) -> Option<&attr_value::Value> {
        graph::attribute(self.node, name)
    }

    /// An integer attribute.
    pub(crate) fn attr_int(&self, name: &str) -> Option<i64> {
        match self.attr(name)? {
            attr_value::Value::I(value) => Some(*value),
            _ => None,
        }
    }

    /// An attribute that is a bool; `false` if it is missing.
    pub(crate) fn attr_flag(&self, name: &str) -> bool {
        matches!(self.attr(name), Some(attr_value::Value::B(true)))
    }

    /// A float attribute.
    pub(crate) fn attr_float(&self, name: &str) -> Option<f32> {
        match self.attr(name)? {
            attr_value::Value::F(value) => Some(*value),
            _ => None,
        }
    }

    /// An attribute that is a string; empty if it is missing or is not UTF-8.
    pub(crate) fn attr_text(&self, name: &str) -> &str {
        match self.attr(name) {
            Some(attr_value::Value::S(value)) => std::str::from_utf8(value).unwrap_or_default(),
            _ => "",
        }
    }

    /// An attribute that is a list of integers; empty if it is missing.
    pub(crate) fn attr_ints(&self, name: &str) -> &[i64] {
        match self.attr(name) {
            Some(attr_value::Value::List(list)) => &list.i,
            _ => &[],
        }
    }

    /// An attribute that is a list of floats; empty if it is missing.
    pub(crate) fn attr_floats(&self, name: &str) -> &[f32] {
        match self.attr(name) {
            Some(attr_value::Value::List(list)) => &list.f,
            _ => &[],
        }
    }

    /// A dtype attribute.
    pub(crate) fn attr_dtype(&self, name: &str) -> Result<DataType, Refusal> {
        match self.attr(name) {
            Some(attr_value::Value::Type(number)) => DataType::from_number(*number),
            _ => None,
        }
        .ok_or_else(|| Refusal::new(format!("has no dtype '{name}'")))
    }

    /// An attribute that is a list of dtypes.
    pub(crate) fn attr_dtypes(&self, name: &str) -> Vec<Option<DataType>> {
        match self.attr(name) {
            Some(attr_value::Value::List(list)) => list
                .r#type
                .iter()
                .map(|&it| DataType::from_number(it))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// A shape attribute.
    pub(crate) fn attr_shape(&self, name: &str) -> Shape {
        match self.attr(name) {
            Some(attr_value::Value::Shape(shape)) => shape_of(shape),
            _ => Shape::unknown(),
        }
    }

    /// An attribute that is a list of shapes; empty if it is missing.
    pub(crate) fn attr_shapes(&self, name: &str) -> Vec<Shape> {
        match self.attr(name) {
            Some(attr_value::Value::List(list)) => list.shape.iter().map(shape_of).collect(),
            _ => Vec::new(),
        }
    }

    /// A tensor attribute.
    pub(crate) fn attr_tensor(&self, name: &str) -> Result<Elements, Refusal> {
        let Some(attr_value::Value::Tensor(tensor)) = self.attr(name) else {
            return Err(Refusal::new(format!("has no tensor '{name}'")));
        };
        let dtype = DataType::from_number(tensor.dtype);
        let shape = tensor
            .tensor_shape
            .as_ref()
            .and_then(|it| shape_of(it).sizes());
        if let (Some(dtype), Some(shape)) = (dtype, shape)
            && let Some(whole) = Elements::from_bytes(dtype, &shape, tensor.tensor_content.clone())
        {
            return Ok(whole);
        }
        codec::tensor_proto::message::from_message(tensor, None, None)
            .map_err(|error| Refusal::new(format!("has a damaged tensor: {error}")))
    }

    /// The shape of an output, as TensorFlow noted it (`_output_shapes`).
    pub(crate) fn noted_shape(&self, output: usize) -> Shape {
        match self.attr("_output_shapes") {
            Some(attr_value::Value::List(list)) => {
                list.shape.get(output).map_or_else(Shape::unknown, shape_of)
            }
            _ => Shape::unknown(),
        }
    }
}

/// TensorFlow's own limit (`TensorShape::MaxDimensions`).
const MAX_RANK: usize = 254;

/// A shape of TensorFlow's messages.
pub(crate) fn shape_of(shape: &TensorShapeProto) -> Shape {
    // No tensor has a higher rank. The shapes that nodes note are read often, so each must be small.
    if shape.unknown_rank || shape.dim.len() > MAX_RANK {
        return Shape::unknown();
    }
    Shape::dims(
        shape
            .dim
            .iter()
            .map(|dim| Some(dim.size).filter(|&it| it >= 0)),
    )
}
