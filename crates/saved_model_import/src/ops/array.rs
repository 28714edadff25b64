//! Shapes, and moving elements without arithmetic.

use base::tensor::DataType;

use super::Table;
use crate::builder::Builder;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;

pub(super) const TABLE: Table = &[("Reshape", Pure(reshape)), ("Shape", Pure(shape))];

fn reshape(b: &mut Builder, op: &Op<'_>) -> Translated {
    let sizes = b.cast(op.input(1)?, DataType::Int64)?;
    one(b.reshape_to(op.input(0)?, &sizes)?)
}

fn shape(b: &mut Builder, op: &Op<'_>) -> Translated {
    let sizes = b.shape_of(op.input(0)?)?;
    one(b.cast(&sizes, op.attr_dtype("out_type").unwrap_or(DataType::Int32))?)
}
