//! Loops that run as often as a counter says: those over the elements of a tensor, and over a range.
//!
//! ONNX's `Loop` takes the number of iterations. Then it needs no condition, the counters are not states of the
//! loop, and the lists that it writes are known to be complete.

use super::resolve::{Resolver, Source, input_of};
use crate::graph::TensorRef;
use crate::refusal::Refusal;
use crate::translation::Translation;
use crate::value::{Tensor, Value};
use base::tensor::DataType;

/// How deep the terms of a condition nest.
const MAX_TERMS: usize = 100;

/// A loop whose number of iterations is known before it runs.
pub(super) struct Trip {
    /// An int64 scalar; negative numbers mean none.
    pub(super) count: Tensor,
}

/// A term of the condition: a counter is less than a limit.
struct Limit<'a> {
    counter: usize,
    limit: TensorRef<'a>,
    /// Whether the counter can be equal to the limit.
    is_inclusive: bool,
}

/// Which variables of a loop grow by one in each iteration.
pub(super) fn counters(body: &Resolver<'_, '_>, values: &[Value], invariant: &[bool]) -> Vec<bool> {
    let results = body.function.results();
    let counts = values.iter().enumerate().map(|(index, value)| {
        let Value::Tensor(tensor) = value else {
            return false;
        };
        matches!(tensor.dtype, DataType::Int32 | DataType::Int64)
            && tensor.rank() == Some(0)
            && (results.get(index).copied().flatten())
                .and_then(|it| body.source(it))
                .is_some_and(|it| is_one_more(body, it, index, values, invariant))
    });
    counts.collect()
}

/// Whether a tensor is the argument `index` plus one.
fn is_one_more<'a>(
    body: &Resolver<'a, '_>,
    source: Source<'a>,
    index: usize,
    values: &[Value],
    invariant: &[bool],
) -> bool {
    let Source::Node(node, 0) = source else {
        return false;
    };
    if !matches!(node.op.as_str(), "AddV2" | "Add") {
        return false;
    }
    let inputs = [body.input(node, 0), body.input(node, 1)];
    let is_variable =
        |it: &Option<Source<'_>>| matches!(it, Some(Source::Argument(it)) if *it == index);
    let is_one = |it: &Option<Source<'a>>| match it {
        Some(Source::Argument(it)) => {
            let value = values
                .get(*it)
                .filter(|_| invariant.get(*it) == Some(&true));
            matches!(value, Some(Value::Tensor(it)) if it.int() == Some(1))
        }
        Some(node) => body.constant(*node) == Some(1),
        None => false,
    };
    (is_variable(&inputs[0]) && is_one(&inputs[1]))
        || (is_variable(&inputs[1]) && is_one(&inputs[0]))
}

/// The number of iterations, if the condition is that counters are below limits that do not change.
pub(super) fn trip<'a>(
    t: &mut Translation<'a>,
    name: &str,
    condition: &Resolver<'a, '_>,
    values: &[Value],
    counters: &[bool],
    invariant: &[bool],
) -> Result<Option<Trip>, Refusal> {
    let Some(limits) = limits(condition, counters, invariant) else {
        return Ok(None);
    };
    let references: Vec<_> = limits.iter().map(|it| it.limit).collect();
    let arguments: Vec<_> = std::iter::zip(values, invariant)
        .map(|(value, invariant)| match invariant {
            true => value.clone(),
            false => Value::Nothing,
        })
        .collect();
    let ends = t.call_for(name, &arguments, &references)?;
    let mut count: Option<Tensor> = None;
    for (limit, end) in limits.iter().zip(ends) {
        let (Value::Tensor(end), Some(Value::Tensor(start))) = (end, values.get(limit.counter))
        else {
            return Ok(None);
        };
        if end.rank() != Some(0) || !matches!(end.dtype, DataType::Int32 | DataType::Int64) {
            return Ok(None);
        }
        let b = &mut t.builder;
        let mut times = b.cast(&end, DataType::Int64)?;
        if limit.is_inclusive {
            let one = b.i64(1);
            times = b.binary("Add", &times, &one)?;
        }
        if start.int() != Some(0) {
            let start = b.cast(start, DataType::Int64)?;
            times = b.binary("Sub", &times, &start)?;
        }
        count = Some(match count {
            None => times,
            Some(count) if b.is_same(&count, &times) => count,
            Some(count) => b.binary("Min", &count, &times)?,
        });
    }
    Ok(count.map(|count| Trip { count }))
}

/// The limits whose conjunction the condition is.
fn limits<'a>(
    condition: &Resolver<'a, '_>,
    counters: &[bool],
    invariant: &[bool],
) -> Option<Vec<Limit<'a>>> {
    let results = condition.function.results();
    let [Some(result)] = results.as_slice() else {
        return None;
    };
    let mut queue = vec![condition.source(*result)?];
    let mut limits = Vec::new();
    for _ in 0..MAX_TERMS {
        let Some(term) = queue.pop() else {
            return Some(limits);
        };
        let Source::Node(node, 0) = term else {
            return None;
        };
        // Which input is the smaller one.
        let (small, large, is_inclusive) = match node.op.as_str() {
            "LogicalAnd" => {
                queue.push(condition.input(node, 0)?);
                queue.push(condition.input(node, 1)?);
                continue;
            }
            "Const" if condition.truth(node) => continue,
            "Less" => (0, 1, false),
            "LessEqual" => (0, 1, true),
            "Greater" => (1, 0, false),
            "GreaterEqual" => (1, 0, true),
            _ => return None,
        };
        let Some(Source::Argument(counter)) = condition.input(node, small) else {
            return None;
        };
        let limit = input_of(node, large)?;
        let arguments = condition.arguments_of(limit)?;
        let is_fixed = arguments.iter().all(|&it| invariant.get(it) == Some(&true));
        if !is_fixed || counters.get(counter) != Some(&true) {
            return None;
        }
        limits.push(Limit {
            counter,
            limit,
            is_inclusive,
        });
    }
    None
}
