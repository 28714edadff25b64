//! The places of the largest and smallest elements along an axis.

use base::tensor::DataType;

use super::Table;
use crate::builder::Builder;
use crate::builder::common::axis_of;
use crate::builder::kernels::is_floating;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

pub(super) const TABLE: Table = &[
    (
        "ArgMax",
        Pure(|b, op| arg(b, op, "ArgMax", f64::NEG_INFINITY)),
    ),
    ("ArgMin", Pure(|b, op| arg(b, op, "ArgMin", f64::INFINITY))),
];

/// Of equal elements the first. NaN counts as the `last` one.
fn arg(b: &mut Builder, op: &Op<'_>, op_type: &str, last: f64) -> Translated {
    let x = op.input(0)?;
    let dtype = op.attr_dtype("output_type").unwrap_or(DataType::Int64);
    let mut wide = b.ordered(op_type, x)?;
    if is_floating(x.dtype) {
        let is_nan = b
            .op("IsNaN", &[&wide])
            .one(DataType::Bool, x.shape.clone())?;
        let last = b.scalar_for(&wide, last)?;
        wide = b.choose(&is_nan, &last, &wide)?.with_shape(x.shape.clone());
    }
    let axis = op.input(1)?;
    let places = match axis.int() {
        Some(axis) if axis >= 0 || x.rank().is_some() || axis == -1 => {
            if x.rank().is_some() && axis_of(axis, x.rank()).is_none() {
                return Err(Refusal::new("has an axis that is not there"));
            }
            let shape = without(&x.shape, axis);
            place(b, op_type, &wide, axis, shape)?
        }
        _ => {
            let parts = b.three_parts(&wide, axis)?;
            let places = place(b, op_type, &parts.tensor, 1, Shape::of_rank(2))?;
            let sizes = b.concat(&[&parts.before, &parts.after], 0)?;
            b.reshape_to(&places, &sizes)?
        }
    };
    one(b.cast(&places, dtype)?)
}

fn without(shape: &Shape, axis: i64) -> Shape {
    let dropped = axis_of(axis, shape.rank());
    let dims = shape.0.as_ref().map(|dims| {
        let dims = dims.iter().enumerate();
        let dims = dims.filter(|(index, _)| Some(*index) != dropped);
        dims.map(|(_, dim)| *dim).collect()
    });
    Shape(dims)
}

fn place(b: &mut Builder, op_type: &str, x: &Tensor, axis: i64, shape: Shape) -> Result<Tensor> {
    b.op(op_type, &[x])
        .int("axis", axis)
        .int("keepdims", 0)
        .one(DataType::Int64, shape)
}
