//! Products of matrices.

use super::Table;
use crate::builder::Builder;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;
use crate::value::Shape;

pub(super) const TABLE: Table = &[("MatMul", Pure(mat_mul))];

fn mat_mul(b: &mut Builder, op: &Op<'_>) -> Translated {
    let mut sides = [op.input(0)?.clone(), op.input(1)?.clone()];
    for (side, name) in sides.iter_mut().zip(["transpose_a", "transpose_b"]) {
        if op.attr_flag(name) {
            *side = b.transpose(side, &[1, 0])?;
        }
    }
    let shape = Shape::dims([sides[0].shape.dim(0), sides[1].shape.dim(1)]);
    let dtype = sides[0].dtype;
    one(b.op("MatMul", &[&sides[0], &sides[1]]).one(dtype, shape)?)
}
