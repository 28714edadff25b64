//! Sums and products of the elements so far along an axis.

use base::tensor::DataType;

use super::Table;
use crate::builder::Builder;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

pub(super) const TABLE: Table = &[("Cumprod", Pure(product)), ("Cumsum", Pure(sum))];

fn sum(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, axis) = (op.input(0)?, op.input(1)?);
    let wide = b.widened("CumSum", x)?;
    let axis = b.cast(axis, DataType::Int64)?;
    let result = b
        .op("CumSum", &[&wide, &axis])
        .int("exclusive", op.attr_flag("exclusive").into())
        .int("reverse", op.attr_flag("reverse").into())
        .same()?;
    one(b.cast(&result, x.dtype)?)
}

fn product(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let wide = b.widened("Mul", x)?;
    let parts = b.three_parts(&wide, op.input(1)?)?;
    let result = scanned(b, op, &parts.tensor)?;
    let result = b.reshape_to(&result, &parts.sizes)?;
    one(b.cast(&result, x.dtype)?.with_shape(x.shape.clone()))
}

/// The products along the second of three axes, by a `Scan` whose state is the product so far.
fn scanned(b: &mut Builder, op: &Op<'_>, x: &Tensor) -> Result<Tensor> {
    let sizes = b.shape_of(x)?;
    let outer = b.i64s(&[0, 2]);
    let outer = b.gather(&sizes, &outer, 0)?;
    let unit = b.scalar_for(x, 1.0)?;
    let start = b.expand(&unit, &outer)?;
    b.open_graph();
    let body = scan_body(b, x.dtype, op.attr_flag("exclusive"));
    let graph = b.close_graph();
    body?;
    let direction = i64::from(op.attr_flag("reverse"));
    let outputs = b
        .op("Scan", &[&start, x])
        .int("num_scan_inputs", 1)
        .ints("scan_input_axes", &[1])
        .ints("scan_output_axes", &[1])
        .ints("scan_input_directions", &[direction])
        .ints("scan_output_directions", &[direction])
        .graph("body", graph)
        .many([(x.dtype, Shape::of_rank(2)), (x.dtype, Shape::of_rank(3))])?;
    outputs.into_iter().nth(1).ok_or_else(Refusal::of_input)
}

fn scan_body(b: &mut Builder, dtype: DataType, is_exclusive: bool) -> Result<()> {
    let state = b.input("product", dtype, Shape::of_rank(2))?;
    let element = b.input("element", dtype, Shape::of_rank(2))?;
    let next = b.binary("Mul", &state, &element)?;
    b.output("next_product", &next)?;
    b.output("result", if is_exclusive { &state } else { &next })?;
    Ok(())
}
