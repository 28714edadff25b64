//! Arithmetic that integers alone have: division with its remainder, powers and bits.
//!
//! ONNX Runtime refuses to divide by 0, as TensorFlow does. It cannot divide the smallest integer by -1; that is
//! left to the edits that every model gets (`onnx`).

use base::tensor::DataType::{self, *};

use super::Table;
use crate::builder::Builder;
use crate::builder::kernels::is_unsigned;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

pub(super) const TABLE: Table = &[
    ("BitwiseAnd", Pure(|b, op| bitwise(b, op, "BitwiseAnd"))),
    ("BitwiseOr", Pure(|b, op| bitwise(b, op, "BitwiseOr"))),
    ("BitwiseXor", Pure(|b, op| bitwise(b, op, "BitwiseXor"))),
    ("LeftShift", Pure(left_shift)),
    ("RightShift", Pure(right_shift)),
];

/// The quotient, rounded down.
pub(super) fn floor_div(b: &mut Builder, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let folded = fold(x, y, |x, y| {
        let quotient = x.checked_div(y)?;
        let is_between = x.checked_rem(y)? != 0 && (x < 0) != (y < 0);
        Some(quotient - i64::from(is_between))
    });
    if let Some(constant) = folded.as_ref().filter(|it| it.as_constant().is_some()) {
        return Ok(constant.clone());
    }
    let quotient = b.binary("Div", x, y)?;
    let result = match is_unsigned(x.dtype) {
        true => quotient,
        false => rounded_down(b, x, y, &quotient)?,
    };
    Ok(match folded.as_ref().and_then(Tensor::elements) {
        Some(elements) => result.with_elements(elements.to_vec()),
        None => result,
    })
}

/// A quotient that was rounded towards zero, less 1 where it is below zero and there is a rest.
fn rounded_down(b: &mut Builder, x: &Tensor, y: &Tensor, quotient: &Tensor) -> Result<Tensor> {
    let zero = b.scalar_for(x, 0.0)?;
    let whole = b.binary("Mul", quotient, y)?;
    let is_positive = y.ints().is_some_and(|it| it.iter().all(|&it| it > 0));
    let is_between = if is_positive {
        b.compare("Less", x, &whole)?
    } else {
        let rest = b.binary("Sub", x, &whole)?;
        let is_below = b.compare("Less", &rest, &zero)?;
        let divides_below = b.compare("Less", y, &zero)?;
        let differs = b.compare("Xor", &is_below, &divides_below)?;
        let is_zero = b.compare("Equal", &rest, &zero)?;
        let has_rest = b.unary("Not", &is_zero)?;
        b.compare("And", &differs, &has_rest)?
    };
    let one = b.cast(&is_between, x.dtype)?;
    b.binary("Sub", quotient, &one)
}

/// The rest with the sign of the divisor, as ONNX's `Mod` gives it for integers.
pub(super) fn floor_mod(b: &mut Builder, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let folded = fold(x, y, |x, y| {
        let rest = x.checked_rem(y)?;
        let is_moved = rest != 0 && (rest < 0) != (y < 0);
        Some(if is_moved { rest + y } else { rest })
    });
    if let Some(constant) = folded.as_ref().filter(|it| it.as_constant().is_some()) {
        return Ok(constant.clone());
    }
    let result = b.binary("Mod", x, y)?;
    Ok(match folded.as_ref().and_then(Tensor::elements) {
        Some(elements) => result.with_elements(elements.to_vec()),
        None => result,
    })
}

/// The known elements of a result; both inputs are scalars or vectors.
fn fold(x: &Tensor, y: &Tensor, compute: fn(i64, i64) -> Option<i64>) -> Option<Tensor> {
    let (one, two) = (x.elements()?, y.elements()?);
    let shape = x.shape.broadcast(&y.shape);
    let len = one.len().max(two.len());
    let fits = |it: &[Option<i64>]| it.len() == 1 || it.len() == len;
    if !fits(one) || !fits(two) || shape.rank()? > 1 {
        return None;
    }
    let at = |it: &[Option<i64>], index: usize| match it {
        [only] => *only,
        _ => it.get(index).copied().flatten(),
    };
    let known = (0..len).map(|index| compute(at(one, index)?, at(two, index)?));
    let known = known.collect();
    Some(Tensor::named("", x.dtype, shape).with_elements(known))
}

/// The largest constant exponent.
const MAX_EXPONENT: i64 = i32::MAX as i64;

/// A power by squaring, which wraps around as in TensorFlow; ONNX Runtime computes powers in floating point. Odd
/// numbers other than 1 and -1 are exact up to an exponent of 65 that comes with the request.
pub(super) fn power(b: &mut Builder, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let (dtype, shape) = (x.dtype, x.shape.broadcast(&y.shape));
    let compute = match dtype {
        Int64 | UInt32 | UInt64 => Int64,
        _ => Int32,
    };
    let (x, y) = (b.cast(x, compute)?, b.cast(y, compute)?);
    if let Some(exponent) = y.int().filter(|it| (0..=MAX_EXPONENT).contains(it))
        && y.rank() == Some(0)
    {
        let result = constant_power(b, &x, exponent)?.with_shape(shape);
        return b.cast(&result, dtype);
    }
    let y = checked_exponent(b, &y)?;
    let one = b.scalar(compute, 1.0)?;
    let zero = b.scalar(compute, 0.0)?;
    let mut product: Option<Tensor> = None;
    let mut square = x;
    for bit in 0..7u32 {
        if bit > 0 {
            square = b.binary("Mul", &square, &square)?;
        }
        let mask = b.scalar(compute, f64::from(1u32 << bit))?;
        let masked = b.binary("BitwiseAnd", &y, &mask)?;
        let is_unset = b.compare("Equal", &masked, &zero)?;
        let factor = b.choose(&is_unset, &one, &square)?;
        product = Some(match product {
            Some(product) => b.binary("Mul", &product, &factor)?,
            None => factor,
        });
    }
    let result = product.ok_or_else(Refusal::of_input)?.with_shape(shape);
    b.cast(&result, dtype)
}

