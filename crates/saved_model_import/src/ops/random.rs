//! Random numbers.

use base::tensor::DataType;

use super::Table;
use crate::builder::Builder;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;

pub(super) const TABLE: Table = &[
    (
        "RandomStandardNormal",
        Pure(|b, op| random(b, op, "RandomNormalLike")),
    ),
    (
        "RandomUniform",
        Pure(|b, op| random(b, op, "RandomUniformLike")),
    ),
];

/// Numbers of a shape that is an input. A seed is not followed: TensorFlow's generator is another one.
fn random(b: &mut Builder, op: &Op<'_>, name: &str) -> Translated {
    let sizes = b.cast(op.input(0)?, DataType::Int64)?;
    let dtype = op.attr_dtype("dtype")?;
    let compute = match dtype {
        DataType::Double => DataType::Double,
        _ => DataType::Float,
    };
    let zero = b.scalar(compute, 0.0)?;
    let zeros = b.expand(&zero, &sizes)?;
    let mut numbers = b.op(name, &[&zeros]).same()?;
    // The largest number below 1 of a dtype with few digits, to which numbers closer to 1 are not rounded.
    let below_one = match (name, dtype) {
        ("RandomUniformLike", DataType::Half) => Some(1.0 - 2f64.powi(-11)),
        ("RandomUniformLike", DataType::BFloat16) => Some(1.0 - 2f64.powi(-8)),
        _ => None,
    };
    if let Some(below_one) = below_one {
        let below_one = b.scalar(compute, below_one)?;
        let shape = numbers.shape.clone();
        numbers = b.binary("Min", &numbers, &below_one)?.with_shape(shape);
    }
    one(b.cast(&numbers, dtype)?)
}
