//! Reading elements by their indices.
//!
//! ONNX counts negative indices from the end; TensorFlow's kernels on the CPU refuse them.

use std::rc::Rc;

use super::Table;
use crate::builder::{Builder, axis_of};
use crate::op::{Op, Translated, many, one};
use crate::ops::Rule::{Pure, Whole};
use crate::refusal::Refusal;
use crate::structure::variable;
use crate::translation::Translation;
use crate::value::{Shape, Tensor};

pub(super) const TABLE: Table = &[
    ("Gather", Pure(gather)),
    ("GatherNd", Pure(gather_nd)),
    ("GatherV2", Pure(gather_v2)),
    ("ResourceGather", Whole(resource_gather)),
    ("ResourceGatherNd", Whole(resource_gather_nd)),
];

fn gather(b: &mut Builder, op: &Op<'_>) -> Translated {
    let indices = b.indices(op.input(1)?)?;
    one(b.gather(op.input(0)?, &indices, 0)?)
}

fn gather_v2(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, indices, axis) = (op.input(0)?, op.input(1)?, op.input(2)?);
    let batch = op.attr_int("batch_dims").unwrap_or(0);
    let places = b.indices(indices)?;
    if let Some(axis) = axis.int() {
        return one(gather_along(b, x, &places, axis, batch)?);
    }
    let rank = x.known_rank("has an axis that is not constant, in a tensor")?;
    let gathered = b.by_axis(axis, rank, &|b, axis| {
        // TensorFlow refuses an axis among those of the batch.
        let axis = match batch > axis {
            true => batch,
            false => axis,
        };
        Ok(vec![gather_along(b, x, &places, axis, batch)?])
    });
    many(gathered?)
}

/// Gathers along `axis`; the first `batch` axes belong to the tensor and the indices alike.
fn gather_along(
    b: &mut Builder,
    x: &Tensor,
    indices: &Tensor,
    axis: i64,
    batch: i64,
) -> Result<Tensor, Refusal> {
    if batch == 0 {
        return b.gather(x, indices, axis);
    }
    let rank = x.known_rank("has batch dimensions in a tensor")?;
    let indices_rank = indices.known_rank("has batch dimensions in indices")?;
    let outside = || Refusal::new("has batch dimensions outside of its inputs' ranks");
    let batch = match batch {
        0.. => usize::try_from(batch).ok(),
        _ => axis_of(batch, Some(indices_rank)),
    };
    let batch = batch
        .filter(|it| *it <= indices_rank && *it < rank)
        .ok_or_else(outside)?;
    let axis = axis_of(axis, Some(rank)).filter(|it| *it >= batch);
    let axis = axis.ok_or_else(outside)?;
    // The axis goes behind the batch, and the axes that were between them behind the indices.
    let mut order: Vec<usize> = (0..rank).filter(|it| *it != axis).collect();
    order.insert(batch, axis);
    let moved = b.transpose(x, &signed(&order))?;
    let points = b.unsqueeze(indices, &[-1])?;
    let gathered = gather_points(b, &moved, &points, Some(1), batch)?;
    let between = axis - batch;
    let inner = indices_rank - batch;
    if between == 0 || inner == 0 {
        return Ok(gathered);
    }
    // [batch, inner, between, after] to [batch, between, inner, after].
    let mut order: Vec<usize> = (0..batch).collect();
    order.extend(batch + inner..batch + inner + between);
    order.extend(batch..batch + inner);
    order.extend(batch + inner + between..indices_rank + rank - batch - 1);
    b.transpose(&gathered, &signed(&order))
}

fn signed(order: &[usize]) -> Vec<i64> {
    order
        .iter()
        .filter_map(|&it| i64::try_from(it).ok())
        .collect()
}

/// ONNX's `GatherND`, for points of `depth` indices.
fn gather_points(
    b: &mut Builder,
    x: &Tensor,
    points: &Tensor,
    depth: Option<usize>,
    batch: usize,
) -> Result<Tensor, Refusal> {
    let shape = match (&x.shape.0, &points.shape.0, depth) {
        (Some(dims), Some(outer), Some(depth)) if !outer.is_empty() => {
            let outer = &outer[..outer.len() - 1];
            let inner = dims.get(batch + depth..).unwrap_or_default();
            Shape::dims(outer.iter().chain(inner).copied())
        }
        _ => Shape::unknown(),
    };
    let batch = i64::try_from(batch).unwrap_or(0);
    b.op("GatherND", &[x, points])
        .int("batch_dims", batch)
        .one(x.dtype, shape)
}

fn gather_nd(b: &mut Builder, op: &Op<'_>) -> Translated {
    one(points(b, op.input(0)?, op.input(1)?)?)
}

fn points(b: &mut Builder, x: &Tensor, indices: &Tensor) -> Result<Tensor, Refusal> {
    let indices = b.indices(indices)?;
    let depth = indices
        .shape
        .dim(-1)
        .and_then(|it| usize::try_from(it).ok());
    if depth.is_some_and(|it| it > 0) {
        return gather_points(b, x, &indices, depth, 0);
    }
    // Points of no index stand for the whole tensor, which ONNX does not have: with one more axis, of size 1,
    // each has an index, 0.
    let sizes = b.shape_of(&indices)?;
    let outer = b.slice(&sizes, &[0], &[0], &[-1], &[1])?;
    let last = b.i64s(&[1]);
    let sizes = b.concat(&[&outer, &last], 0)?;
    let zero = b.i64(0);
    let zeros = b.expand(&zero, &sizes)?;
    let indices = b.concat(&[&zeros, &indices], -1)?;
    let x = b.unsqueeze(x, &[0])?;
    gather_points(b, &x, &indices, depth.map(|it| it + 1), 0)
}

fn resource_gather(translation: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    let x = translation.read(&Rc::clone(variable(op, 0)?))?;
    let b = &mut translation.builder;
    let batch = op.attr_int("batch_dims").unwrap_or(0);
    let places = b.indices(op.input(1)?)?;
    let axis = match batch {
        0.. => batch,
        _ => {
            let rank = places.known_rank("has batch dimensions in indices")?;
            batch + i64::try_from(rank).unwrap_or(0)
        }
    };
    one(gather_along(b, &x, &places, axis, batch)?)
}

fn resource_gather_nd(translation: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    let x = translation.read(&Rc::clone(variable(op, 0)?))?;
    one(points(&mut translation.builder, &x, op.input(1)?)?)
}
