//! Facts about the outputs of operators that follow from those about their inputs.
//!
//! Not here: element types (`types`), the lists of operators that keep a fact (`operators`).

mod operators;
pub(super) mod schema_types;
mod types;

use self::operators::{
    BROADCAST, JOIN_FILLED, KEEP_FILLED, KEEP_ORIGIN, KEEP_PLACES, KEEP_RANK, RETURN_SEQUENCE,
    WINDOWS,
};
use super::facts::{Elem, Facts, INT32, INT64, Origin, STRING};
use crate::pooling_window::Window;
use crate::{is_onnx_domain, is_op, traverse};
use proto::onnx::{AttributeProto, NodeProto, tensor_proto::DataType as OnnxType};

const BFLOAT16: i32 = OnnxType::Bfloat16 as i32;
const BOOL: i32 = OnnxType::Bool as i32;
const FLOAT: i32 = OnnxType::Float as i32;
const UINT8: i32 = OnnxType::Uint8 as i32;
const UINT32: i32 = OnnxType::Uint32 as i32;

/// Derives the facts about the outputs of a node.
pub(super) struct Rule<'a> {
    pub(super) node: &'a NodeProto,
    pub(super) inputs: &'a [Facts],
    pub(super) bodies: &'a [Vec<Facts>],
    /// The version of ONNX's own operators.
    pub(super) opset: i64,
}

