//! `While`: ONNX's `Loop`.
//!
//! The body is translated with assumptions: that the shapes of the variables do not change, and that lists are
//! only written. If the result contradicts one, it is dropped, and the body is translated again without it.

use base::tensor::DataType;
use proto::onnx::GraphProto;

use super::counted::{self, Trip};
use super::resolve::{Resolver, Source};
use super::role::{self, Role};
use super::{arguments, function, known_truth, truth};
use crate::list::{Contents, How, List, Place, Stacked};
use crate::op::{Op, Translated};
use crate::ops::list::dense;
use crate::refusal::Refusal;
use crate::translation::Translation;
use crate::value::{Shape, Tensor, Value};

/// After this many attempts, shapes are only assumed to be what TensorFlow noted.
const MAX_CAREFUL: usize = 6;
const MAX_ATTEMPTS: usize = 24;

/// `While` and `StatelessWhile`.
pub(super) fn translate(t: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    let condition = function(t, op, "cond")?;
    let body = function(t, op, "body")?;
    let values = arguments(t, op.inputs)?;
    let mut plan = Plan::new(t, op, condition, body, values)?;
    let first = match &plan.trip {
        Some(trip) => trip.count.int().map(|it| it > 0),
        None => {
            let first = t.call(condition, &plan.values)?;
            t.builder.set_label(&op.node.name);
            let first = plan.truth(t, &first)?;
            let known = known_truth(&first);
            plan.first = Some(first);
            known
        }
    };
    if first == Some(false) {
        return Ok(plan.values);
    }
    for attempt in 0..MAX_ATTEMPTS {
        let refusals = t.refusals();
        if let Some(outputs) = plan.attempt(t, attempt)? {
            return Ok(outputs);
        }
        t.forget_refusals(refusals);
    }
    Err(Refusal::new("has variables whose shapes cannot be found"))
}

/// How a loop is translated.
struct Plan<'o> {
    op: &'o Op<'o>,
    condition: &'o str,
    body: &'o str,
    /// The values of the variables before the loop.
    values: Vec<Value>,
    roles: Vec<Role>,
    /// What TensorFlow noted about the shapes of the variables.
    noted: Vec<Shape>,
    /// Which variables grow by one in each iteration.
    counters: Vec<bool>,
    trip: Option<Trip>,
    /// The condition before the first iteration, unless the iterations are counted.
    first: Option<Tensor>,
}

/// The body of a loop.
struct Body {
    graph: GraphProto,
    /// Whether there is another iteration.
    next: Tensor,
    results: Vec<Value>,
    of_loop: usize,
}

impl<'o> Plan<'o> {
    fn new(
        t: &mut Translation<'_>,
        op: &'o Op<'o>,
        condition: &'o str,
        body: &'o str,
        values: Vec<Value>,
    ) -> Result<Self, Refusal> {
        let functions = &t.graph.functions;
        let (Some(inner), Some(outer)) = (functions.get(body), functions.get(condition)) else {
            return Err(Refusal::new("calls a function that is not in the file"));
        };
        let inner = Resolver { function: inner };
        let outer = Resolver { function: outer };
        let results = inner.function.results();
        if results.len() != values.len() {
            return Err(Refusal::new("has a body with another number of results"));
        }
        let invariant: Vec<bool> = results
            .iter()
            .enumerate()
            .map(|(index, result)| {
                let source = result.and_then(|it| inner.source(it));
                matches!(source, Some(Source::Argument(argument)) if argument == index)
            })
            .collect();
        let counters = counted::counters(&inner, &values, &invariant);
        let trip = counted::trip(t, condition, &outer, &values, &counters, &invariant)?;
        t.builder.set_label(&op.node.name);
        let noted = op.attr_shapes("output_shapes");
        let noted: Vec<Shape> = (0..values.len())
            .map(|it| noted.get(it).cloned().unwrap_or_else(Shape::unknown))
            .collect();
        let roles = values.iter().enumerate().map(|(index, value)| {
            Ok(match value {
                _ if invariant[index] => Role::Invariant,
                Value::Tensor(_) if trip.is_some() && counters[index] => Role::Counter,
                Value::Tensor(tensor) => Role::State(tensor.shape.merged(&noted[index])),
                Value::List(_) => Role::Collect,
                _ => Role::Resource,
            })
        });
        let roles = roles.collect::<Result<Vec<_>, Refusal>>()?;
        Ok(Self {
            op,
            condition,
            body,
            roles,
            values,
            noted,
            counters,
            trip,
            first: None,
        })
    }

    fn truth(&self, t: &mut Translation<'_>, results: &[Value]) -> Result<Tensor, Refusal> {
        match results {
            [Value::Tensor(tensor)] => truth(&mut t.builder, tensor),
            [Value::Nothing] => Err(Refusal::of_input()),
            _ => Err(Refusal::new("has a condition that is not one tensor")),
        }
    }

    /// Translates the loop with the roles as they are. `None`: they did not hold, and others were chosen.
    fn attempt(
        &mut self,
        t: &mut Translation<'_>,
        attempt: usize,
    ) -> Result<Option<Vec<Value>>, Refusal> {
        let of_loop = t.loops.next();
        t.builder.open_graph();
        let inner = self.inner(t, of_loop);
        let graph = t.builder.suspend_graph();
        t.builder.set_label(&self.op.node.name);
        if self.take_wanted(t, of_loop)? {
            return Ok(None);
        }
        let (next, results) = inner?;
        if results.iter().any(|it| matches!(it, Value::Nothing)) {
            return Err(Refusal::of_input());
        }
        let body = Body {
            graph,
            next,
            results,
            of_loop,
        };
        if self.adapt(t, &body, attempt)? {
            return Ok(None);
        }
        self.finish(t, body).map(Some)
    }

