//! The nodes of each check.
//!
//! Not here: which checks a kernel needs (`kernel_limits`), models without arithmetic (`without_arithmetic`),
//! single nodes (`nodes`).

use crate::kernel_limits::Check;
use crate::known::Facts;
use crate::pooling_window::Window;
use crate::traverse;
use crate::visit::NodeContext;
use proto::onnx::{AttributeProto, NodeProto, tensor_proto::DataType as OnnxType};

/// How far outside an image a box can be: this multiple of its height plus width, plus this number of pixels.
const NEAR_SIDES: f32 = 4.0;
const NEAR_PIXELS: f32 = 64.0;

/// Writes the checks in front of one input of a node.
pub(super) struct Guard<'a, 'b> {
    pub(super) node: &'a NodeProto,
    pub(super) input: usize,
    /// The known facts about the tensor, including those ensured by checks.
    pub(super) facts: Facts,
    /// The tensor, as the last check returned it.
    pub(super) current: String,
    pub(super) context: &'a mut NodeContext<'b>,
    pub(super) nodes: &'a mut Vec<NodeProto>,
}

impl Guard<'_, '_> {
    /// Adds a check, unless the property is known to hold. Long, because it has an arm for each check.
    pub(super) fn check(&mut self, check: Check) {
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
            Check::RankOfWindow => {
                let window = Window::of(self.node).filter(|it| !it.sizes.is_empty());
                if let Some(window) = window {
                    self.check(Check::Rank(window.sizes.len() + 2));
                }
            }
            Check::HoldsWindow => self.holds_window(),
        }
    }

    /// The image, with its pads, is as large as the node's window.
    fn holds_window(&mut self) {
        let window = Window::of(self.node);
        if let Some(window) = window.filter(Window::is_larger_than_pads) {
            let rank = window.sizes.len() + 2;
            let mut sizes = vec![1; rank];
            sizes[window.first_axis..][..window.sizes.len()].copy_from_slice(&window.sizes);
            self.check(Check::Rank(rank));
            self.holds(&sizes);
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
    pub(super) fn filled(&mut self) {
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

    /// Compares floats: older models have no other comparison.
    pub(super) fn holds(&mut self, smallest: &[i64]) {
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
}
