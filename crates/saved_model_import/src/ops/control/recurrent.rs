//! Searches the body of a loop for the nodes of a recurrent cell.
//!
//! Not here: the formulas of the cells (`cells`), ONNX's `LSTM` and `GRU` that stand for them (`fused`).

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use proto::onnx::{GraphProto, NodeProto};

use crate::builder::{Builder, Made};
use crate::list::Loops;
use crate::value::Tensor;

/// How many nodes a sum, or an invariant tensor, is computed with.
const MAX_NODES: usize = 32;
/// Operators that can be moved out of a loop: they do not fail where they did not before.
const MOVED: &[&str] = &[
    "Add",
    "Concat",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

/// The parameters of a cell, in the layout of Keras: one column of the matrices for each unit of each gate.
pub(super) struct Weights {
    /// The elements of the steps, stacked: `[time, batch, features]`.
    pub(super) steps: Tensor,
    /// `[features, gates * units]`.
    pub(super) kernel: Tensor,
    /// `[units, gates * units]`, in parts along the second axis.
    pub(super) recurrent: Vec<Tensor>,
    /// Vectors that are added to the product with the kernel.
    pub(super) bias: Vec<Tensor>,
    /// Vectors that are added to the product with the recurrent kernel; empty if there are none.
    pub(super) recurrent_bias: Vec<Tensor>,
    pub(super) units: i64,
}

/// A cell of Keras.
pub(super) enum Cell {
    /// With the numbers of the variables that are the output and the carry. Gates: input, forget, cell, output.
    Lstm { output: usize, carry: usize },
    /// Gates: update, reset, candidate.
    Gru { output: usize, reset_after: bool },
}

/// A state of the loop: its variable, its value in the body, and the value after an iteration.
pub(super) struct State {
    pub(super) variable: usize,
    pub(super) before: Tensor,
    pub(super) after: Tensor,
}

/// The body of a loop in which a cell is searched.
pub(super) struct Search<'s> {
    b: &'s Builder,
    loops: &'s Loops,
    of_loop: usize,
    /// The tensors of the body, with the nodes that compute them.
    inner: HashMap<&'s str, Option<&'s NodeProto>>,
}

impl<'s> Search<'s> {
    pub(super) fn new(
        b: &'s Builder,
        loops: &'s Loops,
        of_loop: usize,
        graph: &'s GraphProto,
    ) -> Self {
        let inputs = graph.input.iter().map(|it| (it.name(), None));
        let outputs = graph
            .node
            .iter()
            .flat_map(|node| node.output.iter().map(move |it| (it.as_str(), Some(node))));
        Self {
            b,
            loops,
            of_loop,
            inner: inputs.chain(outputs).collect(),
        }
    }

    /// The nodes of the body that compute invariant tensors, in order.
    pub(super) fn moved(&self, graph: &GraphProto, tensors: &[&Tensor]) -> Vec<NodeProto> {
        let mut needed: HashSet<&str> = HashSet::new();
        let mut queue: Vec<&str> = tensors
            .iter()
            .filter_map(|it| it.name().ok())
            .map(|it| &**it)
            .collect();
        while let Some(name) = queue.pop() {
            if let Some((name, Some(node))) = self.inner.get_key_value(name)
                && needed.insert(name)
            {
                queue.extend(node.input.iter().map(String::as_str));
            }
        }
        let nodes = graph.node.iter();
        let is_needed =
            |node: &&NodeProto| node.output.iter().any(|it| needed.contains(it.as_str()));
        nodes.filter(is_needed).cloned().collect()
    }

    /// The node of the body that computes a tensor.
    fn made(&self, x: &Tensor) -> Option<&Rc<Made>> {
        let name = x.name().ok()?;
        self.inner.contains_key(&**name).then_some(())?;
        self.b.made(x)
    }

    pub(super) fn unary(&self, x: &Tensor, op_type: &str) -> Option<Tensor> {
        let made = self.made(x).filter(|it| it.op_type == op_type)?;
        made.inputs.first().cloned()
    }

    pub(super) fn binary(&self, x: &Tensor, op_type: &str) -> Option<[Tensor; 2]> {
        let made = self.made(x).filter(|it| it.op_type == op_type)?;
        match made.inputs.as_slice() {
            [one, two] => Some([one.clone(), two.clone()]),
            _ => None,
        }
    }

    /// The factors of a product of two, in both orders.
    pub(super) fn product(&self, x: &Tensor) -> Option<impl Iterator<Item = (Tensor, Tensor)>> {
        let [one, two] = self.binary(x, "Mul")?;
        Some([(one.clone(), two.clone()), (two, one)].into_iter())
    }

    /// The tensor that these are the parts of, in order, each `units` wide along the second axis.
    pub(super) fn whole(&self, parts: &[Tensor], units: i64) -> Option<Tensor> {
        let mut whole: Option<Tensor> = None;
        for (index, part) in parts.iter().enumerate() {
            let (of, place) = self.part(part, units)?;
            let is_same = whole.as_ref().is_none_or(|it| same(it, &of));
            (is_same && usize::try_from(place) == Ok(index)).then_some(())?;
            whole = Some(of);
        }
        let whole = whole?;
        let width = units.checked_mul(i64::try_from(parts.len()).ok()?)?;
        (whole.rank() == Some(2) && whole.shape.dim(1) == Some(width)).then_some(whole)
    }

