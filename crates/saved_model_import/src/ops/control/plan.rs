//! The decisions about a loop before its body is translated.

use proto::onnx::GraphProto;

use super::counted::{self, Trip};
use super::resolve::{Resolver, Source};
use super::role::Role;
use super::truth;
use crate::op::Op;
use crate::refusal::Refusal;
use crate::translation::Translation;
use crate::value::{Shape, Tensor, Value};

/// How a loop is translated.
pub(super) struct Plan<'o> {
    pub(super) op: &'o Op<'o>,
    pub(super) condition: &'o str,
    pub(super) body: &'o str,
    /// The values of the variables before the loop.
    pub(super) values: Vec<Value>,
    pub(super) roles: Vec<Role>,
    /// The shapes of the variables that TensorFlow noted.
    pub(super) noted: Vec<Shape>,
    /// Which variables grow by one in each iteration.
    pub(super) counters: Vec<bool>,
    pub(super) trip: Option<Trip>,
    /// The condition before the first iteration, unless the iterations are counted.
    pub(super) first: Option<Tensor>,
}

/// The body of a loop.
pub(super) struct Body {
    pub(super) graph: GraphProto,
    /// The values of the variables in the body.
    pub(super) arguments: Vec<Value>,
    /// Whether there is another iteration.
    pub(super) next: Tensor,
    pub(super) results: Vec<Value>,
    pub(super) of_loop: usize,
}

impl<'o> Plan<'o> {
    pub(super) fn new(
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

    pub(super) fn truth(
        &self,
        t: &mut Translation<'_>,
        results: &[Value],
    ) -> Result<Tensor, Refusal> {
        match results {
            [Value::Tensor(tensor)] => truth(&mut t.builder, tensor),
            [Value::Nothing] => Err(Refusal::of_input()),
            _ => Err(Refusal::new("has a condition that is not one tensor")),
        }
    }
}
