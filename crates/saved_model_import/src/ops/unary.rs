//! Arithmetic on one tensor, element by element: activations included.

use super::Table;
use crate::builder::Builder;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;

pub(super) const TABLE: Table = &[
    ("Abs", Pure(|b, op| unary(b, op, "Abs"))),
    ("Relu", Pure(|b, op| unary(b, op, "Relu"))),
    ("Sigmoid", Pure(|b, op| unary(b, op, "Sigmoid"))),
    ("Softmax", Pure(|b, op| unary(b, op, "Softmax"))),
    ("Tanh", Pure(|b, op| unary(b, op, "Tanh"))),
];

fn unary(b: &mut Builder, op: &Op<'_>, name: &str) -> Translated {
    one(b.unary(name, op.input(0)?)?)
}
