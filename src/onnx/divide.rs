//! Dividing integers.
//!
//! The smallest integer of a type, divided by -1, is one more than the type can hold. TensorFlow
//! answers with the smallest integer again; ONNX Runtime's kernel uses an instruction that ends the
//! process, so that one request could. Here a divisor of -1 becomes 1, and the quotient changes its
//! sign afterwards, which wraps around as TensorFlow's does.
//!
//! Only what is known to be of integers is changed. Narrow integers need no change, their quotients
//! are computed in wider ones; neither does the division by 0, which the kernel refuses.

use std::collections::{HashMap, HashSet};

use super::interface::tensor_type;
use super::{OnnxModel, constant, is_onnx_domain, is_op, node, walk};
use crate::proto::onnx::{GraphProto, NodeProto, tensor_proto::DataType as OnnxType};
use crate::tensor::{DataType, Element, Tensor};

/// The opset from which on `Where` exists.
const WHERE_SINCE: i64 = 9;

const INT32: i32 = OnnxType::Int32 as i32;
const INT64: i32 = OnnxType::Int64 as i32;

/// Operators whose first output is of the type of their first input.
const KEEP_TYPE: &[&str] = &[
    "Abs",
    "Add",
    "BitShift",
    "BitwiseAnd",
    "BitwiseNot",
    "BitwiseOr",
    "BitwiseXor",
    "Clip",
    "Compress",
    "Concat",
    "CumSum",
    "DepthToSpace",
    "Div",
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "GatherND",
    "Gemm",
    "Identity",
    "MatMul",
    "Max",
    "Min",
    "Mod",
    "Mul",
    "Neg",
    "Pad",
    "Pow",
    "Range",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "Relu",
    "Reshape",
    "ReverseSequence",
    "Scatter",
    "ScatterElements",
    "ScatterND",
    "Sign",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Sub",
    "Sum",
    "Tile",
    "TopK",
    "Transpose",
    "Trilu",
    "Unique",
    "Unsqueeze",
];

impl OnnxModel {
    /// Makes the division of integers safe; see the module.
    pub(super) fn guard_integer_division(&mut self) {
        if self.opset() < WHERE_SINCE {
            return;
        }
        let Some(harmless) = self.harmless_divisors() else {
            return;
        };
        let mut guard = Guard {
            types: HashMap::new(),
            harmless,
        };
        guard.visit(self.graph_mut());
    }

    /// Divisors that are constants other than -1; `None` where nothing is divided.
    fn harmless_divisors(&self) -> Option<HashSet<String>> {
        let mut divisors = HashSet::new();
        walk::for_each_node(&self.graph().node, &mut |node| {
            if let (true, [_, divisor]) = (is_op(node, "Div"), node.input.as_slice()) {
                divisors.insert(divisor.as_str());
            }
        });
        let is_harmless = |name: &&str| {
            self.constant(name)
                .is_some_and(|constant| !holds_minus_one(&constant))
        };
        let harmless = divisors.iter().copied().filter(is_harmless);
        (!divisors.is_empty()).then(|| harmless.map(str::to_owned).collect())
    }
}

fn holds_minus_one(constant: &Tensor) -> bool {
    match constant.dtype() {
        DataType::Int32 => constant.as_slice::<i32>().is_none_or(|it| it.contains(&-1)),
        DataType::Int64 => constant.as_slice::<i64>().is_none_or(|it| it.contains(&-1)),
        _ => false,
    }
}

struct Guard {
    /// Element types of the tensors seen so far, where they are known.
    types: HashMap<String, i32>,
    harmless: HashSet<String>,
}

impl Guard {
    fn visit(&mut self, graph: &mut GraphProto) {
        self.declare(graph);
        let mut nodes = Vec::with_capacity(graph.node.len());
        for mut node in std::mem::take(&mut graph.node) {
            for inner in walk::subgraphs_mut(&mut node) {
                self.visit(inner);
            }
            self.learn(&node);
            match self.guarded(&node) {
                Some(guarded) => nodes.extend(guarded),
                None => nodes.push(node),
            }
        }
        graph.node = nodes;
    }

    /// Takes note of what the graph says about types.
    fn declare(&mut self, graph: &GraphProto) {
        let values = graph.input.iter().chain(&graph.output);
        for value in values.chain(&graph.value_info) {
            if let Some(tensor) = tensor_type(value) {
                self.types
                    .insert(value.name().to_owned(), tensor.elem_type());
            }
        }
        for tensor in &graph.initializer {
            self.types
                .insert(tensor.name().to_owned(), tensor.data_type());
        }
    }