    /// A tensor as one of the parts of another.
    fn part(&self, x: &Tensor, units: i64) -> Option<(Tensor, i64)> {
        let made = self.made(x)?;
        let of = made.inputs.first()?.clone();
        if of.rank() != Some(2) || x.shape.dim(1) != Some(units) || units <= 0 {
            return None;
        }
        match made.op_type.as_str() {
            "Split" if matches!(made.int("axis"), Some(1 | -1)) => {
                let sizes = made.inputs.get(1)?.ints()?;
                let is_even = sizes.iter().all(|&it| it == units);
                is_even.then_some((of, i64::try_from(made.output).ok()?))
            }
            "Slice" => {
                let ints = |index: usize| made.inputs.get(index).and_then(Tensor::int);
                let step = match made.inputs.get(4) {
                    Some(_) => ints(4)?,
                    None => 1,
                };
                let start = ints(1)?;
                let is_plain = matches!(ints(3)?, 1 | -1) && step == 1;
                (is_plain && start >= 0 && start % units == 0).then_some((of, start / units))
            }
            _ => None,
        }
    }

    /// The products of matrices and the vectors that a sum consists of.
    #[allow(clippy::type_complexity)]
    pub(super) fn terms(&self, sum: &Tensor) -> Option<(Vec<(Tensor, Tensor)>, Vec<Tensor>)> {
        let (mut products, mut vectors) = (Vec::new(), Vec::new());
        let mut queue = vec![sum.clone()];
        for _ in 0..MAX_NODES {
            let Some(term) = queue.pop() else {
                return Some((products, vectors));
            };
            if self.is_invariant(&term) {
                vectors.push(term);
            } else if let Some(terms) = self.binary(&term, "Add") {
                queue.extend(terms);
            } else {
                let [left, right] = self.binary(&term, "MatMul")?;
                self.is_invariant(&right).then_some(())?;
                products.push((left, right));
            }
        }
        None
    }

    /// Whether a tensor does not change from iteration to iteration, and can be computed before the loop.
    pub(super) fn is_invariant(&self, x: &Tensor) -> bool {
        let mut queue = vec![x];
        for _ in 0..MAX_NODES {
            let Some(x) = queue.pop() else {
                return true;
            };
            let Ok(name) = x.name() else { continue };
            match self.inner.get(&**name) {
                None => {}
                Some(None) => return false,
                Some(Some(_)) => match self.b.made(x) {
                    Some(made) if MOVED.contains(&made.op_type.as_str()) => {
                        queue.extend(&made.inputs);
                    }
                    _ => return false,
                },
            }
        }
        false
    }

    /// The tensor whose rows the iterations read one after the other.
    pub(super) fn step_of(&self, x: &Tensor) -> Option<Tensor> {
        let made = self.made(x).filter(|it| it.op_type == "Gather")?;
        let [steps, index] = made.inputs.as_slice() else {
            return None;
        };
        let is_first_axis = made.int("axis").unwrap_or(0) == 0;
        let counts = |x: &Tensor| self.loops.is_iteration(x, self.of_loop);
        let is_iteration = counts(index) || self.unary(index, "Cast").is_some_and(|it| counts(&it));
        let is_outer = steps.name().is_ok_and(|it| !self.inner.contains_key(&**it));
        (is_first_axis && is_iteration && is_outer && steps.rank() == Some(3))
            .then(|| steps.clone())
    }
}

impl Weights {
    /// Whether all sizes are those of a cell with this number of gates.
    pub(super) fn is_whole(&self, gates: i64) -> bool {
        let Some(width) = self.units.checked_mul(gates) else {
            return false;
        };
        let is_matrix = |x: &Tensor| x.rank() == Some(2) && !x.is_absent();
        let recurrent = self.recurrent.iter().map(|it| it.shape.dim(1));
        let recurrent = recurrent.sum::<Option<i64>>();
        let vectors = self.bias.iter().chain(&self.recurrent_bias);
        is_matrix(&self.kernel)
            && self.kernel.shape.dim(1) == Some(width)
            && self.kernel.shape.dim(0).is_some_and(|it| it > 0)
            && self.recurrent.iter().all(is_matrix)
            && self
                .recurrent
                .iter()
                .all(|it| it.shape.dim(0) == Some(self.units))
            && recurrent == Some(width)
            && vectors
                .clone()
                .all(|it| it.rank() == Some(1) && it.shape.dim(0) == Some(width))
            && self
                .all()
                .iter()
                .all(|it| it.dtype == base::tensor::DataType::Float)
    }

    /// The tensors that are read before the loop.
    pub(super) fn all(&self) -> Vec<&Tensor> {
        let ends = [&self.steps, &self.kernel].into_iter();
        ends.chain(&self.recurrent)
            .chain(&self.bias)
            .chain(&self.recurrent_bias)
            .collect()
    }
}

/// Both orders of two terms.
pub(super) fn orders(pair: &[Tensor; 2]) -> impl Iterator<Item = (Tensor, Tensor)> + use<> {
    let [one, two] = pair.clone();
    [(one.clone(), two.clone()), (two, one)].into_iter()
}

/// Whether two tensors are the same tensor of the graph.
pub(super) fn same(one: &Tensor, two: &Tensor) -> bool {
    matches!((one.name(), two.name()), (Ok(one), Ok(two)) if one == two && !one.is_empty())
}
