//! Shapes, and tensors with the same elements in another shape or order.
//!
//! Not here: joining and repeating (`join`, `fill`), slices (`slice`).

use base::tensor::DataType;

use super::Table;
use crate::builder::{Builder, from_start};
use crate::op::{Op, Translated, many, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

pub(super) const TABLE: Table = &[
    ("ConjugateTranspose", Pure(transpose)),
    ("ExpandDims", Pure(expand_dims)),
    ("Rank", Pure(rank)),
    ("Reshape", Pure(reshape)),
    ("Shape", Pure(shapes)),
    ("ShapeN", Pure(shapes)),
    ("Size", Pure(size)),
    ("Squeeze", Pure(squeeze)),
    ("Transpose", Pure(transpose)),
];

fn reshape(b: &mut Builder, op: &Op<'_>) -> Translated {
    let sizes = b.cast(op.input(1)?, DataType::Int64)?;
    one(b.reshape_to(op.input(0)?, &sizes)?)
}

fn shapes(b: &mut Builder, op: &Op<'_>) -> Translated {
    let dtype = op.attr_dtype("out_type").unwrap_or(DataType::Int32);
    let shapes = op.inputs(0..op.len())?.into_iter().map(|x| {
        let sizes = b.shape_of(x)?;
        b.cast(&sizes, dtype)
    });
    many(shapes.collect::<Result<Vec<_>, Refusal>>()?)
}

fn size(b: &mut Builder, op: &Op<'_>) -> Translated {
    let count = b.count_of(op.input(0)?)?;
    one(b.cast(&count, op.attr_dtype("out_type").unwrap_or(DataType::Int32))?)
}

fn rank(b: &mut Builder, op: &Op<'_>) -> Translated {
    let rank = b.rank_of(op.input(0)?)?;
    one(b.cast(&rank, DataType::Int32)?)
}

fn expand_dims(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, axis) = (op.input(0)?, op.input(1)?);
    if let Some(axis) = axis.int() {
        if let Some(rank) = x.rank().and_then(|it| i64::try_from(it).ok())
            && !(-1 - rank..=rank).contains(&axis)
        {
            return Err(Refusal::new("has an axis outside of its input's rank"));
        }
        return one(b.unsqueeze(x, &[axis])?);
    }
    let axis = b.cast(axis, DataType::Int64)?;
    let axis = b.as_vector(&axis)?;
    let shape = x
        .rank()
        .map_or_else(Shape::unknown, |it| Shape::of_rank(it + 1));
    one(b.op("Unsqueeze", &[x, &axis]).one(x.dtype, shape)?)
}

/// Without axes, all dimensions of size 1 are removed: which these are can depend on the request.
fn squeeze(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let axes = op.attr_ints("squeeze_dims");
    if !axes.is_empty() {
        return one(b.squeeze(x, axes)?);
    }
    let Some(sizes) = x.shape.sizes() else {
        return one(b.op("Squeeze", &[x]).one(x.dtype, Shape::unknown())?);
    };
    let places = (0i64..).zip(&sizes).filter(|(_, size)| **size == 1);
    let axes: Vec<i64> = places.map(|(axis, _)| axis).collect();
    match axes.is_empty() {
        true => one(x.clone()),
        false => one(b.squeeze(x, &axes)?),
    }
}

/// All dtypes that are supported are real, so the conjugate is the same.
fn transpose(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, order) = (op.input(0)?, op.input(1)?);
    if let Some(order) = order.ints() {
        let rank = order.len();
        let places: Vec<usize> = order.iter().map(|&it| from_start(it, rank)).collect();
        let is_order = (0..rank).all(|it| places.contains(&it));
        if !is_order || x.rank().is_some_and(|it| it != rank) {
            return Err(Refusal::new("has an order that is none of its dimensions"));
        }
        let order: Vec<i64> = places
            .iter()
            .filter_map(|&it| i64::try_from(it).ok())
            .collect();
        return one(b.transpose(x, &order)?);
    }
    one(transpose_by(b, x, order)?)
}

/// Transposes in an order that only a request gives, of a rank that can be unknown: gathers the elements one by
/// one. Element `n` of the result is at `n / stride % size` along each of its axes.
fn transpose_by(b: &mut Builder, x: &Tensor, order: &Tensor) -> Result<Tensor, Refusal> {
    let order = b.cast(order, DataType::Int64)?;
    let sizes = b.shape_of(x)?;
    let rank = b.rank_of(x)?;
    let axes = b.count_up(&rank)?;
    let order = in_order(b, &order, &axes)?;
    let strides = strides(b, &sizes, &axes)?;
    let moved_sizes = b.gather(&sizes, &order, 0)?;
    let moved_strides = b.gather(&strides, &order, 0)?;
    let own_strides = self::strides(b, &moved_sizes, &axes)?;
    let count = b.count_of(x)?;
    let places = b.count_up(&count)?;
    let places = b.unsqueeze(&places, &[1])?;
    // A size of 0 leaves no element, but is divided by.
    let one = b.i64(1);
    let own_strides = b.binary("Max", &own_strides, &one)?;
    let divisors = b.binary("Max", &moved_sizes, &one)?;
    let along = b.binary("Div", &places, &own_strides)?;
    let along = b.binary("Mod", &along, &divisors)?;
    let along = b.binary("Mul", &along, &moved_strides)?;
    let from = b.reduce("ReduceSum", &along, Some(&[1]), false)?;
    let flat = b.as_vector(x)?;
    let moved = b.gather(&flat, &from, 0)?;
    let shape = x
        .rank()
        .or(order.shape.dim(0).and_then(|it| usize::try_from(it).ok()));
    let shape = shape.map_or_else(Shape::unknown, Shape::of_rank);
    b.op("Reshape", &[&moved, &moved_sizes])
        .int("allowzero", 1)
        .one(x.dtype, shape)
}

/// The order with axes from the start; fails if it is not one of all axes.
fn in_order(b: &mut Builder, order: &Tensor, axes: &Tensor) -> Result<Tensor, Refusal> {
    let order = b.gather(axes, order, 0)?;
    let columns = b.unsqueeze(&order, &[1])?;
    let matches = b.compare("Equal", &columns, axes)?;
    let matches = b.cast(&matches, DataType::Int64)?;
    let uses = b.reduce("ReduceSum", &matches, Some(&[0]), false)?;
    let one = b.i64(1);
    let once = b.compare("Equal", &uses, &one)?;
    let other = b.unary("Not", &once)?;
    b.guarded(&order, &other)
}

/// The distances in memory between neighbours along each axis: the products of all sizes behind it.
pub(super) fn strides(b: &mut Builder, sizes: &Tensor, axes: &Tensor) -> Result<Tensor, Refusal> {
    let rows = b.unsqueeze(axes, &[1])?;
    let is_behind = b.compare("Less", &rows, axes)?;
    let one = b.i64(1);
    let factors = b.choose(&is_behind, sizes, &one)?;
    b.reduce("ReduceProd", &factors, Some(&[1]), false)
}
