//! Recognises the cells of Keras in loops, node by node: LSTM, and GRU with `reset_after` and without.
//!
//! Activations other than Keras's defaults, masks, dropout and anything else between the nodes keep the loop.
//!
//! Source of the cells: `keras/src/layers/rnn/{lstm,gru}.py`.
//!
//! Not here: ONNX's `LSTM` and `GRU` that stand for them (`fused`).

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use proto::onnx::{GraphProto, NodeProto};

use crate::builder::{Builder, Made};
use crate::list::Loops;
use crate::value::Tensor;

/// How deep sums and invariant computations nest.
const MAX_DEPTH: usize = 16;
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

/// What a cell computes with, in the layout of Keras: one column of the matrices for each unit of each gate.
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

    /// The cell whose states these are.
    pub(super) fn cell(&self, states: &[State]) -> Option<(Cell, Weights)> {
        match states {
            [only] => self.gru(only),
            [one, two] => self.lstm(one, two).or_else(|| self.lstm(two, one)),
            _ => None,
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

    fn lstm(&self, output: &State, carry: &State) -> Option<(Cell, Weights)> {
        let (gate, squashed) = self.product(&output.after)?.find(|(one, two)| {
            self.unary(one, "Sigmoid").is_some()
                && self
                    .unary(two, "Tanh")
                    .is_some_and(|it| same(&it, &carry.after))
        })?;
        let _ = squashed;
        let fourth = self.unary(&gate, "Sigmoid")?;
        let sum = self.binary(&carry.after, "Add")?;
        let (kept, new) = orders(&sum).find(|(kept, _)| {
            self.product(kept)
                .is_some_and(|mut it| it.any(|(_, two)| same(&two, &carry.before)))
        })?;
        let (second, _) = self
            .product(&kept)?
            .find(|(_, two)| same(two, &carry.before))?;
        let second = self.unary(&second, "Sigmoid")?;
        let (first, third) = self.product(&new)?.find(|(one, two)| {
            self.unary(one, "Sigmoid").is_some() && self.unary(two, "Tanh").is_some()
        })?;
        let gates = [
            self.unary(&first, "Sigmoid")?,
            second,
            self.unary(&third, "Tanh")?,
            fourth,
        ];
        let units = output.before.shape.dim(1)?;
        let sum = self.whole(&gates, units)?;
        let terms = self.terms(&sum)?;
        let mut weights = Weights {
            steps: Tensor::absent(),
            kernel: Tensor::absent(),
            recurrent: Vec::new(),
            bias: terms.1,
            recurrent_bias: Vec::new(),
            units,
        };
        for (left, right) in terms.0 {
            if same(&left, &output.before) && weights.recurrent.is_empty() {
                weights.recurrent.push(right);
            } else if let Some(steps) = self.step_of(&left)
                && weights.kernel.is_absent()
            {
                weights.steps = steps;
                weights.kernel = right;
            } else {
                return None;
            }
        }
        weights.is_whole(4).then_some(())?;
        let cell = Cell::Lstm {
            output: output.variable,
            carry: carry.variable,
        };
        Some((cell, weights))
    }

    fn gru(&self, state: &State) -> Option<(Cell, Weights)> {
        let before = &state.before;
        let sum = self.binary(&state.after, "Add")?;
        let (kept, new) = orders(&sum).find(|(kept, _)| {
            self.product(kept)
                .is_some_and(|mut it| it.any(|(_, two)| same(&two, before)))
        })?;
        let (update, _) = self.product(&kept)?.find(|(_, two)| same(two, before))?;
        let (_, candidate) = self.product(&new)?.find(|(one, _)| {
            self.binary(one, "Sub").is_some_and(|[one, two]| {
                one.as_scalar::<f32>() == Some(1.0) && same(&two, &update)
            })
        })?;
        let update = self.unary(&update, "Sigmoid")?;
        let candidate = self.unary(&candidate, "Tanh")?;
        let candidate = self.binary(&candidate, "Add")?;
        orders(&candidate).find_map(|(input, recurrent)| {
            self.reset_after(state, &update, &input, &recurrent)
                .or_else(|| self.reset_before(state, &update, &input, &recurrent))
        })
    }

    /// The candidate is made from `reset * (state * kernel + bias)`.
    fn reset_after(
        &self,
        state: &State,
        update: &Tensor,
        input: &Tensor,
        recurrent: &Tensor,
    ) -> Option<(Cell, Weights)> {
        let units = state.before.shape.dim(1)?;
        let (reset, inner) = self.product(recurrent)?.find_map(|(one, two)| {
            let reset = self.unary(&one, "Sigmoid")?;
            Some((reset, two))
        })?;
        let update = self.binary(update, "Add")?;
        let reset = self.binary(&reset, "Add")?;
        let (of_input, of_state) = orders(&update).find_map(|(one, two)| {
            orders(&reset).find_map(|(three, four)| {
                let of_input = self.whole(&[one.clone(), three, input.clone()], units)?;
                let of_state = self.whole(&[two.clone(), four, inner.clone()], units)?;
                Some((of_input, of_state))
            })
        })?;
        let (kernel, bias) = self.terms(&of_input)?;
        let (recurrent, recurrent_bias) = self.terms(&of_state)?;
        let ([(step, kernel)], [(before, recurrent)]) = (kernel.as_slice(), recurrent.as_slice())
        else {
            return None;
        };
        same(before, &state.before).then_some(())?;
        let weights = Weights {
            steps: self.step_of(step)?,
            kernel: kernel.clone(),
            recurrent: vec![recurrent.clone()],
            bias,
            recurrent_bias,
            units,
        };
        weights.is_whole(3).then_some(())?;
        let cell = Cell::Gru {
            output: state.variable,
            reset_after: true,
        };
        Some((cell, weights))
    }

    /// The candidate is made from `(reset * state) * kernel`.
    fn reset_before(
        &self,
        state: &State,
        update: &Tensor,
        input: &Tensor,
        recurrent: &Tensor,
    ) -> Option<(Cell, Weights)> {
        let units = state.before.shape.dim(1)?;
        let [scaled, last] = self.binary(recurrent, "MatMul")?;
        let (reset, _) = self
            .product(&scaled)?
            .find(|(_, two)| same(two, &state.before))?;
        let reset = self.unary(&reset, "Sigmoid")?;
        let update = self.binary(update, "Add")?;
        let reset = self.binary(&reset, "Add")?;
        let (of_input, of_state) = orders(&update).find_map(|(one, two)| {
            orders(&reset).find_map(|(three, four)| {
                let of_input = self.whole(&[one.clone(), three, input.clone()], units)?;
                let of_state = self.whole(&[two.clone(), four], units)?;
                Some((of_input, of_state))
            })
        })?;
        let (kernel, bias) = self.terms(&of_input)?;
        let (first, none) = self.terms(&of_state)?;
        let ([(step, kernel)], [(before, first)], true, true) = (
            kernel.as_slice(),
            first.as_slice(),
            none.is_empty(),
            self.is_invariant(&last, MAX_DEPTH),
        ) else {
            return None;
        };
        same(before, &state.before).then_some(())?;
        let weights = Weights {
            steps: self.step_of(step)?,
            kernel: kernel.clone(),
            recurrent: vec![first.clone(), last],
            bias,
            recurrent_bias: Vec::new(),
            units,
        };
        weights.is_whole(3).then_some(())?;
        let cell = Cell::Gru {
            output: state.variable,
            reset_after: false,
        };
        Some((cell, weights))
    }

    /// The node of the body that computes a tensor.
    fn made(&self, x: &Tensor) -> Option<&Rc<Made>> {
        let name = x.name().ok()?;
        self.inner.contains_key(&**name).then_some(())?;
        self.b.made(x)
    }

    fn unary(&self, x: &Tensor, op_type: &str) -> Option<Tensor> {
        let made = self.made(x).filter(|it| it.op_type == op_type)?;
        made.inputs.first().cloned()
    }

    fn binary(&self, x: &Tensor, op_type: &str) -> Option<[Tensor; 2]> {
        let made = self.made(x).filter(|it| it.op_type == op_type)?;
        match made.inputs.as_slice() {
            [one, two] => Some([one.clone(), two.clone()]),
            _ => None,
        }
    }

    /// The factors of a product of two, in both orders.
    fn product(&self, x: &Tensor) -> Option<impl Iterator<Item = (Tensor, Tensor)>> {
        let [one, two] = self.binary(x, "Mul")?;
        Some([(one.clone(), two.clone()), (two, one)].into_iter())
    }

    /// The tensor that these are the parts of, in order, each `units` wide along the second axis.
    fn whole(&self, parts: &[Tensor], units: i64) -> Option<Tensor> {
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
    fn terms(&self, sum: &Tensor) -> Option<(Vec<(Tensor, Tensor)>, Vec<Tensor>)> {
        let (mut products, mut vectors) = (Vec::new(), Vec::new());
        let mut queue = vec![sum.clone()];
        for _ in 0..MAX_DEPTH {
            let Some(term) = queue.pop() else {
                return Some((products, vectors));
            };
            if self.is_invariant(&term, MAX_DEPTH) {
                vectors.push(term);
            } else if let Some(terms) = self.binary(&term, "Add") {
                queue.extend(terms);
            } else {
                let [left, right] = self.binary(&term, "MatMul")?;
                self.is_invariant(&right, MAX_DEPTH).then_some(())?;
                products.push((left, right));
            }
        }
        None
    }

    /// Whether a tensor does not change from iteration to iteration, and can be computed before the loop.
    fn is_invariant(&self, x: &Tensor, depth: usize) -> bool {
        let Ok(name) = x.name() else {
            return true;
        };
        match self.inner.get(&**name) {
            None => true,
            Some(None) => false,
            Some(Some(_)) => self.b.made(x).is_some_and(|made| {
                depth > 0
                    && MOVED.contains(&made.op_type.as_str())
                    && made
                        .inputs
                        .iter()
                        .all(|it| self.is_invariant(it, depth - 1))
            }),
        }
    }

    /// The tensor whose rows the iterations read one after the other.
    fn step_of(&self, x: &Tensor) -> Option<Tensor> {
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
    /// Whether all sizes are those of a cell with so many gates.
    fn is_whole(&self, gates: i64) -> bool {
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
fn orders(pair: &[Tensor; 2]) -> impl Iterator<Item = (Tensor, Tensor)> + use<> {
    let [one, two] = pair.clone();
    [(one.clone(), two.clone()), (two, one)].into_iter()
}

/// Whether two tensors are the same tensor of the graph.
pub(super) fn same(one: &Tensor, two: &Tensor) -> bool {
    matches!((one.name(), two.name()), (Ok(one), Ok(two)) if one == two && !one.is_empty())
}
