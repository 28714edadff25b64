//! `Slice`, and reversing.
//!
//! Not here: `StridedSlice` (`strided`).

use base::tensor::DataType;

use super::Table;
use crate::builder::Builder;
use crate::op::{Op, Translated, many, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

pub(super) const TABLE: Table = &[
    ("Reverse", Pure(reverse_flags)),
    ("ReverseSequence", Pure(reverse_sequence)),
    ("ReverseV2", Pure(reverse)),
    ("Roll", Pure(roll)),
    ("Slice", Pure(slice)),
];

/// A size of -1 is all that is left. ONNX would cut a slice that goes beyond the tensor.
fn slice(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let begin = b.cast(op.input(1)?, DataType::Int64)?;
    let size = b.cast(op.input(2)?, DataType::Int64)?;
    let (Some(starts), Some(sizes)) = (begin.ints(), size.ints()) else {
        return one(slice_by(b, x, &begin, &size)?);
    };
    let rank = starts.len();
    if sizes.len() != rank || x.rank().is_some_and(|it| it != rank) {
        return Err(Refusal::new("has bounds of another rank than its input"));
    }
    if starts.iter().any(|&it| it < 0) || sizes.iter().any(|&it| it < -1) {
        return Err(Refusal::new("has negative bounds"));
    }
    // Whether it is known that TensorFlow does not refuse it.
    let mut is_safe = true;
    let mut lists = [const { Vec::new() }; 3];
    for ((axis, &start), &size) in (0i64..).zip(&starts).zip(&sizes) {
        if start == 0 && size == -1 {
            continue;
        }
        let end = match size {
            -1 => i64::MAX,
            size => start.saturating_add(size),
        };
        let needed = start.saturating_add(size.max(0));
        is_safe &= needed == 0 || x.shape.dim(axis).is_some_and(|it| needed <= it);
        if start == 0 && x.shape.dim(axis) == Some(size) {
            continue;
        }
        for (list, value) in lists.iter_mut().zip([axis, start, end]) {
            list.push(value);
        }
    }
    let [axes, starts_of, ends] = &lists;
    if axes.is_empty() {
        return one(x.clone());
    }
    if is_safe {
        return one(b.slice(x, axes, starts_of, ends, &vec![1; axes.len()])?);
    }
    let all_given = (0i64..)
        .zip(&starts)
        .zip(&sizes)
        .all(|((axis, &start), &size)| {
            size > 0 || start == 0 || x.shape.dim(axis).is_some_and(|it| start <= it)
        });
    if !all_given {
        return one(slice_by(b, x, &begin, &size)?);
    }
    // A slice that was cut has fewer elements than this shape.
    let cut = b.slice(x, axes, starts_of, ends, &vec![1; axes.len()])?;
    if sizes.contains(&0) {
        return one(cut);
    }
    one(whole(b, &cut, &sizes)?)
}

/// A slice that has all elements that were asked for; fails if it was cut.
fn whole(b: &mut Builder, cut: &Tensor, sizes: &[i64]) -> Result<Tensor, Refusal> {
    let given = Shape::dims(sizes.iter().map(|&it| Some(it).filter(|&it| it >= 0)));
    let shape = given.merged(&cut.shape);
    let known = cut.elements().map(<[_]>::to_vec);
    // Without `allowzero`, 0 is the size that the slice has.
    let sizes: Vec<i64> = sizes.iter().map(|&it| it.max(0)).collect();
    let sizes = b.i64s(&sizes);
    b.op("Reshape", &[cut, &sizes])
        .one_known(cut.dtype, shape, known)
}

fn slice_by(b: &mut Builder, x: &Tensor, begin: &Tensor, size: &Tensor) -> Result<Tensor, Refusal> {
    let (rest, zero) = (b.i64(-1), b.i64(0));
    let sizes = b.shape_of(x)?;
    let left = b.binary("Sub", &sizes, begin)?;
    let is_rest = b.compare("Equal", size, &rest)?;
    let count = b.choose(&is_rest, &left, size)?;
    let beyond = b.binary("Sub", &left, &count)?;
    let least = b.binary("Min", begin, &count)?;
    let least = b.binary("Min", &least, &beyond)?;
    let bad = b.compare("Less", &least, &zero)?;
    let begin = b.guarded(begin, &bad)?;
    let end = b.binary("Add", &begin, &count)?;
    let rank = b.rank_of(x)?;
    let axes = b.count_up(&rank)?;
    let known_rank = [begin.shape.dim(0), size.shape.dim(0)];
    let known_rank = known_rank.into_iter().flatten().next();
    let rank = x.rank().or_else(|| usize::try_from(known_rank?).ok());
    let mut shape = rank.map_or_else(Shape::unknown, Shape::of_rank);
    if let (Some(dims), Some(sizes)) = (&mut shape.0, size.elements())
        && dims.len() == sizes.len()
    {
        *dims = sizes.iter().map(|it| it.filter(|&it| it >= 0)).collect();
    }
    b.op("Slice", &[x, &begin, &end, &axes]).one(x.dtype, shape)
}

fn reverse(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, axes) = (op.input(0)?, op.input(1)?);
    if let Some(axes) = axes.ints() {
        return one(reversed(b, x, &axes)?);
    }
    let axes = b.cast(axes, DataType::Int64)?;
    let count = b.shape_of(&axes)?;
    let mut lists = Vec::new();
    for value in [-1, i64::MIN, -1] {
        let value = b.i64(value);
        lists.push(b.expand(&value, &count)?);
    }
    let [starts, ends, steps] = lists.as_slice() else {
        return Err(Refusal::new("needs three lists"));
    };
    one(b.op("Slice", &[x, starts, ends, &axes, steps]).same()?)
}

