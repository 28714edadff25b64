//! Checks in front of kernels that would otherwise end the process.
//!
//! A check is one or a few nodes that either return their input unchanged or fail like a kernel that refuses
//! its input. Most are a `Reshape` to the shape that the tensor already has: the sign 0 keeps a size and
//! fails if the tensor lacks that dimension; the sign -1 computes a size and fails if another is 0. It copies
//! nothing. Properties that are known to hold are not checked.
//!
//! Not here: the requirements of each kernel (`kernel_limits`).

#[cfg(all(test, feature = "onnxruntime"))]
mod opsets;
mod without_arithmetic;
mod written;

use std::collections::{BTreeSet, HashSet};

use super::constant::constant_node;
use super::io_transforms::{int_attribute, ints_attribute};
use super::kernel_limits::{self, Check};
use super::known::Facts;
use super::visit::{NodeContext, Replaced};
use super::window_proof::Proofs;
use super::{OnnxModel, kernel_attributes, node, traverse};
use base::error::{Result, ServingError};
use base::tensor::Tensor;
use proto::onnx::{AttributeProto, NodeProto, tensor_proto::DataType as OnnxType};

/// The first opset in which `Reshape` takes its shape as an input.
const SHAPE_INPUT_SINCE: i64 = 5;
/// The first opset in which `Constant` can hold integers.
const INTEGER_CONSTANT_SINCE: i64 = 9;
/// The first opset with an ONNX Runtime kernel for each operator that checks use; the others are older.
const KERNELS_SINCE: &[(&str, i64)] = &[
    ("Abs", 6),
    ("Add", 7),
    ("Cast", 6),
    ("Clip", 6),
    ("Concat", 4),
    ("Div", 7),
    ("Equal", 7),
    ("Greater", 7),
    ("Mul", 7),
    ("Sub", 7),
    ("Sum", 6),
];
/// The first opset in which every check can be made.
const CHECKED_SINCE: i64 = 7;
/// How far outside an image a box can be: this multiple of its height plus width, plus this number of pixels.
const NEAR_SIDES: f32 = 4.0;
const NEAR_PIXELS: f32 = 64.0;

impl OnnxModel {
    /// Puts checks in front of the kernels that need them. `ranked` are the graph's inputs whose
    /// declared rank is enforced.
    ///
    /// # Errors
    ///
    /// `UNIMPLEMENTED` for an operator or an attribute that no check can make safe, and for a check that
    /// cannot be made in the model's opset.
    pub fn guard_kernels(&mut self, ranked: &HashSet<String>) -> Result<()> {
        self.guard(ranked, &mut |_| {})
    }

    /// The operators whose kernels get checks if no rank is known.
    pub fn checked_operators(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let mut add = |node: &NodeProto| {
            names.insert(node.op_type().to_owned());
        };
        // Operators that cannot be checked do not matter here.
        let _ = self.clone().guard(&HashSet::new(), &mut add);
        names
    }

    /// Puts checks in front of kernels, and calls `tell` for each node that got some.
    fn guard(&mut self, ranked: &HashSet<String>, tell: &mut dyn FnMut(&NodeProto)) -> Result<()> {
        let origin = self.origin.clone();
        let proofs = Proofs::of(self.graph(), &self.proto.functions);
        self.replace_everywhere(ranked, &mut |node, context| {
            let replaced = guarded(node, context, &proofs, &origin)?;
            if replaced.is_some() {
                tell(node);
            }
            Ok(replaced)
        })
    }
}