    /// Lists that the body reads become states. Whether there are any.
    fn take_wanted(&mut self, t: &mut Translation<'_>, of_loop: usize) -> Result<bool, Refusal> {
        let mut any = false;
        for variable in 0..self.values.len() {
            if let Some(element) = t.loops.take_wanted(Place { of_loop, variable }) {
                self.make_dense(t, variable, &element)?;
                any = true;
            }
        }
        Ok(any)
    }

    fn make_dense(
        &mut self,
        t: &mut Translation<'_>,
        variable: usize,
        element: &Shape,
    ) -> Result<(), Refusal> {
        if let Some(Value::List(list)) = self.values.get(variable) {
            // What an outer loop collects is not at hand.
            if let Some(place) = list.place() {
                return Err(t.loops.want(place, &list.declared.merged(element)));
            }
            self.roles[variable] = role::dense_role(&mut t.builder, list, element)?;
        }
        Ok(())
    }

    /// Translates the body and the condition after it.
    fn inner(
        &self,
        t: &mut Translation<'_>,
        of_loop: usize,
    ) -> Result<(Tensor, Vec<Value>), Refusal> {
        let label = self.op.node.name.as_str();
        let b = &mut t.builder;
        let scalar = Shape::scalar();
        let iteration = b.input(
            &format!("{label}/iteration"),
            DataType::Int64,
            scalar.clone(),
        )?;
        let running = b.input(&format!("{label}/running"), DataType::Bool, scalar)?;
        let mut arguments = Vec::with_capacity(self.values.len());
        for index in 0..self.values.len() {
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
        Ok((next, results))
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
            (Role::Collect, Value::List(list)) => {
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

    /// Chooses other roles where the results contradict the assumptions. Whether there are any.
    fn adapt(
        &mut self,
        t: &mut Translation<'_>,
        body: &Body,
        attempt: usize,
    ) -> Result<bool, Refusal> {
        let mut changed = false;
        for (index, result) in body.results.iter().enumerate() {
            let place = Place {
                of_loop: body.of_loop,
                variable: index,
            };
            let role = self.roles[index].clone();
            match (role, &self.values[index], result) {
                (Role::Invariant | Role::Counter, _, _) => {}
                (Role::Resource, one, two) => same_resource(one, two)?,
                (Role::State(shape), Value::Tensor(before), Value::Tensor(after)) => {
                    if before.dtype != after.dtype {
                        return Err(Refusal::new("has a variable that changes its dtype"));
                    }
                    let wider = self.wider(index, &shape, &after.shape, attempt);
                    changed |= wider != shape;
                    self.roles[index] = Role::State(wider);
                }
                (Role::Collect, Value::List(list), Value::List(after)) => match &after.contents {
                    Contents::Collecting(it) if *it == place => {
                        self.roles[index] = Role::Invariant;
                        changed = true;
                    }
                    Contents::Collected { place: it, how, .. }
                        if *it == place && role::can_collect(list, *how) => {}
                    _ => {
                        let element = list.element_shape().merged(&after.element_shape());
                        self.make_dense(t, index, &element)?;
                        changed = true;
                    }
                },
                (Role::Dense { initial, shape }, Value::List(_), Value::List(after)) => {
                    let Contents::Stacked(after) = &after.contents else {
                        return Err(Refusal::new("moves a list from one variable to another"));
                    };
                    let wider = self.wider(index, &shape, &after.tensor.shape, attempt);
                    let is_sized = initial.is_sized && after.is_sized;
                    changed |= wider != shape || is_sized != initial.is_sized;
                    self.roles[index] = Role::Dense {
                        initial: Stacked {
                            is_sized,
                            ..initial
                        },
                        shape: wider,
                    };
                }
                _ => return Err(Refusal::new("has a variable that changes its kind")),
            }
        }
        Ok(changed)
    }

    /// A shape that holds before and after an iteration.
    fn wider(&self, index: usize, before: &Shape, after: &Shape, attempt: usize) -> Shape {
        let mut wider = before.common(after);
        if wider != *before && attempt >= MAX_CAREFUL {
            wider = Shape::unknown();
        }
        let noted = &self.noted[index];
        // What TensorFlow noted holds in all iterations, if nothing contradicts it.
        match noted.merged(after) == after.merged(noted) {
            true => wider.merged(noted),
            false => wider,
        }
    }

    /// Adds the loop.
    fn finish(&self, t: &mut Translation<'_>, body: Body) -> Result<Vec<Value>, Refusal> {
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

    /// The results that are states of the loop.
    fn states<'r>(&'r self, results: &'r [Value]) -> impl Iterator<Item = &'r Tensor> {
        let pairs = self.roles.iter().zip(results);
        pairs.filter_map(|(role, result)| match (role, result) {
            (Role::State(_), Value::Tensor(tensor)) => Some(tensor),
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

/// Notes that a tensor counts from `start`.
fn note_counter(t: &mut Translation<'_>, counter: &Tensor, start: &Tensor, of_loop: usize) {
    if let Some(start) = start.int().filter(|&it| it >= 0) {
        t.loops
            .add_counter(counter, Some(of_loop).filter(|_| start == 0));
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

fn same_resource(one: &Value, two: &Value) -> Result<(), Refusal> {
    match (one, two) {
        (Value::Variable(one), Value::Variable(two)) | (Value::Table(one), Value::Table(two))
            if one == two =>
        {
            Ok(())
        }
        _ => Err(Refusal::new(
            "has a variable that is a resource and changes",
        )),
    }
}