    /// Takes note of what the types of a node's outputs follow from.
    fn learn(&mut self, node: &NodeProto) {
        for (index, output) in node.output.iter().enumerate() {
            if let Some(elem_type) = self.output_type(node, index) {
                self.types.insert(output.clone(), elem_type);
            }
        }
    }

    fn output_type(&self, node: &NodeProto, index: usize) -> Option<i32> {
        if !is_onnx_domain(node.domain()) {
            return None;
        }
        let of_input = |index: usize| self.types.get(node.input.get(index)?).copied();
        match (node.op_type(), index) {
            ("Constant", 0) => constant_type(node),
            ("Cast", 0) => i32::try_from(walk::attribute(node, "to")?.i()).ok(),
            ("ConstantOfShape", 0) => {
                let value = walk::attribute(node, "value").and_then(|it| it.t.as_ref());
                Some(value.map_or(OnnxType::Float as i32, |value| value.data_type()))
            }
            ("ArgMax" | "ArgMin" | "NonZero" | "Shape" | "Size", 0) | ("TopK" | "Unique", 1..) => {
                Some(INT64)
            }
            ("ConvInteger" | "MatMulInteger", 0) => Some(INT32),
            ("CastLike" | "Where", 0) => of_input(1),
            ("OneHot", 0) => of_input(2),
            ("Split", _) => of_input(0),
            ("Div", 0) => self.dividend_type(node),
            ("If" | "Scan", _) => self.body_type(node, index),
            // The first output of a body is its condition.
            ("Loop", _) => self.body_type(node, index + 1),
            (op_type, 0) if KEEP_TYPE.contains(&op_type) => of_input(0),
            _ => None,
        }
    }

    /// The type of one output of a node's nested graph.
    fn body_type(&self, node: &NodeProto, index: usize) -> Option<i32> {
        let output = walk::subgraphs(node).next()?.output.get(index)?;
        self.types.get(output.name()).copied()
    }

    /// Both sides of a division are of one type.
    fn dividend_type(&self, node: &NodeProto) -> Option<i32> {
        let mut known = node.input.iter().filter_map(|name| self.types.get(name));
        known.next().copied()
    }

    /// What a division of integers is replaced by.
    fn guarded(&self, node: &NodeProto) -> Option<Vec<NodeProto>> {
        let ([dividend, divisor], [quotient]) = (node.input.as_slice(), node.output.as_slice())
        else {
            return None;
        };
        if !is_op(node, "Div") || self.harmless.contains(divisor) {
            return None;
        }
        match self.dividend_type(node)? {
            INT32 => guarded(dividend, divisor, quotient, [1_i32, -1]),
            INT64 => guarded(dividend, divisor, quotient, [1_i64, -1]),
            _ => None,
        }
    }
}

/// `quotient = dividend / divisor` without a division by `minus_one`.
fn guarded<T: Element>(
    dividend: &str,
    divisor: &str,
    quotient: &str,
    [one, minus_one]: [T; 2],
) -> Option<Vec<NodeProto>> {
    let name = |part: &str| format!("{quotient}/divide/{part}");
    let scalar = |name: &str, value: T| {
        let tensor = Tensor::from_vec(&[], vec![value])?;
        constant::constant_node(name, &tensor)
    };
    let (plus, minus, is_minus) = (name("one"), name("minus_one"), name("is_minus_one"));
    let (safe, sign, unsigned) = (name("safe_divisor"), name("sign"), name("unsigned"));
    Some(vec![
        scalar(&plus, one)?,
        scalar(&minus, minus_one)?,
        node("Equal", &[divisor, &minus], &is_minus),
        node("Where", &[&is_minus, &plus, divisor], &safe),
        node("Where", &[&is_minus, &minus, &plus], &sign),
        node("Div", &[dividend, &safe], &unsigned),
        node("Mul", &[&unsigned, &sign], quotient),
    ])
}

fn constant_type(node: &NodeProto) -> Option<i32> {
    let attribute = node.attribute.first()?;
    match attribute.name() {
        "value" => Some(attribute.t.as_ref()?.data_type()),
        "value_int" | "value_ints" => Some(INT64),
        "value_float" | "value_floats" => Some(OnnxType::Float as i32),
        _ => None,
    }
}
