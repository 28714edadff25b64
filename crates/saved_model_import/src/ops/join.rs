//! Joining and splitting.

use base::tensor::DataType;

use super::Table;
use crate::builder::{Builder, axis_of};
use crate::op::{Op, Translated, many, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

pub(super) const TABLE: Table = &[
    ("Concat", Pure(|b, op| concat(b, op, 0))),
    (
        "ConcatV2",
        Pure(|b, op| concat(b, op, op.len().saturating_sub(1))),
    ),
    ("Pack", Pure(pack)),
    ("ParallelConcat", Pure(parallel_concat)),
    ("Split", Pure(split)),
    ("SplitV", Pure(split_by_sizes)),
    ("Unpack", Pure(unpack)),
];

/// The most outputs that a node can have here.
const MAX_OUTPUTS: i64 = 1 << 16;

fn concat(b: &mut Builder, op: &Op<'_>, place: usize) -> Translated {
    let axis = op.input(place)?;
    let parts = (0..op.len())
        .filter(|&it| it != place)
        .map(|it| op.input(it));
    let parts = parts.collect::<Result<Vec<_>>>()?;
    if let Some(axis) = axis.int() {
        return one(b.concat(&parts, axis)?);
    }
    let rank = parts.iter().find_map(|it| it.rank());
    let rank = rank.ok_or_else(|| Refusal::new("has an axis that is not constant"))?;
    let joined = b.by_axis(axis, rank, &|b, axis| Ok(vec![b.concat(&parts, axis)?]))?;
    many(joined)
}

/// Joins along the first axis, along which each part has the size 1.
fn parallel_concat(b: &mut Builder, op: &Op<'_>) -> Translated {
    one(b.concat(&op.inputs(0..op.len())?, 0)?)
}

fn pack(b: &mut Builder, op: &Op<'_>) -> Translated {
    let axis = op.attr_int("axis").unwrap_or(0);
    let parts = op.inputs(0..op.len())?.into_iter();
    let parts = parts.map(|it| b.unsqueeze(it, &[axis]));
    let parts = parts.collect::<Result<Vec<_>>>()?;
    one(b.concat(&parts.iter().collect::<Vec<_>>(), axis)?)
}

fn unpack(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let axis = op.attr_int("axis").unwrap_or(0);
    let count = count(op.attr_int("num"))?;
    if x.elements().is_some() && x.shape.dim(axis) == Some(count) {
        let parts = (0..count).map(|index| {
            let index = b.i64(index);
            b.gather(x, &index, axis)
        });
        return many(parts.collect::<Result<Vec<_>>>()?);
    }
    let sizes = b.i64s(&vec![1; usize::try_from(count).unwrap_or(0)]);
    let parts = split_into(b, x, &sizes, axis)?;
    let parts = parts.iter().map(|it| b.squeeze(it, &[axis]));
    many(parts.collect::<Result<Vec<_>>>()?)
}

fn count(value: Option<i64>) -> Result<i64> {
    let count = value.filter(|it| (0..=MAX_OUTPUTS).contains(it));
    count.ok_or_else(|| Refusal::new("has a number of outputs that is out of range"))
}

fn split(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (axis, x) = (op.input(0)?, op.input(1)?);
    let count = count(op.attr_int("num_split"))?;
    on_axis(b, x, axis, &|b, axis| {
        let size = b.size_at(x, axis)?;
        let parts = b.i64(count.max(1));
        // If the size is not a multiple, these do not add up to it, and ONNX Runtime refuses it.
        let size = b.binary("Div", &size, &parts)?;
        let sizes = vec![&size; usize::try_from(count).unwrap_or(0)];
        let sizes = b.concat(&sizes, 0)?;
        split_into(b, x, &sizes, axis)
    })
}

/// One size can be -1: it is the rest.
fn split_by_sizes(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, sizes, axis) = (op.input(0)?, op.input(1)?, op.input(2)?);
    let count = count(op.attr_int("num_split").or(sizes.shape.dim(0)))?;
    let sizes = b.cast(sizes, DataType::Int64)?;
    on_axis(b, x, axis, &|b, axis| {
        let known = sizes.ints();
        let mut sizes = match (&known, x.shape.dim(axis)) {
            (Some(known), Some(size)) if known.contains(&-1) => {
                let others = known.iter().filter(|&&it| it != -1);
                let others = others.fold(0i64, |sum, &it| sum.saturating_add(it));
                let left = size.saturating_sub(others);
                let whole = known.iter().map(|&it| if it == -1 { left } else { it });
                b.i64s(&whole.collect::<Vec<_>>())
            }
            (Some(known), _) if !known.contains(&-1) => sizes.clone(),
            _ => {
                let size = b.size_at(x, axis)?;
                complete(b, &sizes, &size)?
            }
        };
        if sizes.shape.dim(0).is_none() {
            sizes = sizes.with_shape(Shape::dims([Some(count)]));
        }
        split_into(b, x, &sizes, axis)
    })
}

/// Sizes in which -1 is replaced with the rest of `size`.
fn complete(b: &mut Builder, sizes: &Tensor, size: &Tensor) -> Result<Tensor> {
    let (rest, one) = (b.i64(-1), b.i64(1));
    let is_rest = b.compare("Equal", sizes, &rest)?;
    let sum = b.reduce("ReduceSum", sizes, Some(&[0]), true)?;
    let left = b.binary("Sub", size, &sum)?;
    let left = b.binary("Sub", &left, &one)?;
    b.choose(&is_rest, &left, sizes)
}

/// Translates for a constant axis, or for each that a request can give.
fn on_axis(
    b: &mut Builder,
    x: &Tensor,
    axis: &Tensor,
    by: &dyn Fn(&mut Builder, i64) -> Result<Vec<Tensor>>,
) -> Translated {
    match axis.int() {
        Some(axis) => many(by(b, axis)?),
        None => {
            let rank = x.known_rank("has an axis that is not constant, in a tensor")?;
            many(b.by_axis(axis, rank, by)?)
        }
    }
}

/// ONNX's `Split`: the sizes have to add up to that of the tensor.
fn split_into(b: &mut Builder, x: &Tensor, sizes: &Tensor, axis: i64) -> Result<Vec<Tensor>> {
    let count = sizes.shape.dim(0);
    let count = count.ok_or_else(|| Refusal::new("has an unknown number of outputs"))?;
    if count == 0 {
        return Ok(Vec::new());
    }
    let known = sizes.elements().map(<[_]>::to_vec).or_else(|| {
        let all = sizes.ints()?;
        Some(all.into_iter().map(Some).collect())
    });
    let whole = sizes.ints();
    if let (Some(whole), Some(size), Some(_)) = (&whole, x.shape.dim(axis), x.elements())
        && whole.iter().try_fold(0i64, |sum, &it| sum.checked_add(it)) == Some(size)
        && whole.iter().all(|&it| it >= 0)
    {
        let mut start = 0;
        let parts = whole.iter().map(|&size| {
            let from = start;
            start += size;
            b.slice(x, &[axis], &[from], &[start], &[1])
        });
        return parts.collect();
    }
    let part = |index: usize| {
        let mut shape = x.shape.clone();
        if let (Some(dims), Some(axis)) = (&mut shape.0, axis_of(axis, x.rank()))
            && let Some(dim) = dims.get_mut(axis)
        {
            *dim = known
                .as_ref()
                .and_then(|it| it.get(index).copied().flatten());
        }
        (x.dtype, shape)
    };
    let parts: Vec<_> = (0..usize::try_from(count).unwrap_or(0)).map(part).collect();
    b.op("Split", &[x, sizes]).int("axis", axis).many(parts)
}