fn reversed(b: &mut Builder, x: &Tensor, axes: &[i64]) -> Result<Tensor, Refusal> {
    if axes.is_empty() {
        return Ok(x.clone());
    }
    let count = axes.len();
    b.slice(
        x,
        axes,
        &vec![-1; count],
        &vec![i64::MIN; count],
        &vec![-1; count],
    )
}

/// Reversed along the axes whose flags are true.
fn reverse_flags(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, flags) = (op.input(0)?, op.input(1)?);
    if let Some(flags) = flags.as_constant().and_then(|it| it.bytes()) {
        let axes = (0i64..).zip(flags.iter()).filter(|(_, flag)| **flag != 0);
        let axes: Vec<i64> = axes.map(|(axis, _)| axis).collect();
        return one(reversed(b, x, &axes)?);
    }
    let rank = b.rank_of(x)?;
    let axes = b.count_up(&rank)?;
    let mut lists = Vec::new();
    for (reversed, other) in [(-1, 0), (i64::MIN, i64::MAX), (-1, 1)] {
        let (reversed, other) = (b.i64(reversed), b.i64(other));
        lists.push(b.choose(flags, &reversed, &other)?);
    }
    let [starts, ends, steps] = lists.as_slice() else {
        return Err(Refusal::new("needs three lists"));
    };
    one(b.op("Slice", &[x, starts, ends, &axes, steps]).same()?)
}

/// ONNX's `ReverseSequence` takes the batch and the sequence among the first two axes only.
fn reverse_sequence(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, lengths) = (op.input(0)?, op.input(1)?);
    let along = op.attr_int("seq_dim").unwrap_or(0);
    let batch = op.attr_int("batch_dim").unwrap_or(0);
    let lengths = b.cast(lengths, DataType::Int64)?;
    let emit = |b: &mut Builder, x: &Tensor, along: i64, batch: i64| {
        b.carried(x, &[DataType::BFloat16], |b, x| {
            b.op("ReverseSequence", &[x, &lengths])
                .int("time_axis", along)
                .int("batch_axis", batch)
                .same()
        })
    };
    if (along, batch) == (0, 1) || (along, batch) == (1, 0) {
        return one(emit(b, x, along, batch)?);
    }
    let rank = x.known_rank("reverses along other axes than the first two, in a tensor")?;
    let rank = i64::try_from(rank).unwrap_or(i64::MAX);
    let mut order = vec![batch, along];
    order.extend((0..rank).filter(|it| *it != batch && *it != along));
    if batch == along || i64::try_from(order.len()) != Ok(rank) {
        return Err(Refusal::new("has axes outside of its input's rank"));
    }
    let moved = b.transpose(x, &order)?;
    let moved = emit(b, &moved, 1, 0)?;
    let back = (0..rank).map(|axis| order.iter().position(|&it| it == axis));
    let back = back.map(|it| it.and_then(|it| i64::try_from(it).ok()).unwrap_or(0));
    one(b.transpose(&moved, &back.collect::<Vec<_>>())?)
}

