//! Fourier transforms.
//!
//! Not here: complex numbers (`complex`).

use base::tensor::DataType;

use super::Table;
use super::complex::{joined, one_part, parts, signs};
use crate::builder::Builder;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

pub(super) const TABLE: Table = &[
    ("FFT", Pure(|b, op| whole(b, op, 1, false))),
    ("FFT2D", Pure(|b, op| whole(b, op, 2, false))),
    ("FFT3D", Pure(|b, op| whole(b, op, 3, false))),
    ("IFFT", Pure(|b, op| whole(b, op, 1, true))),
    ("IFFT2D", Pure(|b, op| whole(b, op, 2, true))),
    ("IFFT3D", Pure(|b, op| whole(b, op, 3, true))),
    ("IRFFT", Pure(|b, op| to_real(b, op, 1))),
    ("IRFFT2D", Pure(|b, op| to_real(b, op, 2))),
    ("RFFT", Pure(|b, op| of_real(b, op, 1))),
    ("RFFT2D", Pure(|b, op| of_real(b, op, 2))),
];

/// A tensor in which one dimension is transformed: `[outer, length, inner, parts]`.
struct Lines {
    tensor: Tensor,
    /// The sizes of the dimensions before and behind, of which the last has the parts.
    before: Tensor,
    behind: Tensor,
}

impl Lines {
    /// `axis` counts from the end, the parts included.
    fn new(b: &mut Builder, x: &Tensor, axis: i64) -> Result<Self> {
        let sizes = b.shape_of(x)?;
        let before = b.slice(&sizes, &[0], &[0], &[axis], &[1])?;
        let behind = b.slice(&sizes, &[0], &[axis + 1], &[i64::MAX], &[1])?;
        let length = b.slice(&sizes, &[0], &[axis], &[axis + 1], &[1])?;
        let inner = b.slice(&behind, &[0], &[0], &[-1], &[1])?;
        let (outer, inner) = (product(b, &before)?, product(b, &inner)?);
        let last = b.slice(&behind, &[0], &[-1], &[i64::MAX], &[1])?;
        let target = b.concat(&[&outer, &length, &inner, &last], 0)?;
        let tensor = b.reshape_to(x, &target)?;
        Ok(Self {
            tensor,
            before,
            behind,
        })
    }

    /// Transforms the lines. With `half`, of real numbers: only the part of the result that is not redundant.
    fn transformed(self, b: &mut Builder, is_inverse: bool, half: bool) -> Result<Self> {
        let (axis, length) = (b.i64(1), Tensor::absent());
        let dims = [0, 1, 2].map(|axis| match (axis, half) {
            (1, true) => self.tensor.shape.dim(1).map(|it| it / 2 + 1),
            _ => self.tensor.shape.dim(axis),
        });
        let shape = Shape::dims(dims.into_iter().chain([Some(2)]));
        let tensor = b
            .op("DFT", &[&self.tensor, &length, &axis])
            .int("inverse", is_inverse.into())
            .int("onesided", half.into())
            .one(self.tensor.dtype, shape)?;
        Ok(Self { tensor, ..self })
    }

    /// The tensor of parts, with the lengths of the lines as they are now.
    fn joined(&self, b: &mut Builder) -> Result<Tensor> {
        let sizes = b.shape_of(&self.tensor)?;
        let length = b.slice(&sizes, &[0], &[1], &[2], &[1])?;
        let inner = b.slice(&self.behind, &[0], &[0], &[-1], &[1])?;
        let last = b.slice(&sizes, &[0], &[3], &[4], &[1])?;
        let target = b.concat(&[&self.before, &length, &inner, &last], 0)?;
        b.reshape_to(&self.tensor, &target)
    }
}

/// The product of a vector, as a vector.
fn product(b: &mut Builder, x: &Tensor) -> Result<Tensor> {
    let known = x.ints().map(|ints| {
        let mut ints = ints.into_iter();
        ints.try_fold(1i64, i64::checked_mul)
    });
    match known {
        Some(Some(product)) => Ok(b.i64s(&[product])),
        _ => b
            .op("ReduceProd", &[x])
            .int("keepdims", 1)
            .one(DataType::Int64, Shape::fixed(&[1])),
    }
}

/// Transforms of complex numbers, along the last `rank` dimensions.
fn whole(b: &mut Builder, op: &Op<'_>, rank: i64, is_inverse: bool) -> Translated {
    let mut both = parts(op.input(0)?)?;
    for axis in 0..rank {
        let lines = Lines::new(b, &both, -2 - axis)?;
        both = lines.transformed(b, is_inverse, false)?.joined(b)?;
    }
    one(joined(b, &both)?)
}

