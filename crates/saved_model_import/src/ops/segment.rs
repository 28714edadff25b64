//! Reductions over rows with the same number.

use base::tensor::{DataType, Tensor as Elements};

use super::Table;
use super::scatter::{Reduction, column, joined_rows, scatter_rows};
use crate::builder::Builder;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

pub(super) const TABLE: Table = &[
    ("SegmentMax", Pure(|b, op| segment(b, op, Reduction::Max))),
    ("SegmentMean", Pure(segment_mean)),
    ("SegmentMin", Pure(|b, op| segment(b, op, Reduction::Min))),
    (
        "SegmentProd",
        Pure(|b, op| segment(b, op, Reduction::Product)),
    ),
    ("SegmentSum", Pure(|b, op| segment(b, op, Reduction::Add))),
    (
        "UnsortedSegmentMax",
        Pure(|b, op| unsorted(b, op, Reduction::Max)),
    ),
    (
        "UnsortedSegmentMin",
        Pure(|b, op| unsorted(b, op, Reduction::Min)),
    ),
    (
        "UnsortedSegmentProd",
        Pure(|b, op| unsorted(b, op, Reduction::Product)),
    ),
    (
        "UnsortedSegmentSum",
        Pure(|b, op| unsorted(b, op, Reduction::Add)),
    ),
];

/// The value that a reduction starts from.
fn start_of(b: &Builder, dtype: DataType, how: Reduction) -> Result<Tensor, Refusal> {
    let value = match how {
        Reduction::Add | Reduction::Last => 0.0,
        Reduction::Product => 1.0,
        Reduction::Max => return lowest(b, dtype),
        Reduction::Min => return highest(b, dtype),
    };
    b.scalar(dtype, value)
}

fn lowest(b: &Builder, dtype: DataType) -> Result<Tensor, Refusal> {
    let value = match dtype {
        DataType::Float => f64::from(f32::MIN),
        DataType::Double => f64::MIN,
        DataType::Half => half::f16::MIN.to_f64(),
        DataType::BFloat16 => half::bf16::MIN.to_f64(),
        DataType::Int8 => i8::MIN.into(),
        DataType::Int16 => i16::MIN.into(),
        DataType::Int32 => i32::MIN.into(),
        // The cast to an integer saturates.
        DataType::Int64 => f64::MIN,
        _ => 0.0,
    };
    b.scalar(dtype, value)
}

fn highest(b: &Builder, dtype: DataType) -> Result<Tensor, Refusal> {
    let value = match dtype {
        DataType::Float => f64::from(f32::MAX),
        DataType::Double | DataType::Int64 => f64::MAX,
        DataType::Half => half::f16::MAX.to_f64(),
        DataType::BFloat16 => half::bf16::MAX.to_f64(),
        DataType::Int8 => i8::MAX.into(),
        DataType::Int16 => i16::MAX.into(),
        DataType::Int32 => i32::MAX.into(),
        DataType::UInt8 => u8::MAX.into(),
        DataType::UInt16 => u16::MAX.into(),
        DataType::UInt32 => u32::MAX.into(),
        DataType::UInt64 => {
            let most = Elements::from_vec(&[], vec![u64::MAX]);
            return most
                .map(Tensor::constant)
                .ok_or_else(|| Refusal::new("is not run for uint64"));
        }
        _ => return Err(Refusal::new(format!("is not run for {dtype}"))),
    };
    b.scalar(dtype, value)
}

/// The rows of the data, the number of each, and one more than the last number.
struct Segments {
    rows: Tensor,
    numbers: Tensor,
    count: Tensor,
}

/// The numbers have to be in order, from 0 on.
fn segments(b: &mut Builder, op: &Op<'_>) -> Result<Segments, Refusal> {
    let (x, ids) = (op.input(0)?, op.input(1)?);
    let numbers = b.cast(ids, DataType::Int64)?.with_shape(Shape::of_rank(1));
    let rows = joined_rows(b, x, &numbers)?;
    let first = b.i64s(&[0]);
    let before = b.slice(&numbers, &[0], &[0], &[-1], &[1])?;
    let before = b.concat(&[&first, &before], 0)?;
    let bad = b.compare("Less", &numbers, &before)?;
    let numbers = b.guarded(&numbers, &bad)?;
    let (none, one) = (b.i64s(&[-1]), b.i64s(&[1]));
    let with_none = b.concat(&[&none, &numbers], 0)?;
    let last = b.reduce("ReduceMax", &with_none, Some(&[0]), true)?;
    let count = b.binary("Add", &last, &one)?;
    Ok(Segments {
        rows,
        numbers,
        count,
    })
}

