//! ONNX's `LSTM` and `GRU` for the cells of Keras.
//!
//! Not here: how the cells are recognised (`recurrent`).

use base::tensor::DataType;

use super::recurrent::{Cell, Weights};
use crate::builder::Builder;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

/// The results of a recurrent layer.
pub(super) struct Layer {
    /// The outputs of all steps: `[time, batch, units]`.
    pub(super) outputs: Tensor,
    /// The last output: `[batch, units]`.
    pub(super) output: Tensor,
    /// The last carry of an LSTM: `[batch, units]`.
    pub(super) carry: Option<Tensor>,
}

/// Adds the layer. `initial` are the first output and, for an LSTM, the first carry.
pub(super) fn layer(
    b: &mut Builder,
    cell: &Cell,
    weights: &Weights,
    initial: &[Tensor],
) -> Result<Layer> {
    let (op_type, order): (&str, &[usize]) = match cell {
        Cell::Lstm { .. } => ("LSTM", &[0, 3, 1, 2]),
        Cell::Gru { .. } => ("GRU", &[0, 1, 2]),
    };
    let kernel = rows(b, &weights.kernel, order, weights.units)?;
    let recurrent = b.concat(&weights.recurrent.iter().collect::<Vec<_>>(), 1)?;
    let recurrent = rows(b, &recurrent, order, weights.units)?;
    let bias = bias(b, weights, order)?;
    let mut inputs = vec![
        weights.steps.clone(),
        kernel,
        recurrent,
        bias,
        Tensor::absent(),
    ];
    for tensor in initial {
        inputs.push(b.unsqueeze(tensor, &[0])?);
    }
    let (time, batch) = (weights.steps.shape.dim(0), weights.steps.shape.dim(1));
    let units = Some(weights.units);
    let mut types = vec![
        (DataType::Float, Shape::dims([time, Some(1), batch, units])),
        (DataType::Float, Shape::dims([Some(1), batch, units])),
    ];
    if matches!(cell, Cell::Lstm { .. }) {
        types.push((DataType::Float, Shape::dims([Some(1), batch, units])));
    }
    let add = |b: &mut Builder| {
        let mut node = b
            .op(op_type, &inputs.iter().collect::<Vec<_>>())
            .int("hidden_size", weights.units);
        if let Cell::Gru { reset_after, .. } = cell {
            node = node.int("linear_before_reset", (*reset_after).into());
        }
        let results = node.many(types.clone())?;
        b.note_fused(&results[0]);
        Ok(results)
    };
    let is_filled = |size: Option<i64>| size.is_some_and(|it| it > 0);
    let results = match is_filled(time) && is_filled(batch) {
        true => add(b)?,
        false => guarded(b, &weights.steps, weights.units, initial, &types, add)?,
    };
    let last = results[1..].iter().map(|it| b.squeeze(it, &[0]));
    let mut last = last.collect::<Result<Vec<_>>>()?.into_iter();
    let output = last.next().ok_or_else(|| Refusal::new("has no output"))?;
    Ok(Layer {
        outputs: b.squeeze(&results[0], &[1])?,
        output,
        carry: last.next(),
    })
}

/// The matrix with the columns of the gates as rows, the gates in ONNX's order, and one direction.
fn rows(b: &mut Builder, matrix: &Tensor, order: &[usize], units: i64) -> Result<Tensor> {
    let rows = b.transpose(matrix, &[1, 0])?;
    let rows = reordered(b, &rows, order, units)?;
    b.unsqueeze(&rows, &[0])
}

/// The parts of a tensor along its first axis in another order.
fn reordered(b: &mut Builder, x: &Tensor, order: &[usize], units: i64) -> Result<Tensor> {
    if order.iter().copied().eq(0..order.len()) {
        return Ok(x.clone());
    }
    let mut parts = Vec::with_capacity(order.len());
    for &place in order {
        let start = i64::try_from(place)
            .unwrap_or_default()
            .saturating_mul(units);
        parts.push(b.slice(x, &[0], &[start], &[start.saturating_add(units)], &[1])?);
    }
    b.concat(&parts.iter().collect::<Vec<_>>(), 0)
}

/// The biases of both products, one after the other, and one direction.
fn bias(b: &mut Builder, weights: &Weights, order: &[usize]) -> Result<Tensor> {
    if weights.bias.is_empty() && weights.recurrent_bias.is_empty() {
        return Ok(Tensor::absent());
    }
    let gates = i64::try_from(order.len()).unwrap_or_default();
    let width = b.i64s(&[gates.saturating_mul(weights.units)]);
    let mut sides = Vec::new();
    for vectors in [&weights.bias, &weights.recurrent_bias] {
        let mut sum: Option<Tensor> = None;
        for vector in vectors {
            sum = Some(match sum {
                None => vector.clone(),
                Some(sum) => b.binary("Add", &sum, vector)?,
            });
        }
        let sum = match sum {
            Some(sum) => sum,
            None => b.zeros(DataType::Float, &width)?,
        };
        sides.push(reordered(b, &sum, order, weights.units)?);
    }
    let joined = b.concat(&[&sides[0], &sides[1]], 0)?;
    b.unsqueeze(&joined, &[0])
}

/// The layer, unless there are no steps or no rows in the batch: with those, ONNX Runtime's kernels end the
/// process (1.32). Then the states stay as they are, and there are no outputs.
fn guarded(
    b: &mut Builder,
    steps: &Tensor,
    units: i64,
    initial: &[Tensor],
    types: &[(DataType, Shape)],
    add: impl FnOnce(&mut Builder) -> Result<Vec<Tensor>>,
) -> Result<Vec<Tensor>> {
    let sizes = b.shape_of(steps)?;
    let sizes = b.slice(&sizes, &[0], &[0], &[2], &[1])?;
    let least = b.reduce("ReduceMin", &sizes, Some(&[0]), false)?;
    let zero = b.i64(0);
    let is_empty = b.compare("Equal", &least, &zero)?;
    b.either_of(
        &is_empty,
        types,
        |b| {
            let time = b.slice(&sizes, &[0], &[0], &[1], &[1])?;
            let batch = b.slice(&sizes, &[0], &[1], &[2], &[1])?;
            let (one, units) = (b.i64s(&[1]), b.i64s(&[units]));
            let sizes = b.concat(&[&time, &one, &batch, &units], 0)?;
            let mut results = vec![b.zeros(DataType::Float, &sizes)?];
            for tensor in initial {
                results.push(b.unsqueeze(tensor, &[0])?);
            }
            Ok(results)
        },
        add,
    )
}