/// Exponents from 0: TensorFlow refuses others. From 64 on the power of an even number has only zeros in 64 bits, so
/// large exponents become 64 or 65.
fn checked_exponent(b: &mut Builder, y: &Tensor) -> Result<Tensor> {
    let (zero, one) = (b.scalar_for(y, 0.0)?, b.scalar_for(y, 1.0)?);
    let is_below = b.compare("Less", y, &zero)?;
    let checked = b.guarded(y, &is_below)?;
    let last = b.binary("BitwiseAnd", y, &one)?;
    let most = b.scalar_for(y, 64.0)?;
    let large = b.binary("Add", &last, &most)?;
    b.binary("Min", &checked, &large)
}

fn constant_power(b: &mut Builder, x: &Tensor, exponent: i64) -> Result<Tensor> {
    let mut product: Option<Tensor> = None;
    let mut square = x.clone();
    let mut left = exponent;
    while left > 0 {
        if left & 1 == 1 {
            product = Some(match product {
                Some(product) => b.binary("Mul", &product, &square)?,
                None => square.clone(),
            });
        }
        left >>= 1;
        if left > 0 {
            square = b.binary("Mul", &square, &square)?;
        }
    }
    match product {
        Some(product) => Ok(product),
        None => {
            let zero = b.binary("Sub", x, x)?;
            let one = b.scalar_for(x, 1.0)?;
            b.binary("Add", &zero, &one)
        }
    }
}

fn bitwise(b: &mut Builder, op: &Op<'_>, name: &str) -> Translated {
    one(b.binary_any(name, op.input(0)?, op.input(1)?)?)
}

/// The dtype of the same width without a sign, and the number of bits.
fn bits(dtype: DataType) -> Result<(DataType, f64)> {
    match dtype {
        Int8 | UInt8 => Ok((UInt8, 8.0)),
        Int16 | UInt16 => Ok((UInt16, 16.0)),
        Int32 | UInt32 => Ok((UInt32, 32.0)),
        Int64 | UInt64 => Ok((UInt64, 64.0)),
        _ => Err(Refusal::new(format!("is not run for {dtype}"))),
    }
}

/// Shifts as TensorFlow's kernel does: by at least 0 and at most one less than the number of bits.
fn shifted(b: &mut Builder, x: &Tensor, by: &Tensor, direction: &str) -> Result<Tensor> {
    let (unsigned, width) = bits(x.dtype)?;
    let (zero, most) = (b.scalar_for(by, 0.0)?, b.scalar_for(by, width - 1.0)?);
    let by = b.binary_any("Max", by, &zero)?;
    let by = b.binary_any("Min", &by, &most)?;
    let (bits, by) = (b.cast(x, unsigned)?, b.cast(&by, unsigned)?);
    let shape: Shape = x.shape.broadcast(&by.shape);
    let moved = b
        .op("BitShift", &[&bits, &by])
        .text("direction", direction)
        .one(unsigned, shape)?;
    b.cast(&moved, x.dtype)
}

fn left_shift(b: &mut Builder, op: &Op<'_>) -> Translated {
    one(shifted(b, op.input(0)?, op.input(1)?, "LEFT")?)
}

/// Copies of the sign move in from the left: a number below zero is shifted with all its bits turned over.
fn right_shift(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, by) = (op.input(0)?, op.input(1)?);
    if is_unsigned(x.dtype) {
        return one(shifted(b, x, by, "RIGHT")?);
    }
    let zero = b.scalar_for(x, 0.0)?;
    let is_below = b.compare("Less", x, &zero)?;
    let turned = b.unary("BitwiseNot", x)?;
    let positive = b.choose_any(&is_below, &turned, x)?;
    let moved = shifted(b, &positive, by, "RIGHT")?;
    let turned = b.unary("BitwiseNot", &moved)?;
    one(b.choose_any(&is_below, &turned, &moved)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(values: &[i64]) -> Tensor {
        Builder::new().i64s(values)
    }

    #[test]
    fn quotients_and_rests_of_known_numbers_are_rounded_down() {
        let mut b = Builder::new();
        let (x, y) = (vector(&[-7, 7, -7, 7]), vector(&[2, -2, -2, 2]));
        let quotients = floor_div(&mut b, &x, &y).unwrap().ints();
        assert_eq!(quotients, Some(vec![-4, -4, 3, 3]));
        let rests = floor_mod(&mut b, &x, &y).unwrap().ints();
        assert_eq!(rests, Some(vec![1, -1, -1, 1]));
        assert_eq!(b.node_count(), 0);
    }

    #[test]
    fn a_known_division_by_zero_is_left_to_the_request() {
        let mut b = Builder::new();
        let result = floor_div(&mut b, &vector(&[1]), &vector(&[0])).unwrap();
        assert_eq!(result.ints(), None);
        assert!(b.node_count() > 0);
    }
}
