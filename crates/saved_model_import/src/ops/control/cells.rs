//! The formulas of the cells of Keras: LSTM, and GRU with `reset_after` and without. They are proven node by node.
//!
//! Activations other than Keras's defaults, masks, dropout and anything else between the nodes keep the loop.
//!
//! Source: `keras/src/layers/rnn/lstm.py` and `gru.py`.

use super::recurrent::{Cell, Search, State, Weights, orders, same};
use crate::value::Tensor;

impl Search<'_> {
    /// The cell whose states these are.
    pub(super) fn cell(&self, states: &[State]) -> Option<(Cell, Weights)> {
        match states {
            [only] => self.gru(only),
            [one, two] => self.lstm(one, two).or_else(|| self.lstm(two, one)),
            _ => None,
        }
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
            self.is_invariant(&last),
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
}
