//! Fake quantization: numbers are rounded to those that a small integer could stand for.

use base::tensor::DataType;

use super::Table;
use crate::builder::Builder;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::Tensor;

type Result<T> = std::result::Result<T, Refusal>;

pub(super) const TABLE: Table = &[
    ("FakeQuantWithMinMaxArgs", Pure(with_args)),
    ("FakeQuantWithMinMaxVars", Pure(with_vars)),
    // The limits are vectors, along the last axis.
    ("FakeQuantWithMinMaxVarsPerChannel", Pure(with_vars)),
];

fn with_args(b: &mut Builder, op: &Op<'_>) -> Translated {
    let low = op.attr_float("min").unwrap_or(-6.0);
    let high = op.attr_float("max").unwrap_or(6.0);
    let low = b.scalar(DataType::Float, low.into())?;
    let high = b.scalar(DataType::Float, high.into())?;
    one(quantized(b, op, &low, &high)?)
}

fn with_vars(b: &mut Builder, op: &Op<'_>) -> Translated {
    one(quantized(b, op, op.input(1)?, op.input(2)?)?)
}

/// TensorFlow moves the limits so that 0 is one of the numbers; with limits of 0 all results are 0.
fn quantized(b: &mut Builder, op: &Op<'_>, low: &Tensor, high: &Tensor) -> Result<Tensor> {
    let x = op.input(0)?;
    let bits = op.attr_int("num_bits").unwrap_or(8);
    if !(2..=16).contains(&bits) {
        return Err(Refusal::new(format!("rounds to {bits} bits")));
    }
    let first = f64::from(u8::from(op.attr_flag("narrow_range")));
    let last = f64::from((1u32 << bits) - 1);
    let (first_, last_) = (b.scalar_for(x, first)?, b.scalar_for(x, last)?);
    let (half, zero) = (b.scalar_for(x, 0.5)?, b.scalar_for(x, 0.0)?);
    let range = b.binary("Sub", high, low)?;
    let steps = b.scalar_for(x, last - first)?;
    let scale = b.binary("Div", &range, &steps)?;
    let place = b.binary("Div", low, &scale)?;
    let place = b.binary("Sub", &first_, &place)?;
    let place = b.binary("Max", &place, &first_)?;
    let place = b.binary("Min", &place, &last_)?;
    let place = b.binary("Add", &place, &half)?;
    let place = b.unary("Floor", &place)?;
    let below = b.binary("Sub", &first_, &place)?;
    let bottom = b.binary("Mul", &below, &scale)?;
    let above = b.binary("Sub", &last_, &place)?;
    let top = b.binary("Mul", &above, &scale)?;
    let inverse = b.unary("Reciprocal", &scale)?;

    let clipped = b.binary("Max", x, &bottom)?;
    let clipped = b.binary("Min", &clipped, &top)?;
    let shifted = b.binary("Sub", &clipped, &bottom)?;
    let number = b.binary("Mul", &shifted, &inverse)?;
    let number = b.binary("Add", &number, &half)?;
    let number = b.unary("Floor", &number)?;
    let number = b.binary("Mul", &number, &scale)?;
    let result = b.binary("Add", &number, &bottom)?;

    let is_zero = [
        b.compare("Equal", low, &zero)?,
        b.compare("Equal", high, &zero)?,
    ];
    let is_zero = b.compare("And", &is_zero[0], &is_zero[1])?;
    Ok(b.choose(&is_zero, &zero, &result)?
        .with_shape(x.shape.clone()))
}
