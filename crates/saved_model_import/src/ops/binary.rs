//! Arithmetic on two tensors that are broadcast, element by element.

use super::Table;
use crate::builder::Builder;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;

pub(super) const TABLE: Table = &[
    ("Add", Pure(|b, op| binary(b, op, "Add"))),
    ("AddV2", Pure(|b, op| binary(b, op, "Add"))),
    ("BiasAdd", Pure(bias_add)),
    ("Mul", Pure(|b, op| binary(b, op, "Mul"))),
    ("Sub", Pure(|b, op| binary(b, op, "Sub"))),
];

fn binary(b: &mut Builder, op: &Op<'_>, name: &str) -> Translated {
    one(b.binary(name, op.input(0)?, op.input(1)?)?)
}

/// Adds a vector along the channels.
fn bias_add(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, bias) = (op.input(0)?, op.input(1)?);
    if op.attr_text("data_format") != "NCHW" {
        return one(b.binary("Add", x, bias)?);
    }
    let rank = x.known_rank("adds to channels of images")?;
    let axes: Vec<i64> = (1..rank as i64 - 1).collect();
    let bias = b.unsqueeze(bias, &axes)?;
    one(b.binary("Add", x, &bias)?)
}