fn guarded(
    original: &NodeProto,
    context: &mut NodeContext<'_>,
    proofs: &Proofs,
    origin: &str,
) -> Replaced {
    if kernel_limits::is_refused(original) {
        return Err(ServingError::unimplemented(format!(
            "{origin}: the operator {} is not served: on some inputs its kernel ends the process \
             (found on ONNX Runtime {})",
            original.op_type(),
            kernel_limits::FOUND_ON
        )));
    }
    if let Some(attribute) = kernel_attributes::fatal(original) {
        return Err(refused_attribute(original, attribute, origin));
    }
    let known = context.known;
    let mut nodes = Vec::new();
    let mut changed = original.clone();
    if let Some(sizes) = proofs.required_by(original) {
        let mut guard = Guard {
            node: original,
            input: 0,
            facts: known.input(original, 0),
            current: changed.input[0].clone(),
            context,
            nodes: &mut nodes,
        };
        guard.check(Check::Rank(sizes.len()));
        guard.holds(sizes);
        changed.input[0] = guard.current;
    }
    for limit in kernel_limits::limits(original, known) {
        if limit.checks.contains(&Check::HoldsWindow) && proofs.holds_for(original) {
            continue;
        }
        if limit.checks.contains(&Check::HoldsWindow) && Window::of(original).is_none() {
            return Err(refused_attribute(original, "kernel_shape", origin));
        }
        for index in limit.inputs(original) {
            let Some(input) = changed.input.get_mut(index).filter(|it| !it.is_empty()) else {
                continue;
            };
            let mut guard = Guard {
                node: original,
                input: index,
                facts: known.input(original, index),
                current: input.clone(),
                context,
                nodes: &mut nodes,
            };
            for check in limit.checks {
                guard.check(*check);
            }
            *input = guard.current;
        }
    }
    written::add_checked(&mut nodes, changed, context);
    if nodes.len() == 1 {
        return Ok(None);
    }
    let mut checks = nodes.iter().filter(|it| it.op_type() != original.op_type());
    if checks.any(|it| kernel_since(it) > context.opset) {
        return Err(ServingError::unimplemented(format!(
            "{origin}: the operator {} is not served in opset {}: some inputs make its kernel end the \
             process (found on ONNX Runtime {}), and no check can be put in front of it. Convert the \
             model to opset {CHECKED_SINCE} or later",
            original.op_type(),
            context.opset,
            kernel_limits::FOUND_ON
        )));
    }
    Ok(Some(nodes))
}

fn kernel_since(node: &NodeProto) -> i64 {
    let mut kernels = KERNELS_SINCE.iter();
    let found = kernels.find(|it| it.0 == node.op_type());
    found.map_or(1, |it| it.1)
}

fn refused_attribute(node: &NodeProto, attribute: &str, origin: &str) -> ServingError {
    ServingError::unimplemented(format!(
        "{origin}: the operator {} is not served with this attribute '{attribute}': its kernel may end \
         the process (found on ONNX Runtime {})",
        node.op_type(),
        kernel_limits::FOUND_ON
    ))
}

/// The image sizes that a pool requires.
pub(super) struct Window {
    /// The first axis that the window covers.
    pub(super) first_axis: usize,
    /// The smallest size along each axis.
    pub(super) sizes: Vec<i64>,
}

impl Window {
    /// Whether some images are too small for it; all kernels refuse empty ones.
    fn is_larger_than_pads(&self) -> bool {
        self.sizes.iter().any(|&size| size > 1)
    }

    /// The window of a pool; `None` if its attributes do not give it.
    pub(super) fn of(node: &NodeProto) -> Option<Self> {
        let known = |name: &str| match traverse::attribute(node, name) {
            Some(attribute) if !attribute.ref_attr_name().is_empty() => None,
            found => Some(found),
        };
        let ints = |name: &str| Some(known(name)?.map_or(&[][..], |it| it.ints.as_slice()));
        let kernel = ints("kernel_shape")?;
        let (pads, dilations) = (ints("pads")?, ints("dilations")?);
        let auto_pad = known("auto_pad")?.map_or(&b""[..], AttributeProto::s);
        let is_last = known("channels_last")?.is_some_and(|it| it.i() != 0);
        let size = |(axis, kernel): (usize, &i64)| {
            let at = |values: &[i64], index: usize| values.get(index).copied().unwrap_or(0);
            let dilation = at(dilations, axis).max(1);
            let window = kernel
                .saturating_sub(1)
                .saturating_mul(dilation)
                .saturating_add(1);
            let padded = match auto_pad {
                b"SAME_UPPER" | b"SAME_LOWER" => window,
                b"VALID" => 0,
                _ => at(pads, axis).saturating_add(at(pads, axis + pads.len() / 2)),
            };
            window.saturating_sub(padded).max(1)
        };
        Some(Self {
            first_axis: if is_last { 1 } else { 2 },
            sizes: kernel.iter().enumerate().map(size).collect(),
        })
    }
}

