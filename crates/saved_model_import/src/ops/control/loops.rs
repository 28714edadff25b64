//! `While`: ONNX's `Loop`.
//!
//! The body is translated with assumptions: that the shapes of the variables do not change, and that lists are
//! only written. If the result contradicts one, it is dropped, and the body is translated again without it.

use super::plan::{Body, Plan};
use super::role::{self, Role};
use super::{arguments, function, known_truth};
use crate::list::{Contents, How, List, Place, Stacked};
use crate::op::{Op, Translated};
use crate::refusal::Refusal;
use crate::translation::Translation;
use crate::value::{Shape, Tensor, Value};

/// After this many attempts, no shapes are assumed except those that TensorFlow noted.
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

impl Plan<'_> {
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
        let (arguments, next, results) = inner?;
        if results.iter().any(|it| matches!(it, Value::Nothing)) {
            return Err(Refusal::of_input());
        }
        let body = Body {
            graph,
            arguments,
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
            // The elements that an outer loop collects are not at hand.
            if let Some(place) = list.place() {
                return Err(t.loops.want(place, &list.declared.merged(element)));
            }
            self.roles[variable] = role::dense_role(&mut t.builder, list, element)?;
        }
        Ok(())
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
            let role = self.roles[index].clone();
            changed |= match (role, &self.values[index], result) {
                (Role::Invariant | Role::Counter, _, _) => false,
                (Role::Resource, one, two) => same_resource(one, two)?,
                (Role::State(shape), Value::Tensor(before), Value::Tensor(after)) => {
                    if before.dtype != after.dtype {
                        return Err(Refusal::new("has a variable that changes its dtype"));
                    }
                    let wider = self.wider(index, &shape, &after.shape, attempt);
                    self.roles[index] = Role::State(wider.clone());
                    wider != shape
                }
                (Role::Collect, Value::List(_), Value::List(after)) => {
                    let place = Place {
                        of_loop: body.of_loop,
                        variable: index,
                    };
                    self.adapt_collected(t, place, after)?
                }
                (Role::Join { initial, shape }, Value::List(_), Value::List(after)) => {
                    self.adapt_joined(t, index, after, initial, &shape)?
                }
                (Role::Dense { initial, shape }, Value::List(_), Value::List(after)) => {
                    let Contents::Stacked(after) = &after.contents else {
                        return Err(Refusal::new("moves a list from one variable to another"));
                    };
                    let wider = self.wider(index, &shape, &after.tensor.shape, attempt);
                    let is_sized = initial.is_sized && after.is_sized;
                    let changed = wider != shape || is_sized != initial.is_sized;
                    let tensor = initial.tensor;
                    self.roles[index] = Role::Dense {
                        initial: Stacked { tensor, is_sized },
                        shape: wider,
                    };
                    changed
                }
                _ => return Err(Refusal::new("has a variable that changes its kind")),
            }
        }
        Ok(changed)
    }

    /// Another role for a list that was to be collected, if it cannot be. Whether there is one.
    fn adapt_collected(
        &mut self,
        t: &mut Translation<'_>,
        place: Place,
        after: &List,
    ) -> Result<bool, Refusal> {
        let Some(Value::List(list)) = self.values.get(place.variable) else {
            return Ok(false);
        };
        let role = match &after.contents {
            Contents::Collecting(it) if *it == place => Role::Invariant,
            Contents::Collected {
                place: it,
                how,
                item,
            } if *it == place && role::can_collect(list, *how) => {
                if !self.can_join(t, list, *how, item)? {
                    return Ok(false);
                }
                role::join_role(&mut t.builder, list, &item.shape)?
            }
            _ => {
                let element = list.element_shape().merged(&after.element_shape());
                self.make_dense(t, place.variable, &element)?;
                return Ok(true);
            }
        };
        self.roles[place.variable] = role;
        Ok(true)
    }

    /// The same for a list whose elements were to be joined.
    fn adapt_joined(
        &mut self,
        t: &mut Translation<'_>,
        variable: usize,
        after: &List,
        initial: Tensor,
        shape: &Shape,
    ) -> Result<bool, Refusal> {
        let Contents::Ragged(ragged) = &after.contents else {
            self.make_dense(t, variable, &after.element_shape())?;
            return Ok(true);
        };
        let wider = shape.common(&ragged.values.shape);
        self.roles[variable] = Role::Join {
            initial,
            shape: wider.clone(),
        };
        Ok(wider != *shape)
    }

    /// Whether the elements of a list are joined, because they can differ in their first sizes. It costs more than
    /// to stack them, so it is only done where a file joins elements at all.
    fn can_join(
        &self,
        t: &mut Translation<'_>,
        list: &List,
        how: How,
        item: &Tensor,
    ) -> Result<bool, Refusal> {
        let differs = item.rank().is_some_and(|it| it > 0) && item.shape.dim(0).is_none();
        if !differs || !t.joins_lists() {
            return Ok(false);
        }
        let trip = self.trip.as_ref().map(|it| &it.count);
        role::is_filled(&mut t.builder, list, how, trip)
    }

    /// A shape that holds before and after an iteration.
    fn wider(&self, index: usize, before: &Shape, after: &Shape, attempt: usize) -> Shape {
        let mut wider = before.common(after);
        if wider != *before && attempt >= MAX_CAREFUL {
            wider = Shape::unknown();
        }
        let noted = &self.noted[index];
        // The shape that TensorFlow noted holds in all iterations, if nothing contradicts it.
        match noted.merged(after) == after.merged(noted) {
            true => wider.merged(noted),
            false => wider,
        }
    }
}

/// A resource stays the same.
fn same_resource(one: &Value, two: &Value) -> Result<bool, Refusal> {
    match (one, two) {
        (Value::Variable(one), Value::Variable(two)) | (Value::Table(one), Value::Table(two))
            if one == two =>
        {
            Ok(false)
        }
        _ => Err(Refusal::new(
            "has a variable that is a resource and changes",
        )),
    }
}
