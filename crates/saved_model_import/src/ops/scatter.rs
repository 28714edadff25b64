//! Writing elements at their indices.
//!
//! ONNX Runtime's `ScatterND` runs in several threads, also if it adds to one place several times: then updates
//! are lost. So all updates here go through `ScatterElements`, which takes them in order.

use base::tensor::DataType;

use super::Table;
use super::array::strides;
use super::compress::compress;
use crate::builder::Builder;
use crate::op::{Op, Translated, many, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

pub(super) const TABLE: Table = &[
    ("DynamicPartition", Pure(dynamic_partition)),
    ("DynamicStitch", Pure(dynamic_stitch)),
    ("ParallelDynamicStitch", Pure(dynamic_stitch)),
    ("ScatterNd", Pure(scatter_nd)),
    (
        "TensorScatterAdd",
        Pure(|b, op| tensor_scatter(b, op, Reduction::Add)),
    ),
    (
        "TensorScatterMax",
        Pure(|b, op| tensor_scatter(b, op, Reduction::Max)),
    ),
    (
        "TensorScatterMin",
        Pure(|b, op| tensor_scatter(b, op, Reduction::Min)),
    ),
    ("TensorScatterSub", Pure(tensor_scatter_sub)),
    (
        "TensorScatterUpdate",
        Pure(|b, op| tensor_scatter(b, op, Reduction::Last)),
    ),
];

/// How several updates of one place are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reduction {
    Add,
    Max,
    Min,
    Product,
    Last,
}

impl Reduction {
    fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Max => "max",
            Self::Min => "min",
            Self::Product => "mul",
            Self::Last => "none",
        }
    }
}

/// Writes rows: `updates` to those rows of `x` that a vector of indices names, which are not negative.
pub(super) fn scatter_rows(
    b: &mut Builder,
    x: &Tensor,
    rows: &Tensor,
    updates: &Tensor,
    how: Reduction,
) -> Result<Tensor, Refusal> {
    let lacks: &[DataType] = match (how, x.dtype) {
        (Reduction::Last, _) => &[],
        (Reduction::Add, DataType::Bool) => {
            return scatter_rows(b, x, rows, updates, Reduction::Max);
        }
        _ => &[DataType::Half, DataType::BFloat16, DataType::Bool],
    };
    b.carried(x, lacks, |b, x| {
        let updates = b.cast(updates, x.dtype)?;
        let indices = match updates.rank() {
            Some(1) => rows.clone(),
            rank => {
                let (column, sizes) = (column(b, rows, &updates, rank)?, b.shape_of(&updates)?);
                b.expand(&column, &sizes)?
            }
        };
        b.op("ScatterElements", &[x, &indices, &updates])
            .int("axis", 0)
            .text("reduction", how.name())
            .same()
    })
}

/// A vector with as many axes of size 1 behind it as the updates have.
pub(super) fn column(
    b: &mut Builder,
    rows: &Tensor,
    updates: &Tensor,
    rank: Option<usize>,
) -> Result<Tensor, Refusal> {
    if let Some(rank) = rank {
        let axes: Vec<i64> = (1..).take(rank.saturating_sub(1)).collect();
        return b.unsqueeze(rows, &axes);
    }
    let rank = b.rank_of(updates)?;
    let one = b.i64(1);
    let behind = b.binary("Sub", &rank, &one)?;
    let behind = b.as_vector(&behind)?;
    let ones = b.expand(&one, &behind)?;
    let count = b.size_at(rows, 0)?;
    let sizes = b.concat(&[&count, &ones], 0)?;
    b.reshape_to(rows, &sizes)
}

/// Writes `updates` to the places of `x` that the last axis of `indices` names, as ONNX's `ScatterND`.
fn scatter_points(
    b: &mut Builder,
    x: &Tensor,
    indices: &Tensor,
    updates: &Tensor,
    how: Reduction,
) -> Result<Tensor, Refusal> {
    let depth = indices
        .shape
        .dim(-1)
        .and_then(|it| usize::try_from(it).ok());
    let indices = b.indices(indices)?;
    let sizes = b.shape_of(x)?;
    let [outer, inner] = match depth {
        Some(depth) => [b.sizes_in(x, 0, Some(depth))?, b.sizes_in(x, depth, None)?],
        None => split_sizes(b, &sizes, &indices)?,
    };
    let count = match indices.rank() {
        Some(1) => b.i64s(&[1]),
        _ => {
            let sizes = b.shape_of(&indices)?;
            let points = b.slice(&sizes, &[0], &[0], &[-1], &[1])?;
            b.reduce("ReduceProd", &points, Some(&[0]), true)?
        }
    };
    let rows = match depth {
        Some(0) => {
            let zero = b.i64(0);
            b.expand(&zero, &count)?
        }
        Some(1) => b.as_vector(&indices)?,
        _ => flat_rows(b, &indices, &outer, &count)?,
    };
    let all = b.reduce("ReduceProd", &outer, Some(&[0]), true)?;
    let target = b.concat(&[&all, &inner], 0)?;
    let target = b.reshape_to(x, &target)?;
    let wanted = b.concat(&[&count, &inner], 0)?;
    let updates = b.reshape_to(updates, &wanted)?;
    let written = scatter_rows(b, &target, &rows, &updates, how)?;
    Ok(b.reshape_to(&written, &sizes)?.with_shape(x.shape.clone()))
}