struct Guard<'a, 'b> {
    node: &'a NodeProto,
    input: usize,
    /// The known facts about the tensor, including those ensured by checks.
    facts: Facts,
    /// The tensor, as the last check returned it.
    current: String,
    context: &'a mut NodeContext<'b>,
    nodes: &'a mut Vec<NodeProto>,
}

impl Guard<'_, '_> {
    fn check(&mut self, check: Check) {
        match check {
            Check::Rank(rank) => {
                if self.facts.rank != Some(rank) {
                    self.reshape(&vec![0; rank], &format!("has rank {rank}"));
                    self.facts.rank = Some(rank);
                }
            }
            Check::MinRank(min) => {
                if self.facts.rank.is_none_or(|rank| rank < min) {
                    self.min_rank(min);
                }
            }
            Check::FilledBut(axis) => self.filled_but(i64::try_from(axis).ok()),
            Check::FilledButAxis => {
                let axis = traverse::attribute(self.node, "axis");
                let axis = axis.filter(|it| it.ref_attr_name().is_empty());
                self.filled_but(axis.map(AttributeProto::i));
            }
            Check::Filled => {
                if !self.facts.is_filled {
                    self.filled_of_rank();
                    self.facts.is_filled = true;
                }
            }
            Check::RankUntold(rank) => {
                if self.facts.rank != Some(rank) {
                    self.rank_untold(rank);
                    self.facts.rank = Some(rank);
                }
            }
            Check::OneElement => {
                if !(self.facts.is_filled && self.facts.rank == Some(0)) {
                    self.reshape(&[], "has one element");
                }
            }
            Check::RankOfLength { input, each } => self.rank_of_length(input, each),
            Check::RankOfAttribute(name) => {
                let attribute = traverse::attribute(self.node, name);
                if let Some(attribute) = attribute.filter(|it| it.ref_attr_name().is_empty()) {
                    self.check(Check::Rank(attribute.floats.len()));
                }
            }
            Check::Hidden => self.filled(),
            Check::FilledAtEnd => self.filled_at_end(),
            Check::NoZeros => self.no_zeros(),
            Check::Square => self.square(),
            Check::NearImage => self.near_image(),
            Check::FitsWindow => match Window::of(self.node) {
                Some(window) if !window.sizes.is_empty() => self.check(Check::HoldsWindow),
                _ => self.filled(),
            },
            Check::HoldsWindow => {
                let window = Window::of(self.node);
                if let Some(window) = window.filter(Window::is_larger_than_pads) {
                    let rank = window.sizes.len() + 2;
                    let mut sizes = vec![1; rank];
                    sizes[window.first_axis..][..window.sizes.len()].copy_from_slice(&window.sizes);
                    self.check(Check::Rank(rank));
                    self.holds(&sizes);
                }
            }
        }
    }

    /// No size is 0, except perhaps along `axis`; if the axis is not known, no size at all.
    fn filled_but(&mut self, axis: Option<i64>) {
        if self.facts.is_filled {
            return;
        }
        let free = self.facts.rank.zip(axis).and_then(|(rank, axis)| {
            let from_start = match axis {
                0.. => axis,
                _ => axis.checked_add(i64::try_from(rank).ok()?)?,
            };
            let free = usize::try_from(from_start).ok()?;
            (free < rank).then_some((rank, free))
        });
        match free {
            Some((rank, free)) => {
                let mut shape = vec![0; rank];
                shape[free] = -1;
                self.reshape(&shape, "is not empty");
            }
            None => self.filled(),
        }
    }

    /// If the rank is known, two signs are enough: each sees a 0 along all axes but its own.
    fn filled_of_rank(&mut self) {
        match self.facts.rank {
            Some(0) => {}
            Some(rank @ 2..) => {
                for computed in [0, rank - 1] {
                    let mut shape = vec![0; rank];
                    shape[computed] = -1;
                    self.reshape(&shape, "is not empty");
                }
            }
            _ => self.filled(),
        }
    }

    /// A size divided by itself is 1; division by 0 is refused.
    fn filled(&mut self) {
        if self.has_no_arithmetic() {
            return self.filled_without();
        }
        let shape = self.shape();
        let ones = self.add("Div", &[&shape, &shape], "is not empty");
        let same = self.add("Mul", &[&shape, &ones], "is not empty");
        self.reshape_to(&same, "is not empty");
    }

