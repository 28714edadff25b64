//! Adds the loop whose body is translated: ONNX's `Loop`, or an operator that does the same.

use base::tensor::DataType;

use super::fused;
use super::plan::{Body, Plan};
use super::recurrent::{self, Cell, Search, State};
use super::role::{self, Role};
use crate::list::{Contents, How, List, Ragged, Stacked};
use crate::refusal::Refusal;
use crate::translation::Translation;
use crate::value::{Tensor, Value};

impl Plan<'_> {
    /// Adds the loop.
    pub(super) fn finish(
        &self,
        t: &mut Translation<'_>,
        body: Body,
    ) -> Result<Vec<Value>, Refusal> {
        if let Some(values) = self.fuse(t, &body)? {
            return Ok(values);
        }
        let b = &mut t.builder;
        b.reopen_graph(body.graph);
        let wish = format!("{}/next", self.op.node.name);
        let mut added = b.output(&wish, &body.next).map(|_| ());
        for tensor in self
            .states(&body.results)
            .chain(collected(&body.results, &self.roles))
        {
            added = added.and_then(|()| b.output(&wish, tensor).map(|_| ()));
        }
        let graph = b.close_graph();
        added?;
        let trip = self.trip.as_ref().map(|it| it.count.clone());
        let mut inputs = vec![
            trip.clone().unwrap_or_else(Tensor::absent),
            // A loop without a condition goes on, but ONNX wants the input.
            match &self.first {
                Some(first) => first.clone(),
                None => b.scalar(DataType::Bool, 1.0)?,
            },
        ];
        let mut types = Vec::new();
        for (role, value) in self.roles.iter().zip(&self.values) {
            match (role, value) {
                (Role::State(shape), Value::Tensor(tensor)) => {
                    inputs.push(tensor.clone());
                    types.push((tensor.dtype, shape.clone()));
                }
                (Role::Join { initial, shape }, _) => {
                    inputs.push(initial.clone());
                    types.push((initial.dtype, shape.clone()));
                }
                (Role::Dense { initial, shape }, _) => {
                    inputs.push(initial.tensor.clone());
                    types.push((initial.tensor.dtype, shape.clone()));
                }
                _ => {}
            }
        }
        let times = trip.as_ref().and_then(Tensor::int);
        for item in collected(&body.results, &self.roles) {
            types.push((item.dtype, crate::list::stacked_shape(times, &item.shape)));
        }
        let outputs = match types.is_empty() {
            true => Vec::new(),
            false => b
                .op("Loop", &inputs.iter().collect::<Vec<_>>())
                .graph("body", graph)
                .many(types)?,
        };
        self.outputs(t, &body.results, outputs, trip.as_ref())
    }

    /// The values after the loop if its body is a cell that ONNX has an operator for.
    fn fuse(&self, t: &mut Translation<'_>, body: &Body) -> Result<Option<Vec<Value>>, Refusal> {
        let Some(trip) = self.trip.as_ref().map(|it| it.count.clone()) else {
            return Ok(None);
        };
        let Some((states, initial)) = self.states_of_cell(body) else {
            return Ok(None);
        };
        let search = Search::new(&t.builder, &t.loops, body.of_loop, &body.graph);
        let Some((cell, weights)) = search.cell(&states) else {
            return Ok(None);
        };
        let moved = search.moved(&body.graph, &weights.all());
        let (output, carry) = match cell {
            Cell::Lstm { output, carry } => (output, Some(carry)),
            Cell::Gru { output, .. } => (output, None),
        };
        let written = states.iter().find(|it| it.variable == output);
        let mut items = collected(&body.results, &self.roles);
        if !items.all(|item| written.is_some_and(|it| recurrent::same(&it.after, item))) {
            return Ok(None);
        }
        let b = &mut t.builder;
        let steps = b.first_size(&weights.steps)?;
        if !b.is_same(&steps, &trip) {
            return Ok(None);
        }
        b.adopt(moved);
        let value = |variable: usize| initial.iter().find(|it| it.0 == variable);
        let initial: Vec<Tensor> = std::iter::once(output)
            .chain(carry)
            .filter_map(value)
            .map(|it| it.1.clone())
            .collect();
        let layer = fused::layer(b, &cell, &weights, &initial)?;
        let mut outputs = Vec::new();
        for state in &states {
            match &layer.carry {
                Some(carry) if state.variable != output => outputs.push(carry.clone()),
                _ => outputs.push(layer.output.clone()),
            }
        }
        outputs.extend(collected(&body.results, &self.roles).map(|_| layer.outputs.clone()));
        self.outputs(t, &body.results, outputs, Some(&trip))
            .map(Some)
    }

    /// The states that a cell would have, with the values before the loop by their variables. `None` if there are
    /// others.
    #[allow(clippy::type_complexity)]
    fn states_of_cell(&self, body: &Body) -> Option<(Vec<State>, Vec<(usize, Tensor)>)> {
        let mut states = Vec::new();
        let mut initial = Vec::new();
        for (variable, role) in self.roles.iter().enumerate() {
            let values = (
                &self.values[variable],
                &body.arguments[variable],
                &body.results[variable],
            );
            match (role, values) {
                (
                    Role::State(shape),
                    (Value::Tensor(first), Value::Tensor(before), Value::Tensor(after)),
                ) if shape.rank() == Some(2) && states.len() < 2 => {
                    initial.push((variable, first.clone()));
                    states.push(State {
                        variable,
                        before: before.clone(),
                        after: after.clone(),
                    });
                }
                (Role::State(_) | Role::Dense { .. } | Role::Join { .. }, _) => return None,
                _ => {}
            }
        }
        Some((states, initial))
    }

    /// The results that are states of the loop.
    fn states<'r>(&'r self, results: &'r [Value]) -> impl Iterator<Item = &'r Tensor> {
        let pairs = self.roles.iter().zip(results);
        pairs.filter_map(|(role, result)| match (role, result) {
            (Role::State(_), Value::Tensor(tensor)) => Some(tensor),
            (Role::Join { .. }, Value::List(list)) => match &list.contents {
                Contents::Ragged(ragged) => Some(&ragged.values),
                _ => None,
            },
            (Role::Dense { .. }, Value::List(list)) => match &list.contents {
                Contents::Stacked(stacked) => Some(&stacked.tensor),
                _ => None,
            },
            _ => None,
        })
    }

    /// The values of the variables after the loop.
    fn outputs(
        &self,
        t: &mut Translation<'_>,
        results: &[Value],
        outputs: Vec<Tensor>,
        trip: Option<&Tensor>,
    ) -> Result<Vec<Value>, Refusal> {
        let b = &mut t.builder;
        let states = self.states(results).count();
        let mut outputs = outputs.into_iter();
        let mut states = outputs
            .by_ref()
            .take(states)
            .collect::<Vec<_>>()
            .into_iter();
        let missing = || Refusal::new("has a body with another number of results");
        let mut values = Vec::with_capacity(self.values.len());
        for ((role, value), result) in self.roles.iter().zip(&self.values).zip(results) {
            values.push(match (role, value) {
                (Role::State(_), _) => Value::Tensor(states.next().ok_or_else(missing)?),
                (Role::Dense { initial, .. }, Value::List(list)) => {
                    let tensor = states.next().ok_or_else(missing)?;
                    let is_sized = initial.is_sized;
                    Value::List(list.with(Contents::Stacked(Stacked { tensor, is_sized })))
                }
                (Role::Join { .. }, Value::List(list)) => {
                    let ragged = Ragged {
                        values: states.next().ok_or_else(missing)?,
                        lengths: outputs.next().ok_or_else(missing)?,
                    };
                    Value::List(list.with(Contents::Ragged(ragged)))
                }
                (Role::Collect, Value::List(list)) => {
                    let written = outputs.next().ok_or_else(missing)?;
                    let how = how(result).ok_or_else(missing)?;
                    Value::List(role::collected(b, list, how, written, trip)?)
                }
                (Role::Counter, Value::Tensor(start)) => {
                    let trip = trip.ok_or_else(missing)?;
                    Value::Tensor(role::counted(b, start, trip)?)
                }
                (_, value) => value.clone(),
            });
        }
        Ok(values)
    }
}

/// The elements that lists collect.
fn collected<'r>(results: &'r [Value], roles: &'r [Role]) -> impl Iterator<Item = &'r Tensor> {
    let pairs = roles.iter().zip(results);
    pairs.filter_map(|(role, result)| match (role, result) {
        (
            Role::Collect,
            Value::List(List {
                contents: Contents::Collected { item, .. },
                ..
            }),
        ) => Some(item),
        (
            Role::Join { .. },
            Value::List(List {
                contents: Contents::Ragged(ragged),
                ..
            }),
        ) => Some(&ragged.lengths),
        _ => None,
    })
}

fn how(result: &Value) -> Option<How> {
    match result {
        Value::List(List {
            contents: Contents::Collected { how, .. },
            ..
        }) => Some(*how),
        _ => None,
    }
}