impl Segments {
    fn reduced(&self, b: &mut Builder, how: Reduction) -> Result<Tensor, Refusal> {
        let start = start_of(b, self.rows.dtype, how)?;
        reduced(b, &self.rows, &self.numbers, &self.count, &start, how)
    }

    /// The number of rows in each segment, with axes of size 1 behind it.
    fn lengths(&self, b: &mut Builder) -> Result<Tensor, Refusal> {
        let (zero, one) = (b.i64(0), b.i64(1));
        let empty = b.expand(&zero, &self.count)?;
        let total = b.size_at(&self.numbers, 0)?;
        let ones = b.expand(&one, &total)?;
        let lengths = scatter_rows(b, &empty, &self.numbers, &ones, Reduction::Add)?;
        column(b, &lengths, &self.rows, self.rows.rank())
    }
}

fn reduced(
    b: &mut Builder,
    rows: &Tensor,
    numbers: &Tensor,
    count: &Tensor,
    start: &Tensor,
    how: Reduction,
) -> Result<Tensor, Refusal> {
    let inner = b.sizes_in(rows, 1, None)?;
    let sizes = b.concat(&[count, &inner], 0)?;
    let empty = b.carried(start, &[DataType::BFloat16], |b, it| b.expand(it, &sizes))?;
    let rank = rows.rank().map_or_else(Shape::unknown, Shape::of_rank);
    let empty = empty.with_shape(rank);
    scatter_rows(b, &empty, numbers, rows, how)
}

/// A number without rows gives 0, or 1 for the product.
fn segment(b: &mut Builder, op: &Op<'_>, how: Reduction) -> Translated {
    let segments = segments(b, op)?;
    let reduced = segments.reduced(b, how)?;
    if !matches!(how, Reduction::Max | Reduction::Min) {
        return one(reduced);
    }
    let lengths = segments.lengths(b)?;
    let nothing = b.i64(0);
    let is_filled = b.compare("Less", &nothing, &lengths)?;
    let zero = b.zero(reduced.dtype)?;
    one(b.choose_any(&is_filled, &reduced, &zero)?)
}

fn segment_mean(b: &mut Builder, op: &Op<'_>) -> Translated {
    let segments = segments(b, op)?;
    let sum = segments.reduced(b, Reduction::Add)?;
    let lengths = segments.lengths(b)?;
    let least = b.i64(1);
    let lengths = b.binary("Max", &lengths, &least)?;
    one(b.carried(&sum, &[DataType::BFloat16], |b, sum| {
        let lengths = b.cast(&lengths, sum.dtype)?;
        b.binary("Div", sum, &lengths)
    })?)
}

/// Rows with a negative number are left out: they go to a row before the first, which is removed.
fn unsorted(b: &mut Builder, op: &Op<'_>, how: Reduction) -> Translated {
    let (x, ids) = (op.input(0)?, op.input(1)?);
    let count = b.cast(op.input(2)?, DataType::Int64)?;
    let count = b.as_vector(&count)?;
    let rows = joined_rows(b, x, ids)?;
    let numbers = b.cast(ids, DataType::Int64)?;
    let numbers = b.as_vector(&numbers)?;
    let (before, next) = (b.i64(-1), b.i64s(&[1]));
    let numbers = b.binary("Max", &numbers, &before)?;
    let numbers = b.binary("Add", &numbers, &next)?;
    let total = b.binary("Add", &count, &next)?;
    let start = start_of(b, x.dtype, how)?;
    let reduced = reduced(b, &rows, &numbers, &total, &start, how)?;
    let kept = b.slice(&reduced, &[0], &[1], &[i64::MAX], &[1])?;
    let shape = match &x.shape.0.as_ref().zip(ids.rank()) {
        Some((dims, rank)) => {
            let inner = dims.get(*rank..).unwrap_or_default().iter().copied();
            Shape::dims([count.int()].into_iter().chain(inner))
        }
        None => Shape::unknown(),
    };
    one(kept.with_shape(shape))
}