    fn min_rank(&mut self, min: usize) {
        let what = format!("has rank {min} or more");
        let shape = self.shape();
        let last = self.integers(&[i64::try_from(min).unwrap_or(1) - 1], &what);
        let size = self.add("Gather", &[&shape, &last], &what);
        let nothing = self.add("Sub", &[&size, &size], &what);
        let same = self.add("Add", &[&shape, &nothing], &what);
        self.reshape_to(&same, &what);
    }

    /// Checks the rank in a way from which ONNX Runtime cannot infer it before a run.
    fn rank_untold(&mut self, rank: usize) {
        let what = format!("has rank {rank}");
        let shape = self.shape();
        let found = self.add("Shape", &[&shape], &what);
        let needed = self.integers(&[i64::try_from(rank).unwrap_or(i64::MAX)], &what);
        let is_right = self.add("Equal", &[&found, &needed], &what);
        let as_number = self.cast(&is_right, OnnxType::Int64, &what);
        let one = self.add("Div", &[&as_number, &as_number], &what);
        let same = self.add("Mul", &[&shape, &one], &what);
        self.reshape_to(&same, &what);
    }

    /// The tensor has one dimension for every `each` numbers of another input, which can be empty.
    fn rank_of_length(&mut self, input: usize, each: usize) {
        let Some(name) = self.node.input.get(input).filter(|name| !name.is_empty()) else {
            return;
        };
        let name = name.clone();
        match self.context.known.input(self.node, input).len {
            Some(0) => {}
            Some(len) if len % each == 0 => self.check(Check::Rank(len / each)),
            // The kernel refuses a known wrong length; an unknown one might be computed at load.
            _ => {
                let what = format!("has the rank that input {input} is for");
                let shape = self.shape();
                let rank = self.add("Shape", &[&shape], &what);
                let each = self.integers(&[i64::try_from(each).unwrap_or(1)], &what);
                let needed = self.add("Mul", &[&rank, &each], &what);
                let len = self.add("Shape", &[&name], &what);
                let is_right = self.add("Equal", &[&len, &needed], &what);
                let as_number = self.cast(&is_right, OnnxType::Int64, &what);
                let one = self.add("Div", &[&as_number, &as_number], &what);
                let same = self.add("Mul", &[&shape, &one], &what);
                self.reshape_to(&same, &what);
            }
        }
    }

    fn no_zeros(&mut self) {
        let value = self.current.clone();
        let what = "is not 0";
        let ones = self.add("Div", &[&value, &value], what);
        self.current = self.add("Mul", &[&value, &ones], what);
    }

    /// The last size is not 0.
    fn filled_at_end(&mut self) {
        let what = "has a last size other than 0";
        let shape = self.shape();
        let last = self.integers(&[-1], what);
        let size = self.add("Gather", &[&shape, &last], what);
        let one = self.add("Div", &[&size, &size], what);
        let same = self.add("Mul", &[&shape, &one], what);
        self.reshape_to(&same, what);
    }

    fn square(&mut self) {
        let what = "is square";
        let shape = self.shape();
        let last = self.integers(&[-1], what);
        let before = self.integers(&[-2], what);
        let columns = self.add("Gather", &[&shape, &last], what);
        let rows = self.add("Gather", &[&shape, &before], what);
        let is_square = self.add("Equal", &[&rows, &columns], what);
        let as_number = self.cast(&is_square, OnnxType::Int64, what);
        let one = self.add("Div", &[&as_number, &as_number], what);
        let same = self.add("Mul", &[&shape, &one], what);
        self.reshape_to(&same, what);
    }