/// The sizes of the axes that the last axis of `indices` names, and the others.
fn split_sizes(b: &mut Builder, sizes: &Tensor, indices: &Tensor) -> Result<[Tensor; 2], Refusal> {
    let depth = b.size_at(indices, -1)?;
    let (start, end, axis) = (b.i64s(&[0]), b.i64s(&[i64::MAX]), b.i64s(&[0]));
    let mut part = |from: &Tensor, to: &Tensor| {
        b.op("Slice", &[sizes, from, to, &axis])
            .one(DataType::Int64, Shape::of_rank(1))
    };
    Ok([part(&start, &depth)?, part(&depth, &end)?])
}

/// The row of each point if all axes that it names are one. An index beyond its axis fails.
fn flat_rows(
    b: &mut Builder,
    indices: &Tensor,
    outer: &Tensor,
    count: &Tensor,
) -> Result<Tensor, Refusal> {
    let depth = b.size_at(indices, -1)?;
    let sizes = b.concat(&[count, &depth], 0)?;
    let points = b.reshape_to(indices, &sizes)?;
    let is_inside = b.compare("Less", &points, outer)?;
    let outside = b.unary("Not", &is_inside)?;
    let points = b.guarded(&points, &outside)?;
    let axes = b.count_up(&depth)?;
    let strides = strides(b, outer, &axes)?;
    let along = b.binary("Mul", &points, &strides)?;
    b.reduce("ReduceSum", &along, Some(&[1]), false)
}

fn scatter_nd(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (indices, updates) = (op.input(0)?, op.input(1)?);
    let sizes = b.cast(op.input(2)?, DataType::Int64)?;
    let zero = b.zero(updates.dtype)?;
    let empty = b.carried(&zero, &[DataType::BFloat16], |b, it| b.expand(it, &sizes))?;
    one(scatter_points(b, &empty, indices, updates, Reduction::Add)?)
}

fn tensor_scatter(b: &mut Builder, op: &Op<'_>, how: Reduction) -> Translated {
    let (x, indices, updates) = (op.input(0)?, op.input(1)?, op.input(2)?);
    one(scatter_points(b, x, indices, updates, how)?)
}

fn tensor_scatter_sub(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, indices, updates) = (op.input(0)?, op.input(1)?, op.input(2)?);
    let zero = b.zero(updates.dtype)?;
    let negative = b.carried(updates, &[DataType::BFloat16], |b, it| {
        let zero = b.cast(&zero, it.dtype)?;
        b.op("Sub", &[&zero, it]).one(it.dtype, it.shape.clone())
    })?;
    one(scatter_points(b, x, indices, &negative, Reduction::Add)?)
}

/// The leading axes of `x`, those that the indices have too, as one.
pub(super) fn joined_rows(
    b: &mut Builder,
    x: &Tensor,
    indices: &Tensor,
) -> Result<Tensor, Refusal> {
    let inner = match indices.rank() {
        Some(1) if x.shape.dim(0).is_some() && x.shape.dim(0) == indices.shape.dim(0) => {
            return Ok(x.clone());
        }
        Some(rank) => b.sizes_in(x, rank, None)?,
        None => {
            let sizes = b.shape_of(x)?;
            let rank = b.rank_of(indices)?;
            let start = b.as_vector(&rank)?;
            let (end, axis) = (b.i64s(&[i64::MAX]), b.i64s(&[0]));
            b.op("Slice", &[&sizes, &start, &end, &axis])
                .one(DataType::Int64, Shape::of_rank(1))?
        }
    };
    let count = b.count_of(indices)?;
    let count = b.as_vector(&count)?;
    let sizes = b.concat(&[&count, &inner], 0)?;
    b.reshape_to(x, &sizes)
}

fn dynamic_partition(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, partitions) = (op.input(0)?, op.input(1)?);
    let count = op.attr_int("num_partitions").unwrap_or(0);
    if !(1..=4096).contains(&count) {
        return Err(Refusal::new(format!("has {count} partitions")));
    }
    let rows = joined_rows(b, x, partitions)?;
    let flat = b.as_vector(partitions)?;
    let flat = b.indices(&flat)?;
    // A partition that is not there is outside of this vector.
    let all = b.i64s(&(0..count).collect::<Vec<_>>());
    let flat = b
        .op("Gather", &[&all, &flat])
        .one(DataType::Int64, flat.shape.clone())?;
    let mut parts = Vec::new();
    for number in 0..count {
        let number = b.i64(number);
        let is_here = b.compare("Equal", &flat, &number)?;
        parts.push(compress(b, &rows, &is_here)?);
    }
    many(parts)
}

/// Of several rows for one place the last counts.
fn dynamic_stitch(b: &mut Builder, op: &Op<'_>) -> Translated {
    let count = op.len() / 2;
    let mut places = Vec::new();
    let mut rows = Vec::new();
    for index in 0..count {
        let (indices, x) = (op.input(index)?, op.input(count + index)?);
        rows.push(joined_rows(b, x, indices)?);
        let indices = b.as_vector(indices)?;
        places.push(b.cast(&indices, DataType::Int64)?);
    }
    let places = b.concat(&places.iter().collect::<Vec<_>>(), 0)?;
    let rows = b.concat(&rows.iter().collect::<Vec<_>>(), 0)?;
    let zero = b.i64(0);
    let bad = b.compare("Less", &places, &zero)?;
    let places = b.guarded(&places, &bad)?;
    let (before, one_more) = (b.i64s(&[-1]), b.i64s(&[1]));
    let with_none = b.concat(&[&before, &places], 0)?;
    let last = b.reduce("ReduceMax", &with_none, Some(&[0]), true)?;
    let size = b.binary("Add", &last, &one_more)?;
    let empty = b.expand(&zero, &size)?;
    let total = b.size_at(&places, 0)?;
    let numbers = b.count_up(&total)?;
    let from = scatter_rows(b, &empty, &places, &numbers, Reduction::Last)?;
    one(b.gather(&rows, &from, 0)?)
}
