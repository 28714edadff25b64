//! Functions of one or two numbers that ONNX lacks, that ONNX Runtime computes for floats alone, or that lose
//! small results where they are written in the plain way.

use base::tensor::DataType;

use super::Table;
use crate::builder::Builder;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::Tensor;

type Result<T> = std::result::Result<T, Refusal>;
type Function = fn(&mut Builder, &Tensor) -> Result<Tensor>;

pub(super) const TABLE: Table = &[
    ("Acos", Pure(|b, op| float(b, op, "Acos", acos))),
    ("Acosh", Pure(|b, op| float(b, op, "Acosh", acosh))),
    ("Asin", Pure(|b, op| float(b, op, "Asin", asin))),
    ("Asinh", Pure(|b, op| float(b, op, "Asinh", asinh))),
    ("Atan", Pure(|b, op| float(b, op, "Atan", atan))),
    ("Atan2", Pure(atan2)),
    ("Atanh", Pure(|b, op| float(b, op, "Atanh", atanh))),
    ("Cosh", Pure(|b, op| float(b, op, "Cosh", cosh))),
    ("Expm1", Pure(|b, op| in_double(b, op, expm1))),
    ("Log1p", Pure(|b, op| in_double(b, op, log1p))),
    ("Sinh", Pure(|b, op| float(b, op, "Sinh", sinh))),
    ("Tan", Pure(|b, op| float(b, op, "Tan", tan))),
];

/// Below this size the first two terms of a series are more exact than the plain formula.
const SMALL: f64 = 1e-5;

/// An operator for which ONNX Runtime has no kernel for doubles; `double` computes those.
fn float(b: &mut Builder, op: &Op<'_>, name: &str, double: Function) -> Translated {
    let x = op.input(0)?;
    one(match x.dtype {
        DataType::Double => double(b, x)?,
        _ => b.unary_any(name, x)?,
    })
}

/// A function that is computed in double for every dtype.
fn in_double(b: &mut Builder, op: &Op<'_>, double: Function) -> Translated {
    let x = op.input(0)?;
    let wide = b.cast(x, DataType::Double)?;
    let result = double(b, &wide)?;
    one(b.cast(&result, x.dtype)?)
}

/// `x + factor * x * x` where `x` is small, else `plain`.
fn unless_small(b: &mut Builder, x: &Tensor, factor: f64, plain: &Tensor) -> Result<Tensor> {
    let limit = b.scalar_for(x, SMALL)?;
    let size = b.unary("Abs", x)?;
    let is_small = b.compare("Less", &size, &limit)?;
    let factor = b.scalar_for(x, factor)?;
    let second = b.binary("Mul", x, x)?;
    let second = b.binary("Mul", &second, &factor)?;
    let series = b.binary("Add", x, &second)?;
    b.choose(&is_small, &series, plain)
}

fn expm1(b: &mut Builder, x: &Tensor) -> Result<Tensor> {
    let power = b.unary("Exp", x)?;
    let one = b.scalar_for(x, 1.0)?;
    let plain = b.binary("Sub", &power, &one)?;
    unless_small(b, x, 0.5, &plain)
}

fn log1p(b: &mut Builder, x: &Tensor) -> Result<Tensor> {
    let one = b.scalar_for(x, 1.0)?;
    let sum = b.binary("Add", x, &one)?;
    let plain = b.unary("Log", &sum)?;
    unless_small(b, x, -0.5, &plain)
}

fn tan(b: &mut Builder, x: &Tensor) -> Result<Tensor> {
    let (sine, cosine) = (b.unary("Sin", x)?, b.unary("Cos", x)?);
    b.binary("Div", &sine, &cosine)
}

fn half(b: &mut Builder, x: &Tensor) -> Result<Tensor> {
    let factor = b.scalar_for(x, 0.5)?;
    b.binary("Mul", x, &factor)
}

fn cosh(b: &mut Builder, x: &Tensor) -> Result<Tensor> {
    let minus = b.unary("Neg", x)?;
    let (up, down) = (b.unary("Exp", x)?, b.unary("Exp", &minus)?);
    let sum = b.binary("Add", &up, &down)?;
    half(b, &sum)
}

/// Half of `expm1(x) - expm1(-x)`, which does not lose small numbers.
fn sinh(b: &mut Builder, x: &Tensor) -> Result<Tensor> {
    let minus = b.unary("Neg", x)?;
    let (up, down) = (expm1(b, x)?, expm1(b, &minus)?);
    let difference = b.binary("Sub", &up, &down)?;
    half(b, &difference)
}

/// The result for `|x|` with the sign of `x`.
fn odd(b: &mut Builder, x: &Tensor, of_size: Function) -> Result<Tensor> {
    let size = b.unary("Abs", x)?;
    let result = of_size(b, &size)?;
    let sign = b.unary("Sign", x)?;
    b.binary("Mul", &result, &sign)
}

/// `log1p(x + x² / (1 + sqrt(1 + x²)))` of the size.
fn asinh(b: &mut Builder, x: &Tensor) -> Result<Tensor> {
    odd(b, x, |b, x| {
        let one = b.scalar_for(x, 1.0)?;
        let square = b.binary("Mul", x, x)?;
        let root = b.binary("Add", &square, &one)?;
        let root = b.unary("Sqrt", &root)?;
        let root = b.binary("Add", &root, &one)?;
        let quotient = b.binary("Div", x, &root)?;
        let part = b.binary("Mul", x, &quotient)?;
        let sum = b.binary("Add", x, &part)?;
        log1p(b, &sum)
    })
}

