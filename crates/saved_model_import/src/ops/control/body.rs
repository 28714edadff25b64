//! The body of a loop, translated in a graph of its own.

use std::collections::BTreeMap;

use base::tensor::DataType;

use super::plan::Plan;
use super::role::Role;
use crate::list::{Contents, Place, Ragged, Stacked};
use crate::ops::list::dense;
use crate::refusal::Refusal;
use crate::translation::Translation;
use crate::value::{Shape, Tensor, Value};

/// The arguments of the body, whether there is another iteration, and the results.
type Translated = Result<(Vec<Value>, Tensor, Vec<Value>), Refusal>;

impl Plan<'_> {
    /// Translates the body and the condition after it.
    pub(super) fn inner(&self, t: &mut Translation<'_>, of_loop: usize) -> Translated {
        let label = self.op.node.name.as_str();
        let b = &mut t.builder;
        let scalar = Shape::scalar();
        let iteration = b.input(
            &format!("{label}/iteration"),
            DataType::Int64,
            scalar.clone(),
        )?;
        let running = b.input(&format!("{label}/running"), DataType::Bool, scalar)?;
        let mut joined = BTreeMap::new();
        let mut arguments = Vec::with_capacity(self.values.len());
        for index in 0..self.values.len() {
            if let Role::Join { initial, shape } = &self.roles[index] {
                let wish = format!("{label}/variable");
                let before = t.builder.input(&wish, initial.dtype, shape.clone())?;
                joined.insert(index, before);
            }
            arguments.push(self.argument(t, index, of_loop, &iteration)?);
        }
        let mut results = t.call(self.body, &arguments)?;
        t.builder.set_label(label);
        for (index, role) in self.roles.iter().enumerate() {
            if matches!(role, Role::Invariant) {
                results[index] = self.values[index].clone();
            }
        }
        let next = match self.trip {
            Some(_) => running,
            None => {
                let next = t.call(self.condition, &results)?;
                t.builder.set_label(label);
                self.truth(t, &next)?
            }
        };
        for (role, result) in self.roles.iter().zip(&mut results) {
            if let (Role::Dense { .. }, Value::List(list)) = (role, &*result)
                && list.place().is_none()
            {
                let stacked = dense::stack(&mut t.builder, list, &Shape::unknown())?;
                *result = Value::List(list.with(Contents::Stacked(stacked)));
            }
        }
        for (index, before) in joined {
            if let Some(Value::List(list)) = results.get(index)
                && let Contents::Collected { item, .. } = &list.contents
            {
                let b = &mut t.builder;
                let sizes = b.shape_of(item)?;
                let length = b.slice(&sizes, &[0], &[0], &[1], &[1])?;
                let ragged = Ragged {
                    values: b.concat(&[&before, item], 0)?,
                    lengths: b.squeeze(&length, &[0])?,
                };
                results[index] = Value::List(list.with(Contents::Ragged(ragged)));
            }
        }
        Ok((arguments, next, results))
    }

    /// The value of a variable within the body.
    fn argument(
        &self,
        t: &mut Translation<'_>,
        index: usize,
        of_loop: usize,
        iteration: &Tensor,
    ) -> Result<Value, Refusal> {
        let wish = format!("{}/variable", self.op.node.name);
        let b = &mut t.builder;
        Ok(match (&self.roles[index], &self.values[index]) {
            (Role::Counter, Value::Tensor(start)) => {
                let mut counter = b.cast(iteration, start.dtype)?;
                if start.int() != Some(0) {
                    counter = b.binary("Add", start, &counter)?;
                }
                note_counter(t, &counter, start, of_loop);
                Value::Tensor(counter)
            }
            (Role::State(shape), Value::Tensor(start)) => {
                let state = b.input(&wish, start.dtype, shape.clone())?;
                if self.counters[index] {
                    note_counter(t, &state, start, of_loop);
                }
                Value::Tensor(state)
            }
            (Role::Collect | Role::Join { .. }, Value::List(list)) => {
                let place = Place {
                    of_loop,
                    variable: index,
                };
                Value::List(list.with(Contents::Collecting(place)))
            }
            (Role::Dense { initial, shape }, Value::List(list)) => {
                let stacked = Stacked {
                    tensor: b.input(&wish, list.dtype, shape.clone())?,
                    is_sized: initial.is_sized,
                };
                Value::List(list.with(Contents::Stacked(stacked)))
            }
            (_, value) => value.clone(),
        })
    }
}

/// Notes that a tensor counts from `start`.
fn note_counter(t: &mut Translation<'_>, counter: &Tensor, start: &Tensor, of_loop: usize) {
    if let Some(start) = start.int().filter(|&it| it >= 0) {
        t.loops
            .add_counter(counter, Some(of_loop).filter(|_| start == 0));
    }
}
