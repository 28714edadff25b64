//! Arithmetic on two tensors that are broadcast, element by element.
//!
//! Not here: division and powers of integers, and bits (`integer`).

use base::tensor::DataType;

use super::Table;
use super::integer;
use crate::builder::Builder;
use crate::builder::kernels::{is_floating, is_integer};
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

pub(super) const TABLE: Table = &[
    ("Add", Pure(add)),
    ("AddN", Pure(add_n)),
    ("AddV2", Pure(add)),
    ("BiasAdd", Pure(bias_add)),
    ("BiasAddV1", Pure(bias_add)),
    ("Div", Pure(divide)),
    ("DivNoNan", Pure(|b, op| unless_zero(b, op, 1, "Div"))),
    ("FloorDiv", Pure(floor_div)),
    ("FloorMod", Pure(floor_mod)),
    ("Maximum", Pure(|b, op| binary(b, op, "Max"))),
    ("Minimum", Pure(|b, op| binary(b, op, "Min"))),
    ("Mod", Pure(truncate_mod)),
    ("Mul", Pure(|b, op| binary(b, op, "Mul"))),
    ("MulNoNan", Pure(|b, op| unless_zero(b, op, 1, "Mul"))),
    ("Pow", Pure(power)),
    ("RealDiv", Pure(divide)),
    ("SquaredDifference", Pure(squared_difference)),
    ("Sub", Pure(|b, op| binary(b, op, "Sub"))),
    ("TruncateDiv", Pure(truncate_div)),
    ("TruncateMod", Pure(truncate_mod)),
    ("Xdivy", Pure(|b, op| unless_zero(b, op, 0, "Div"))),
    ("Xlogy", Pure(xlogy)),
];

fn binary(b: &mut Builder, op: &Op<'_>, name: &str) -> Translated {
    one(b.binary_any(name, op.input(0)?, op.input(1)?)?)
}

/// Strings are joined.
fn add(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, y) = (op.input(0)?, op.input(1)?);
    match x.dtype {
        DataType::String => one(b.binary("StringConcat", x, y)?),
        _ => one(b.binary_any("Add", x, y)?),
    }
}

fn add_n(b: &mut Builder, op: &Op<'_>) -> Translated {
    let mut sum = op.input(0)?.clone();
    for index in 1..op.len() {
        let next = b.of_same_shape(op.input(index)?, &sum)?;
        let shape = sum.shape.merged(&next.shape);
        sum = b.binary_any("Add", &sum, &next)?.with_shape(shape);
    }
    one(sum)
}

/// Adds a vector along the channels, of which there are as many as the vector has elements.
fn bias_add(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, bias) = (op.input(0)?, op.input(1)?);
    let is_first = op.attr_text("data_format") == "NCHW";
    let axis = if is_first { 1 } else { -1 };
    let (channels, len) = (x.shape.dim(axis), bias.shape.dim(0));
    let is_provable = channels.is_some() && channels == len || len.is_some_and(|it| it > 1);
    let mut sizes = None;
    let mut bias = bias.clone();
    if !is_provable || is_first && x.rank().is_none() {
        let all = b.shape_of(x)?;
        if !is_provable {
            // Fails unless the numbers are the same. ONNX would repeat a vector of one element.
            let axis = b.i64s(&[axis]);
            let channels = b.gather(&all, &axis, 0)?;
            bias = b.reshape_to(&bias, &channels)?;
        }
        sizes = Some(all);
    }
    match (is_first, x.rank(), sizes) {
        (false, ..) => one(sum_with(b, x, &bias)?),
        (true, None, Some(sizes)) => {
            let head = b.slice(&sizes, &[0], &[0], &[2], &[1])?;
            let rest = b.i64s(&[-1]);
            let flat = b.concat(&[&head, &rest], 0)?;
            let flat = b.reshape_to(x, &flat)?;
            let bias = b.unsqueeze(&bias, &[1])?;
            let sum = sum_with(b, &flat, &bias)?;
            one(b.reshape_to(&sum, &sizes)?.with_shape(x.shape.clone()))
        }
        (true, rank, _) => {
            let rank = i64::try_from(rank.unwrap_or(2)).unwrap_or(2);
            let axes: Vec<i64> = (1..rank - 1).collect();
            let bias = match axes.is_empty() {
                true => bias,
                false => b.unsqueeze(&bias, &axes)?,
            };
            one(sum_with(b, x, &bias)?)
        }
    }
}

fn sum_with(b: &mut Builder, x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let shape: Shape = x.shape.clone();
    Ok(b.binary_any("Add", x, bias)?.with_shape(shape))
}