impl Rule<'_> {
    pub(super) fn output(&self, index: usize) -> Facts {
        if is_op(self.node, "Constant") {
            return self.constant();
        }
        if is_op(self.node, "Identity") {
            return self.input(0);
        }
        Facts {
            elem: self.elem(index),
            is_sequence: self.is_sequence(index),
            single: self.single(),
            rank: self.rank(index),
            is_filled: self.is_filled(index),
            emptied_with: self.emptied_with(index),
            has_channels: index == 0 && self.has_channels(),
            has_sizes: self.has_sizes(),
            origin: self.origin(index),
            ..Facts::default()
        }
    }

    /// Whether an output is a sequence.
    fn is_sequence(&self, index: usize) -> bool {
        let op_type = self.node.op_type();
        match op_type {
            _ if !is_onnx_domain(self.node.domain()) => false,
            "If" => self.body(index).is_sequence,
            // The collected values of all rounds are a tensor.
            "Loop" => self.input(index + 2).is_sequence || self.body(index + 1).is_sequence,
            "Optional" | "OptionalGetElement" => self.input(0).is_sequence,
            _ => RETURN_SEQUENCE.contains(&op_type),
        }
    }

    /// A cast to another integer type keeps the number.
    fn single(&self) -> Option<i64> {
        let is_integer = matches!(self.elem(0), Elem::Is(INT32 | INT64));
        let number = self.input(0).single.filter(|_| is_integer)?;
        let fits = self.elem(0) == Elem::Is(INT64) || i32::try_from(number).is_ok();
        (is_op(self.node, "Cast") && fits).then_some(number)
    }

    /// Whether an output is known to have elements.
    fn is_filled(&self, index: usize) -> bool {
        let op_type = self.node.op_type();
        if is_op(self.node, "DynamicQuantizeLinear") && index > 0 {
            return true;
        }
        let is_known = matches!(self.node.domain(), "" | "ai.onnx" | "com.microsoft");
        if !is_known || index > 0 {
            return false;
        }
        let mut given = (0..self.node.input.len()).filter(|index| self.is_given(*index));
        let mut all_filled = || !self.inputs.is_empty() && given.all(|it| self.input(it).is_filled);
        match op_type {
            _ if KEEP_FILLED.contains(&op_type) => self.input(0).is_filled,
            _ if BROADCAST.contains(&op_type) || JOIN_FILLED.contains(&op_type) => all_filled(),
            _ if WINDOWS.contains(&op_type) => all_filled() && self.has_padded_window(),
            _ => false,
        }
    }

    /// The tensor that an output has elements together with, if it is that of the first input.
    fn emptied_with(&self, index: usize) -> Option<u64> {
        let is_onnx = is_onnx_domain(self.node.domain());
        let first = self
            .input(0)
            .emptied_with
            .filter(|_| is_onnx && index == 0)?;
        let op_type = self.node.op_type();
        let keeps = match op_type {
            "Add" | "Mul" | "Sub" | "Div" => self.takes_filled_constant(),
            "AveragePool" | "MaxPool" | "Conv" => self.has_still_window(),
            "Concat" => self.joins_channels(),
            _ => KEEP_PLACES.contains(&op_type),
        };
        keeps.then_some(first)
    }

    /// Whether the second size of the first output is known not to be 0.
    fn has_channels(&self) -> bool {
        if !is_onnx_domain(self.node.domain()) {
            return false;
        }
        match self.node.op_type() {
            "Conv" => self.input(1).is_filled,
            "Add" | "Mul" | "Sub" | "Div" => {
                self.input(0).has_channels && self.takes_filled_constant()
            }
            "AveragePool" | "MaxPool" | "GlobalAveragePool" | "GlobalMaxPool" => {
                self.input(0).has_channels
            }
            "Concat" => self.joins_channels(),
            op_type => KEEP_PLACES.contains(&op_type) && self.input(0).has_channels,
        }
    }

    /// Whether the second input is a constant with elements and has no more dimensions than the first.
    fn takes_filled_constant(&self) -> bool {
        let (first, second) = (self.input(0), self.input(1));
        let is_within = first
            .rank
            .zip(second.rank)
            .is_some_and(|(one, other)| other <= one);
        second.is_constant && second.is_filled && is_within
    }

    /// Whether it joins, along their channels, images that have elements in the same runs. If they have none,
    /// the result has none either.
    pub(super) fn joins_channels(&self) -> bool {
        let axis = self.attribute("axis").and_then(value_of);
        let first = self.input(0);
        let mut inputs = self.inputs.iter();
        axis.is_some_and(|it| it.i() == 1)
            && first.has_channels
            && first.emptied_with.is_some()
            && inputs.all(|it| it.emptied_with == first.emptied_with)
    }

    /// Whether a window with weights moves in steps of one over an image whose pads make up for its size.
    fn has_still_window(&self) -> bool {
        let ints = |name: &str| match self.attribute(name) {
            Some(attribute) => value_of(attribute).map(|it| it.ints.as_slice()),
            None => Some(&[][..]),
        };
        let (Some(kernel), Some(pads)) = (ints("kernel_shape"), ints("pads")) else {
            return false;
        };
        let (Some(strides), Some(dilations)) = (ints("strides"), ints("dilations")) else {
            return false;
        };
        let has_weights = self.node.op_type() != "Conv" || self.input(1).is_filled;
        let axes = kernel.len();
        let at = |values: &[i64], index: usize, default| *values.get(index).unwrap_or(&default);
        let mut still = (0..axes).map(|axis| {
            let window = kernel[axis]
                .saturating_sub(1)
                .checked_mul(at(dilations, axis, 1));
            window == at(pads, axis, 0).checked_add(at(pads, axis + axes, 0))
        });
        has_weights
            && axes > 0
            && self
                .attribute("auto_pad")
                .is_none_or(|it| it.s() == b"NOTSET")
            && strides.iter().all(|it| *it == 1)
            && still.all(|it| it)
    }

    /// Whether the output's sizes might be known at load: true unless the node keeps the sizes of a request's
    /// tensor.
    fn has_sizes(&self) -> bool {
        let op_type = self.node.op_type();
        let takes_others = BROADCAST.contains(&op_type) || op_type == "Concat";
        let mut inputs = self.inputs.iter();
        match op_type {
            "GlobalAveragePool" | "GlobalMaxPool" => true,
            _ if takes_others => inputs.all(|it| it.has_sizes),
            _ if KEEP_RANK.contains(&op_type) || WINDOWS.contains(&op_type) => {
                self.input(0).has_sizes
            }
            "Pad" | "Dropout" | "PRelu" | "LRN" => self.input(0).has_sizes,
            _ => true,
        }
    }

    fn has_padded_window(&self) -> bool {
        let window = Window::of(self.node);
        window.is_some_and(|it| !it.sizes.is_empty() && it.sizes.iter().all(|size| *size <= 1))
    }

    fn origin(&self, index: usize) -> Origin {
        let op_type = self.node.op_type();
        if index > 0 {
            return Origin::Any;
        }
        match op_type {
            "MatMulInteger" => Origin::IntegerProduct,
            "DequantizeLinear" => {
                let scale_and_zero = self.inputs.iter().zip(&self.node.input).skip(1);
                let mut given = scale_and_zero.filter(|(_, name)| !name.is_empty());
                match given.all(|(facts, _)| facts.is_constant) {
                    true => Origin::Any,
                    false => Origin::FreelyDequantized,
                }
            }
            _ if KEEP_ORIGIN.contains(&op_type) => self.input(0).origin,
            _ => Origin::Any,
        }
    }

    fn constant(&self) -> Facts {
        let Some(attribute) = self.node.attribute.first().and_then(value_of) else {
            return Facts::default();
        };
        let vector = |elem, len| Facts {
            elem: Elem::Is(elem),
            rank: Some(1),
            len: Some(len),
            is_sequence: false,
            single: attribute.ints.first().copied().filter(|_| len == 1),
            is_never_minus_one: !attribute.ints.contains(&-1),
            is_filled: len > 0,
            is_constant: true,
            has_sizes: true,
            ..Facts::default()
        };
        let scalar = |elem| Facts {
            rank: Some(0),
            single: attribute.i,
            is_never_minus_one: attribute.i() != -1,
            is_filled: true,
            is_constant: true,
            ..Facts::of_type(elem)
        };
        match attribute.name() {
            "value" => attribute
                .t
                .as_ref()
                .map_or_else(Facts::default, Facts::of_tensor),
            "value_int" => scalar(INT64),
            "value_ints" => vector(INT64, attribute.ints.len()),
            "value_float" => scalar(FLOAT),
            "value_floats" => vector(FLOAT, attribute.floats.len()),
            "value_string" => scalar(STRING),
            "value_strings" => vector(STRING, attribute.strings.len()),
            "sparse_value" => attribute
                .sparse_tensor
                .as_ref()
                .and_then(|it| it.values.as_ref())
                .map_or_else(Facts::default, |it| Facts::of_type(it.data_type())),
            _ => Facts::default(),
        }
    }

    fn is_given(&self, index: usize) -> bool {
        self.node.input.get(index).is_some_and(|it| !it.is_empty())
    }

    fn input(&self, index: usize) -> Facts {
        self.inputs.get(index).copied().unwrap_or_default()
    }

    fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        traverse::attribute(self.node, name)
    }

    /// The common facts about the output at `index` of all nested graphs.
    fn body(&self, index: usize) -> Facts {
        // A graph that the caller of a function gives is unknown here.
        let mut attributes = self.node.attribute.iter();
        if attributes.any(|it| !it.ref_attr_name().is_empty()) {
            return Facts::default();
        }
        let mut bodies = self.bodies.iter();
        let at = |body: &Vec<Facts>| body.get(index).copied().unwrap_or_default();
        let first = bodies.next().map(at).unwrap_or_default();
        bodies.fold(first, |facts, body| facts.common(at(body)))
    }

    fn rank(&self, index: usize) -> Option<usize> {
        if !is_onnx_domain(self.node.domain()) {
            return None;
        }
        let op_type = self.node.op_type();
        let of_input = |index: usize| self.input(index).rank;
        match (op_type, index) {
            ("Shape", 0) => Some(1),
            ("Size", 0) => Some(0),
            ("NonZero" | "Flatten" | "Gemm", 0) => Some(2),
            ("Reshape", 0) => match self.attribute("shape") {
                Some(shape) => value_of(shape).map(|it| it.ints.len()),
                None => self.input(1).len,
            },
            ("ConstantOfShape", 0) => self.input(0).len,
            ("Unsqueeze", 0) => of_input(0)?.checked_add(self.axes_len()?),
            ("Squeeze", 0) => of_input(0)?.checked_sub(self.axes_len()?),
            ("Gather", 0) => (of_input(0)? + of_input(1)?).checked_sub(1),
            ("MatMul", 0) => {
                let (one, other) = (of_input(0)?, of_input(1)?);
                (one >= 2 && other >= 2).then(|| one.max(other))
            }
            ("Concat", 0) => self.inputs.iter().find_map(|it| it.rank),
            ("Split", _) => of_input(0),
            // Its kernel refuses weights of another rank.
            ("Conv", 0) => of_input(0).or(of_input(1)),
            (op_type, 0) if KEEP_RANK.contains(&op_type) => of_input(0),
            (op_type, 0) if BROADCAST.contains(&op_type) => {
                let ranks: Option<Vec<usize>> = self.inputs.iter().map(|it| it.rank).collect();
                ranks?.into_iter().max()
            }
            _ => None,
        }
    }

    /// The number of axes that an operator gets, as an attribute or as an input.
    fn axes_len(&self) -> Option<usize> {
        match self.attribute("axes") {
            Some(axes) => value_of(axes).map(|it| it.ints.len()),
            None => self.input(1).len,
        }
    }
}

/// An attribute that has its value here; in a function, it can be a reference to the caller's.
fn value_of(attribute: &AttributeProto) -> Option<&AttributeProto> {
    attribute.ref_attr_name().is_empty().then_some(attribute)
}