    /// No coordinate is further away than [`NEAR_SIDES`] times the image's sides plus [`NEAR_PIXELS`]. There
    /// might be no boxes: the compared tensors have the shape of the boxes.
    fn near_image(&mut self) {
        let what = "has no box far outside the image";
        let scale = traverse::attribute(self.node, "spatial_scale").map_or(1.0, AttributeProto::f);
        let image = self.node.input[0].clone();
        let shape = self.add("Shape", &[&image], what);
        let sides = [2, 3].map(|axis| {
            let axis = self.integers(&[axis], what);
            self.add("Gather", &[&shape, &axis], what)
        });
        let sides = self.add("Add", &[&sides[0], &sides[1]], what);
        let sides = self.cast(&sides, OnnxType::Float, what);
        let factor = self.float(NEAR_SIDES / scale.abs());
        let extra = self.float(NEAR_PIXELS / scale.abs());
        let scaled = self.add("Mul", &[&sides, &factor], what);
        let limit = self.add("Add", &[&scaled, &extra], what);
        let boxes = self.current.clone();
        let boxes = self.cast(&boxes, OnnxType::Float, what);
        let away = self.add("Abs", &[&boxes], what);
        let is_far = self.add("Greater", &[&away, &limit], what);
        let is_far = self.cast(&is_far, OnnxType::Int64, what);
        let one = self.integers(&[1], what);
        let is_near = self.add("Sub", &[&one, &is_far], what);
        let ones = self.add("Div", &[&one, &is_near], what);
        let same = self.add("Shape", &[&ones], what);
        self.reshape_to(&same, what);
    }

    /// A vector of one number.
    fn float(&mut self, value: f32) -> String {
        let output = self.output();
        let tensor = Tensor::from_vec(&[1], vec![value]);
        self.nodes
            .extend(tensor.and_then(|it| constant_node(&output, &it)));
        output
    }

    /// Compares floats: older models have no other comparison.
    fn holds(&mut self, smallest: &[i64]) {
        let what = "has room for the window";
        let along = smallest.iter().zip(0_i64..).filter(|(size, _)| **size > 1);
        let (limits, axes): (Vec<i64>, Vec<i64>) =
            along.map(|(size, axis)| (size - 1, axis)).unzip();
        if axes.is_empty() {
            return;
        }
        if self.has_no_arithmetic() {
            return self.holds_without(&axes, &limits, what);
        }
        let shape = self.shape();
        let axes = self.integers(&axes, what);
        let sizes = self.add("Gather", &[&shape, &axes], what);
        let limits = self.integers(&limits, what);
        let [sizes, limits] = [sizes, limits].map(|it| self.cast(&it, OnnxType::Float, what));
        let is_enough = self.add("Greater", &[&sizes, &limits], what);
        let as_number = self.cast(&is_enough, OnnxType::Int64, what);
        let ones = self.add("Div", &[&as_number, &as_number], what);
        let first = self.integers(&[0], what);
        let one = self.add("Gather", &[&ones, &first], what);
        let same = self.add("Mul", &[&shape, &one], what);
        self.reshape_to(&same, what);
    }

    fn cast(&mut self, input: &str, to: OnnxType, what: &str) -> String {
        let output = self.output();
        let mut cast = self.named("Cast", &[input], &output, what);
        cast.attribute.push(int_attribute("to", to as i64));
        self.nodes.push(cast);
        output
    }

    fn shape(&mut self) -> String {
        let current = self.current.clone();
        self.add("Shape", &[&current], "has a shape")
    }

    fn reshape(&mut self, shape: &[i64], what: &str) {
        if self.context.opset >= SHAPE_INPUT_SINCE {
            let shape = self.integers(shape, what);
            self.reshape_to(&shape, what);
            return;
        }
        let output = self.output();
        let current = self.current.clone();
        let mut reshape = self.named("Reshape", &[&current], &output, what);
        reshape.attribute.push(ints_attribute("shape", shape));
        self.nodes.push(reshape);
        self.current = output;
    }

    fn reshape_to(&mut self, shape: &str, what: &str) {
        let current = self.current.clone();
        self.current = self.add("Reshape", &[&current, shape], what);
    }

    fn integers(&mut self, values: &[i64], what: &str) -> String {
        // Constants in functions had to be floats before that opset.
        if self.context.opset < INTEGER_CONSTANT_SINCE {
            let floats = values.iter().map(|&it| it as f32).collect();
            let tensor = Tensor::from_vec(&[values.len()], floats);
            let numbers = self.output();
            self.nodes
                .extend(tensor.and_then(|it| constant_node(&numbers, &it)));
            return self.cast(&numbers, OnnxType::Int64, what);
        }
        let output = self.output();
        let tensor = Tensor::from_vec(&[values.len()], values.to_vec());
        self.nodes
            .extend(tensor.and_then(|it| constant_node(&output, &it)));
        output
    }