/// The lengths that a transform of real numbers is asked for: an int64 vector.
fn lengths(b: &mut Builder, op: &Op<'_>, rank: i64) -> Result<Tensor> {
    let lengths = b.cast(op.input(1)?, DataType::Int64)?;
    let lengths = lengths.with_shape(Shape::dims([Some(rank)]));
    super::boxes::at_least(b, &lengths, 0)
}

/// The first elements along an axis that counts from the end. The model fails if there are not as many, as
/// TensorFlow's kernel does.
fn first(b: &mut Builder, x: &Tensor, axis: i64, length: &Tensor) -> Result<Tensor> {
    let known = length.int().zip(x.shape.dim(axis));
    if known.is_some_and(|(length, size)| length == size) {
        return Ok(x.clone());
    }
    let mut shape = x.shape.clone();
    if let Some(dims) = &mut shape.0
        && let Some(place) = dims.len().checked_sub(axis.unsigned_abs() as usize)
        && let Some(dim) = dims.get_mut(place)
    {
        *dim = length.int();
    }
    let (start, axes) = (b.i64s(&[0]), b.i64s(&[axis]));
    let cut = b
        .op("Slice", &[x, &start, length, &axes])
        .one(x.dtype, shape)?;
    if known.is_some_and(|(length, size)| length <= size) {
        return Ok(cut);
    }
    let sizes = b.shape_of(x)?;
    let size = b.slice(&sizes, &[0], &[axis], &[axis.saturating_add(1)], &[1])?;
    let size = match axis {
        -1 => b.slice(&sizes, &[0], &[-1], &[i64::MAX], &[1])?,
        _ => size,
    };
    let is_enough = b.compare("GreaterOrEqual", &size, length)?;
    b.require(&cut, &is_enough)
}

/// Of real numbers: half of the transform of the last dimension, then all of the ones before.
fn of_real(b: &mut Builder, op: &Op<'_>, rank: i64) -> Translated {
    let mut x = op.input(0)?.clone();
    if !matches!(x.dtype, DataType::Float | DataType::Double) {
        return Err(Refusal::new(format!("is not run for {}", x.dtype)));
    }
    let lengths = lengths(b, op, rank)?;
    for axis in 0..rank {
        let length = b.slice(&lengths, &[0], &[rank - 1 - axis], &[rank - axis], &[1])?;
        x = first(b, &x, -1 - axis, &length)?;
    }
    let x = b.unsqueeze(&x, &[-1])?;
    let mut both = Lines::new(b, &x, -2)?
        .transformed(b, false, true)?
        .joined(b)?;
    for axis in 1..rank {
        let lines = Lines::new(b, &both, -2 - axis)?;
        both = lines.transformed(b, false, false)?.joined(b)?;
    }
    one(joined(b, &both)?)
}

/// The inverse of `of_real`.
fn to_real(b: &mut Builder, op: &Op<'_>, rank: i64) -> Translated {
    let lengths = lengths(b, op, rank)?;
    let mut both = parts(op.input(0)?)?;
    for axis in (1..rank).rev() {
        let length = b.slice(&lengths, &[0], &[rank - 1 - axis], &[rank - axis], &[1])?;
        both = first(b, &both, -2 - axis, &length)?;
        let lines = Lines::new(b, &both, -2 - axis)?;
        both = lines.transformed(b, true, false)?.joined(b)?;
    }
    let length = b.slice(&lengths, &[0], &[rank - 1], &[rank], &[1])?;
    let half = b.binary("Div", &length, &b.i64s(&[2]))?;
    let half = b.binary("Add", &half, &b.i64s(&[1]))?;
    let both = first(b, &both, -2, &half)?;
    let mut lines = Lines::new(b, &both, -2)?;
    // The other half has the conjugates, in reverse.
    let rest = b.binary("Sub", &length, &half)?;
    let (end, axes, step) = (b.i64s(&[0]), b.i64s(&[1]), b.i64s(&[-1]));
    let shape = Shape::dims([lines.tensor.shape.dim(0), None, Some(1), Some(2)]);
    let mirrored = b
        .op("Slice", &[&lines.tensor, &rest, &end, &axes, &step])
        .one(lines.tensor.dtype, shape)?;
    let signs = signs(b, mirrored.dtype)?;
    let mirrored = b.binary("Mul", &mirrored, &signs)?;
    lines.tensor = b.concat(&[&lines.tensor, &mirrored], 1)?;
    let both = lines.transformed(b, true, false)?.joined(b)?;
    let whole = joined(b, &both)?;
    one(one_part(b, &whole, 0)?)
}
