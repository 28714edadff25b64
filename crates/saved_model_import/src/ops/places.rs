//! From values to the places where they are, and back.

use base::tensor::{DataType, Tensor as Elements};

use super::Table;
use crate::builder::Builder;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

pub(super) const TABLE: Table = &[
    ("Bucketize", Pure(bucketize)),
    ("InvertPermutation", Pure(invert_permutation)),
    ("OneHot", Pure(one_hot)),
    ("Where", Pure(non_zero)),
];

/// ONNX's `OneHot` counts negative indices from the end and lacks most dtypes: the indices are compared with all
/// places along the new axis.
fn one_hot(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (indices, depth) = (op.input(0)?, op.input(1)?);
    let (on, off) = (op.input(2)?, op.input(3)?);
    let axis = op.attr_int("axis").unwrap_or(-1);
    let indices = b.cast(indices, DataType::Int64)?;
    let depth = b.cast(depth, DataType::Int64)?;
    let mut depth = b.as_scalar(&depth)?;
    if depth.int().is_none() {
        let zero = b.i64(0);
        let bad = b.compare("Less", &depth, &zero)?;
        depth = b.guarded(&depth, &bad)?;
    }
    let places = b.count_up(&depth)?;
    let places = along(b, &places, &indices, axis)?;
    let indices = b.unsqueeze(&indices, &[axis])?;
    let is_on = b.compare("Equal", &indices, &places)?;
    if is_scalar(on, 1.0) && is_scalar(off, 0.0) {
        return one(b.cast(&is_on, on.dtype)?);
    }
    one(b.choose_any(&is_on, on, off)?)
}

fn is_scalar(x: &Tensor, value: f32) -> bool {
    match x.dtype {
        DataType::Float => x
            .as_scalar::<f32>()
            .is_some_and(|it| it.to_bits() == value.to_bits()),
        DataType::Double => x
            .as_scalar::<f64>()
            .is_some_and(|it| it.to_bits() == f64::from(value).to_bits()),
        DataType::Int32 | DataType::Int64 => match value > 0.0 {
            true => x.int() == Some(1),
            false => x.int() == Some(0),
        },
        DataType::Bool => {
            let wanted = u8::from(value > 0.0);
            let bytes = x.as_constant().and_then(Elements::bytes);
            bytes.is_some_and(|it| it.as_ref() == [wanted])
        }
        _ => false,
    }
}

/// A vector with axes of size 1 behind it, so that it stands along `axis` of the result.
fn along(b: &mut Builder, x: &Tensor, indices: &Tensor, axis: i64) -> Result<Tensor, Refusal> {
    if axis == -1 {
        return Ok(x.clone());
    }
    if let Some(rank) = indices.rank() {
        let rank = i64::try_from(rank).unwrap_or(i64::MAX);
        let axis = if axis < 0 { axis + rank + 1 } else { axis };
        if !(0..=rank).contains(&axis) {
            return Err(Refusal::new("has an axis outside of its result's rank"));
        }
        let axes: Vec<i64> = (1..=rank - axis).collect();
        return match axes.is_empty() {
            true => Ok(x.clone()),
            false => b.unsqueeze(x, &axes),
        };
    }
    let rank = b.rank_of(indices)?;
    let start = b.i64(axis);
    let behind = b.binary("Sub", &rank, &start)?;
    let behind = b.as_vector(&behind)?;
    let one = b.i64(1);
    let ones = b.expand(&one, &behind)?;
    let size = b.size_at(x, 0)?;
    let sizes = b.concat(&[&size, &ones], 0)?;
    b.reshape_to(x, &sizes)
}

/// The places of all elements that are not zero: a row for each.
fn non_zero(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let x = match x.dtype {
        DataType::Bool => x.clone(),
        dtype @ (DataType::Half | DataType::BFloat16) => {
            let x = b.cast(x, Builder::carrier(dtype))?;
            b.cast(&x, DataType::Bool)?
        }
        _ => b.cast(x, DataType::Bool)?,
    };
    let rank = x.rank().and_then(|it| i64::try_from(it).ok());
    let places = b
        .op("NonZero", &[&x])
        .one(DataType::Int64, Shape::dims([rank, None]))?;
    one(b.transpose(&places, &[1, 0])?)
}

/// The order that sorts a permutation is its inverse. Sorted, it has to count up.
fn invert_permutation(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let dtype = x.dtype;
    if let Some(values) = x.ints() {
        let mut inverse = vec![-1; values.len()];
        for (place, value) in (0i64..).zip(&values) {
            let slot = usize::try_from(*value)
                .ok()
                .and_then(|it| inverse.get_mut(it));
            match slot {
                Some(slot) if *slot < 0 => *slot = place,
                _ => return Err(Refusal::new("reads numbers that are not a permutation")),
            }
        }
        let inverse = b.i64s(&inverse);
        return one(b.cast(&inverse, dtype)?);
    }
    let size = b.size_at(x, 0)?;
    let mut sorted = b
        .op("TopK", &[x, &size])
        .int("largest", 0)
        .many([(dtype, x.shape.clone()), (DataType::Int64, x.shape.clone())])?;
    let (Some(order), Some(values)) = (sorted.pop(), sorted.pop()) else {
        return Err(Refusal::new("needs two outputs"));
    };
    let values = b.cast(&values, DataType::Int64)?;
    let counted = b.count_up(&size)?;
    let same = b.compare("Equal", &values, &counted)?;
    let other = b.unary("Not", &same)?;
    let order = b.guarded(&order, &other)?;
    one(b.cast(&order, dtype)?)
}

/// The number of boundaries that are not above a value.
fn bucketize(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let boundaries = op.attr_floats("boundaries").to_vec();
    let dtype = match x.dtype {
        DataType::Double => DataType::Double,
        _ => DataType::Float,
    };
    if boundaries.is_empty() {
        let nothing = b.scalar(DataType::Int32, 0.0)?;
        let sizes = b.shape_of(x)?;
        return one(b.expand(&nothing, &sizes)?);
    }
    let boundaries = Elements::from_vec(&[boundaries.len()], boundaries);
    let boundaries = boundaries.ok_or_else(|| Refusal::new("has damaged boundaries"))?;
    let boundaries = b.cast(&Tensor::constant(boundaries), dtype)?;
    let x = b.cast(x, dtype)?;
    let x = b.unsqueeze(&x, &[-1])?;
    // NaN is below no boundary, and so in the last bucket.
    let is_below = b.compare("Less", &x, &boundaries)?;
    let reached = b.unary("Not", &is_below)?;
    let reached = b.cast(&reached, DataType::Int32)?;
    one(b.reduce("ReduceSum", &reached, Some(&[-1]), false)?)
}