    fn add(&mut self, op_type: &str, inputs: &[&str], what: &str) -> String {
        let output = self.output();
        let added = self.named(op_type, inputs, &output, what);
        self.nodes.push(added);
        output
    }

    /// A node whose name explains the check in ONNX Runtime's errors.
    fn named(&mut self, op_type: &str, inputs: &[&str], output: &str, what: &str) -> NodeProto {
        let mut named = node(op_type, inputs, output);
        named.name = Some(self.name(what));
        named
    }

    fn name(&mut self, what: &str) -> String {
        let (op_type, index) = (self.node.op_type(), self.input);
        let wish = format!("check that input {index} of {op_type} {what}");
        self.context.names.take(&wish)
    }

    fn output(&mut self) -> String {
        let input = &self.node.input[self.input];
        self.context.names.take(&format!("{input}/checked"))
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use proto::onnx::{GraphProto, ModelProto, OperatorSetIdProto, ValueInfoProto};

    /// The operators of the graph after `guard`; the ranks of its inputs are not known.
    fn guarded_operators(nodes: Vec<NodeProto>) -> Result<Vec<String>> {
        let input = ["x", "w"].map(|name| ValueInfoProto {
            name: Some(name.to_owned()),
            ..ValueInfoProto::default()
        });
        let proto = ModelProto {
            opset_import: vec![OperatorSetIdProto {
                domain: Some(String::new()),
                version: Some(17),
            }],
            graph: Some(GraphProto {
                node: nodes,
                input: input.into(),
                ..GraphProto::default()
            }),
            ..ModelProto::default()
        };
        let mut model = OnnxModel::parse("test", &proto.encode_to_vec()).unwrap();
        model.guard_kernels(&HashSet::new())?;
        let nodes = model.graph().node.iter();
        Ok(nodes.map(|it| it.op_type().to_owned()).collect())
    }

    fn pool(attributes: Vec<AttributeProto>) -> NodeProto {
        NodeProto {
            attribute: attributes,
            ..node("MaxPool", &["c"], "y")
        }
    }

    fn sizes(attributes: Vec<AttributeProto>) -> Vec<i64> {
        Window::of(&pool(attributes)).unwrap().sizes
    }

    #[test]
    fn ordinary_kernels_are_left_alone() {
        let nodes = vec![node("MatMul", &["x", "w"], "m"), node("Relu", &["m"], "y")];
        assert_eq!(guarded_operators(nodes).unwrap(), ["MatMul", "Relu"]);
    }

    #[test]
    fn a_check_stands_in_front_of_its_kernel() {
        let operators = guarded_operators(vec![node("MaxRoiPool", &["x", "w"], "y")]).unwrap();
        assert_eq!(operators.last().unwrap(), "MaxRoiPool");
        assert!(operators.iter().any(|it| it == "Reshape"), "{operators:?}");
    }

    /// A check would convert them from the blocks of channels to the ordinary layout.
    #[test]
    fn images_that_are_empty_together_are_joined_without_a_check() {
        let joined = |axis: i64, stride: i64| {
            let conv = |from: &str, to: &str, kernel: i64| NodeProto {
                attribute: vec![
                    ints_attribute("kernel_shape", &[kernel, kernel]),
                    ints_attribute("pads", &[kernel / 2; 4]),
                    ints_attribute("strides", &[stride, stride]),
                ],
                ..node("Conv", &[from, "k"], to)
            };
            let weights = Tensor::from_vec(&[1, 1, 1, 1], vec![1.0_f32]).unwrap();
            let mut nodes = vec![
                constant_node("k", &weights).unwrap(),
                conv("x", "c", 1),
                node("Relu", &["c"], "r"),
                conv("r", "d", 3),
                node("Concat", &["r", "d"], "y"),
            ];
            nodes[4].attribute.push(int_attribute("axis", axis));
            let operators = guarded_operators(nodes).unwrap();
            // The number of elements: `Size`, or `ReduceProd` of the shape.
            operators
                .iter()
                .any(|it| it == "Size" || it == "ReduceProd")
        };
        assert!(!joined(1, 1));
        assert!(joined(0, 1), "a batch of none has another");
        assert!(joined(1, 2), "of an image of no size it makes one of some");
    }

    #[test]
    fn rank_follows_from_the_scales() {
        let operators = |nodes| guarded_operators(nodes).unwrap();
        let known = vec![
            constant_node("s", &Tensor::from_vec(&[2], vec![1_f32, 2.0]).unwrap()).unwrap(),
            node("Resize", &["x", "", "s"], "y"),
        ];
        let first = operators(known);
        assert_eq!(first[first.len() - 2..], ["Reshape", "Resize"]);
        assert!(!first.iter().any(|it| it == "Equal"), "{first:?}");
        // Computed: known only in a run.
        let computed = operators(vec![node("Resize", &["x", "", "w"], "y")]);
        assert!(computed.iter().any(|it| it == "Equal"), "{computed:?}");
        let sizes = vec![node("Resize", &["x", "", "", "w"], "y")];
        assert_eq!(operators(sizes), ["Resize"]);
    }

    #[test]
    fn quantized_sums_are_checked_where_elements_may_be_lost() {
        let quantized = |before: &str| {
            let operators = guarded_operators(vec![
                node("DequantizeLinear", &["x", "w"], "a"),
                node(before, &["a", "w"], "b"),
                node("Add", &["b", "b"], "c"),
                node("QuantizeLinear", &["c", "w"], "y"),
            ]);
            operators.unwrap().iter().any(|it| it == "Reshape")
        };
        // Requests have elements.
        assert!(!quantized("MatMul"));
        assert!(quantized("Compress"));
        let plain = vec![
            node("Compress", &["x", "w"], "c"),
            node("Add", &["c", "c"], "y"),
        ];
        assert_eq!(guarded_operators(plain).unwrap(), ["Compress", "Add"]);
    }

    #[test]
    fn scale_of_a_product_of_integers_is_checked() {
        let product = |scale: &str| {
            let mut nodes = vec![
                node("DynamicQuantizeLinear", &["x"], "q"),
                node("MatMulInteger", &["q", "w"], "m"),
                node("Cast", &["m"], "f"),
                node("Mul", &["f", scale], "y"),
            ];
            nodes[0].output.push("own".to_owned());
            let operators = guarded_operators(nodes).unwrap();
            // One check is for the product itself.
            operators.iter().filter(|it| *it == "Reshape").count() > 1
        };
        assert!(product("w"));
        assert!(!product("own"), "it always has one element");
    }

    #[test]
    fn operators_and_attributes_that_no_check_saves_are_refused_by_name() {
        let mut lstm = node("AttnLSTM", &["x"], "y");
        lstm.domain = Some("com.microsoft".to_owned());
        let error = guarded_operators(vec![lstm]).unwrap_err().to_string();
        assert!(error.contains("AttnLSTM"), "{error}");
        let mut gather = node("GatherND", &["x", "w"], "y");
        gather.attribute.push(int_attribute("batch_dims", -1));
        let error = guarded_operators(vec![gather]).unwrap_err().to_string();
        assert!(error.contains("'batch_dims'"), "{error}");
    }

    #[test]
    fn pools_are_checked_with_and_without_convolutions() {
        let attributes = || vec![ints_attribute("kernel_shape", &[2, 2])];
        let alone = NodeProto {
            input: vec!["x".to_owned()],
            ..pool(attributes())
        };
        let conv = node("Conv", &["x", "w"], "c");
        for nodes in [vec![alone], vec![conv, pool(attributes())]] {
            let operators = guarded_operators(nodes).unwrap();
            assert!(operators.iter().any(|it| it == "Greater"), "{operators:?}");
        }
    }

    #[test]
    fn the_smallest_image_follows_from_window_and_pads() {
        let kernel = || ints_attribute("kernel_shape", &[3, 2]);
        assert_eq!(sizes(vec![kernel()]), [3, 2]);
        let pads = ints_attribute("pads", &[1, 0, 1, 0]);
        assert_eq!(sizes(vec![kernel(), pads]), [1, 2]);
        let dilations = ints_attribute("dilations", &[2, 3]);
        assert_eq!(sizes(vec![kernel(), dilations]), [5, 4]);
        let same = AttributeProto {
            name: Some("auto_pad".to_owned()),
            s: Some(b"SAME_UPPER".to_vec().into()),
            ..AttributeProto::default()
        };
        assert_eq!(sizes(vec![kernel(), same]), [1, 1]);
    }
}