fn acosh(b: &mut Builder, x: &Tensor) -> Result<Tensor> {
    let one = b.scalar_for(x, 1.0)?;
    let (low, high) = (b.binary("Sub", x, &one)?, b.binary("Add", x, &one)?);
    let (low, high) = (b.unary("Sqrt", &low)?, b.unary("Sqrt", &high)?);
    let root = b.binary("Mul", &low, &high)?;
    let sum = b.binary("Add", x, &root)?;
    b.unary("Log", &sum)
}

/// Half of `log1p(x) - log1p(-x)`.
fn atanh(b: &mut Builder, x: &Tensor) -> Result<Tensor> {
    let minus = b.unary("Neg", x)?;
    let (up, down) = (log1p(b, x)?, log1p(b, &minus)?);
    let difference = b.binary("Sub", &up, &down)?;
    half(b, &difference)
}

/// An angle in float with one step of Newton's method, from the sine and cosine that it should have.
fn refined(
    b: &mut Builder,
    name: &str,
    x: &Tensor,
    sine: &Tensor,
    cosine: &Tensor,
) -> Result<Tensor> {
    let float = b.cast(x, DataType::Float)?;
    let angle = b.unary(name, &float)?;
    let angle = b.cast(&angle, DataType::Double)?;
    let (up, across) = (b.unary("Sin", &angle)?, b.unary("Cos", &angle)?);
    let one = b.binary("Mul", &up, cosine)?;
    let two = b.binary("Mul", &across, sine)?;
    let error = b.binary("Sub", &one, &two)?;
    b.binary("Sub", &angle, &error)
}

fn atan(b: &mut Builder, x: &Tensor) -> Result<Tensor> {
    // The square of a limit is not infinite yet.
    let (low, high) = (b.scalar_for(x, -1e150)?, b.scalar_for(x, 1e150)?);
    let x = b.op("Clip", &[x, &low, &high]).same()?;
    let one = b.scalar_for(&x, 1.0)?;
    let square = b.binary("Mul", &x, &x)?;
    let length = b.binary("Add", &square, &one)?;
    let length = b.unary("Sqrt", &length)?;
    let cosine = b.unary("Reciprocal", &length)?;
    let sine = b.binary("Mul", &x, &cosine)?;
    refined(b, "Atan", &x, &sine, &cosine)
}

/// The cosine of the angle whose sine is `x`, or the other way round.
fn other_leg(b: &mut Builder, x: &Tensor) -> Result<Tensor> {
    let one = b.scalar_for(x, 1.0)?;
    let (low, high) = (b.binary("Sub", &one, x)?, b.binary("Add", x, &one)?);
    let product = b.binary("Mul", &low, &high)?;
    b.unary("Sqrt", &product)
}

fn asin(b: &mut Builder, x: &Tensor) -> Result<Tensor> {
    let cosine = other_leg(b, x)?;
    refined(b, "Asin", x, x, &cosine)
}

fn acos(b: &mut Builder, x: &Tensor) -> Result<Tensor> {
    let sine = other_leg(b, x)?;
    refined(b, "Acos", x, &sine, x)
}

/// Whether a number has a minus sign, 0 included.
fn has_sign(b: &mut Builder, x: &Tensor) -> Result<Tensor> {
    let zero = b.scalar_for(x, 0.0)?;
    let is_zero = b.compare("Equal", x, &zero)?;
    let inverse = b.unary("Reciprocal", x)?;
    let either = b.choose(&is_zero, &inverse, x)?;
    b.compare("Less", &either, &zero)
}

/// The angle of a point: that of the smaller coordinate's share of the larger, mirrored into its octant.
fn atan2(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (y, x) = (op.input(0)?, op.input(1)?);
    let dtype = y.dtype;
    let compute = match dtype {
        DataType::Double => DataType::Double,
        _ => DataType::Float,
    };
    let (y, x) = (b.cast(y, compute)?, b.cast(x, compute)?);
    let (up, across) = (b.unary("Abs", &y)?, b.unary("Abs", &x)?);
    let (small, large) = (
        b.binary("Min", &up, &across)?,
        b.binary("Max", &up, &across)?,
    );
    let (zero, one_) = (b.scalar(compute, 0.0)?, b.scalar(compute, 1.0)?);
    let share = b.binary("Div", &small, &large)?;
    // Both are infinite, or both are 0.
    let is_same = b.compare("Equal", &small, &large)?;
    let share = b.choose(&is_same, &one_, &share)?;
    let is_origin = b.compare("Equal", &large, &zero)?;
    let share = b.choose(&is_origin, &zero, &share)?;
    let angle = match compute {
        DataType::Double => atan(b, &share)?,
        _ => b.unary("Atan", &share)?,
    };
    let right = b.scalar(compute, std::f64::consts::FRAC_PI_2)?;
    let mirrored = b.binary("Sub", &right, &angle)?;
    let is_steep = b.compare("Greater", &up, &across)?;
    let angle = b.choose(&is_steep, &mirrored, &angle)?;
    let straight = b.scalar(compute, std::f64::consts::PI)?;
    let mirrored = b.binary("Sub", &straight, &angle)?;
    let is_left = has_sign(b, &x)?;
    let angle = b.choose(&is_left, &mirrored, &angle)?;
    let mirrored = b.unary("Neg", &angle)?;
    let is_below = has_sign(b, &y)?;
    let angle = b.choose(&is_below, &mirrored, &angle)?;
    one(b.cast(&angle, dtype)?)
}