/// Each axis is cut in two, which change places.
fn roll(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, shift, axis) = (op.input(0)?, op.input(1)?, op.input(2)?);
    let shift = b.cast(shift, DataType::Int64)?;
    if let Some(axes) = axis.ints() {
        let mut rolled = x.clone();
        for (index, axis) in (0i64..).zip(axes) {
            let shift = element(b, &shift, index)?;
            rolled = roll_along(b, &rolled, &shift, axis)?;
        }
        return one(rolled);
    }
    let count = match axis.rank() {
        Some(0) => Some(1),
        _ => axis.shape.dim(0),
    };
    let count = count.filter(|it| (0..=8).contains(it));
    let count = count.ok_or_else(|| Refusal::new("has axes that are not constant"))?;
    let rank = x.known_rank("has axes that are not constant, in a tensor")?;
    let mut rolled = x.clone();
    for index in 0..count {
        let shift = element(b, &shift, index)?;
        let axis = element(b, axis, index)?;
        let source = rolled.clone();
        let outputs = b.by_axis(&axis, rank, &|b, axis| {
            Ok(vec![roll_along(b, &source, &shift, axis)?])
        })?;
        rolled = outputs.into_iter().next().unwrap_or(rolled);
    }
    many([rolled])
}

/// An element of a vector as a vector of one; a scalar counts as such a vector.
fn element(b: &mut Builder, x: &Tensor, index: i64) -> Result<Tensor, Refusal> {
    let x = b.as_vector(x)?;
    if x.shape.dim(0) == Some(1) && index == 0 {
        return Ok(x);
    }
    let index = b.i64s(&[index]);
    b.gather(&x, &index, 0)
}

fn roll_along(b: &mut Builder, x: &Tensor, shift: &Tensor, axis: i64) -> Result<Tensor, Refusal> {
    let dtype = x.dtype;
    if let (Some(shift), Some(size)) = (shift.int(), x.shape.dim(axis)) {
        let shift = shift.checked_rem_euclid(size).unwrap_or(0);
        if shift == 0 {
            return Ok(x.clone());
        }
        let start = size - shift;
        let back = b.slice(x, &[axis], &[start], &[i64::MAX], &[1])?;
        let front = b.slice(x, &[axis], &[0], &[start], &[1])?;
        return b.concat(&[&back, &front], axis);
    }
    let size = b.size_at(x, axis)?;
    let one = b.i64(1);
    let divisor = b.binary("Max", &size, &one)?;
    let shift = b.binary("Mod", shift, &divisor)?;
    let start = b.binary("Sub", &size, &shift)?;
    let [zero, end, axis_of] = [0, i64::MAX, axis].map(|it| b.i64s(&[it]));
    let mut shape = x.shape.clone();
    if let (Some(dims), Some(place)) = (&mut shape.0, crate::builder::axis_of(axis, x.rank()))
        && let Some(dim) = dims.get_mut(place)
    {
        *dim = None;
    }
    let back = b
        .op("Slice", &[x, &start, &end, &axis_of])
        .one(dtype, shape.clone())?;
    let front = b
        .op("Slice", &[x, &zero, &start, &axis_of])
        .one(dtype, shape)?;
    let rolled = b.concat(&[&back, &front], axis)?;
    Ok(rolled.with_shape(x.shape.clone()))
}