/// Towards zero if the dtype is one of integers.
fn divide(b: &mut Builder, op: &Op<'_>) -> Translated {
    binary(b, op, "Div")
}

fn truncate_div(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, y) = (op.input(0)?, op.input(1)?);
    if is_integer(x.dtype) {
        return one(b.binary_any("Div", x, y)?);
    }
    let (x, y) = (b.widened("Div", x)?, b.widened("Div", y)?);
    let quotient = b.binary("Div", &x, &y)?;
    let (size, sign) = (b.unary("Abs", &quotient)?, b.unary("Sign", &quotient)?);
    let size = b.unary("Floor", &size)?;
    let result = b.binary("Mul", &size, &sign)?;
    one(b.cast(&result, op.input(0)?.dtype)?)
}

fn floor_div(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, y) = (op.input(0)?, op.input(1)?);
    if is_integer(x.dtype) {
        return one(integer::floor_div(b, x, y)?);
    }
    let (wide, y) = (b.widened("Div", x)?, b.widened("Div", y)?);
    let quotient = b.binary("Div", &wide, &y)?;
    let result = b.unary("Floor", &quotient)?;
    one(b.cast(&result, x.dtype)?)
}

/// C's remainder for each dtype.
fn remainder(b: &mut Builder, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let shape = x.shape.broadcast(&y.shape);
    b.op("Mod", &[x, y]).int("fmod", 1).one(x.dtype, shape)
}

fn truncate_mod(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, y) = (op.input(0)?, op.input(1)?);
    let (wide, y) = (b.widened("Mod", x)?, b.widened("Mod", y)?);
    let result = remainder(b, &wide, &y)?;
    one(b.cast(&result, x.dtype)?)
}

/// The remainder with the sign of the divisor: TensorFlow's kernel for floats adds the divisor to a remainder of
/// another sign.
fn floor_mod(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, y) = (op.input(0)?, op.input(1)?);
    if !is_floating(x.dtype) {
        return one(integer::floor_mod(b, x, y)?);
    }
    let (wide, y) = (b.widened("Mod", x)?, b.widened("Mod", y)?);
    let rest = remainder(b, &wide, &y)?;
    let zero = b.scalar_for(&rest, 0.0)?;
    let is_below = b.compare("Less", &rest, &zero)?;
    let divides_below = b.compare("Less", &y, &zero)?;
    let differs = b.compare("Xor", &is_below, &divides_below)?;
    let is_zero = b.compare("Equal", &rest, &zero)?;
    let has_rest = b.unary("Not", &is_zero)?;
    let differs = b.compare("And", &differs, &has_rest)?;
    let moved = b.binary("Add", &rest, &y)?;
    let result = b.choose(&differs, &moved, &rest)?;
    one(b.cast(&result, x.dtype)?)
}

fn power(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, y) = (op.input(0)?, op.input(1)?);
    match is_integer(x.dtype) {
        true => one(integer::power(b, x, y)?),
        false => one(b.binary_any("Pow", x, y)?),
    }
}

fn squared_difference(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, y) = (
        b.widened("Sub", op.input(0)?)?,
        b.widened("Sub", op.input(1)?)?,
    );
    let difference = b.binary("Sub", &x, &y)?;
    let result = b.binary("Mul", &difference, &difference)?;
    one(b.cast(&result, op.input(0)?.dtype)?)
}

/// 0 where the given input is 0, also if the other one is NaN or infinite.
fn zero_where_zero(b: &mut Builder, decisive: &Tensor, otherwise: &Tensor) -> Result<Tensor> {
    let zero = b.scalar_for(otherwise, 0.0)?;
    let is_zero = b.compare("Equal", decisive, &zero)?;
    b.choose(&is_zero, &zero, otherwise)
}

fn unless_zero(b: &mut Builder, op: &Op<'_>, decisive: usize, name: &str) -> Translated {
    let dtype = op.input(0)?.dtype;
    let sides = [
        b.widened(name, op.input(0)?)?,
        b.widened(name, op.input(1)?)?,
    ];
    let plain = b.binary(name, &sides[0], &sides[1])?;
    let decisive = sides.get(decisive).unwrap_or(&sides[1]);
    let result = zero_where_zero(b, decisive, &plain)?;
    one(b.cast(&result, dtype)?)
}

fn xlogy(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, y) = (
        b.widened("Log", op.input(0)?)?,
        b.widened("Log", op.input(1)?)?,
    );
    let log = b.unary("Log", &y)?;
    let product = b.binary("Mul", &x, &log)?;
    let result = zero_where_zero(b, &x, &product)?;
    one(b.cast(&result, op.input(0)?.dtype)?)
}
