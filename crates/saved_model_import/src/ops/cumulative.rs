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
    // `Scan` moves an axis to the front itself, but ends the process where another one is empty.
    let first = b.transpose(&parts.tensor, &[1, 0, 2])?;
    let result = scanned(b, op, &first)?;
    let result = b.transpose(&result, &[1, 0, 2])?;
    let result = b.reshape_to(&result, &parts.sizes)?;
    one(b.cast(&result, x.dtype)?.with_shape(x.shape.clone()))
}

/// The products along the first of three axes, by a `Scan` whose state is the product so far. A 1 is put before the
/// first element, because `Scan` fails without elements. Then the products before each element are there as well.
fn scanned(b: &mut Builder, op: &Op<'_>, x: &Tensor) -> Result<Tensor> {
    let is_reverse = op.attr_flag("reverse");
    let sizes = b.shape_of(x)?;
    let outer = b.i64s(&[1, 2]);
    let outer = b.gather(&sizes, &outer, 0)?;
    let unit = b.scalar_for(x, 1.0)?;
    let start = b.expand(&unit, &outer)?;
    let ones = b.unsqueeze(&start, &[0])?;
    let longer = match is_reverse {
        true => b.concat(&[x, &ones], 0)?,
        false => b.concat(&[&ones, x], 0)?,
    };
    b.open_graph();
    let body = scan_body(b, x.dtype);
    let graph = b.close_graph();
    body?;
    let direction = i64::from(is_reverse);
    let outputs = b
        .op("Scan", &[&start, &longer])
        .int("num_scan_inputs", 1)
        .ints("scan_input_directions", &[direction])
        .ints("scan_output_directions", &[direction])
        .graph("body", graph)
        .many([(x.dtype, Shape::of_rank(2)), (x.dtype, Shape::of_rank(3))])?;
    let products = outputs.get(1).ok_or_else(Refusal::of_input)?;
    match is_reverse == op.attr_flag("exclusive") {
        true => b.slice(products, &[0], &[1], &[i64::MAX], &[1]),
        false => b.slice(products, &[0], &[0], &[-1], &[1]),
    }
}

fn scan_body(b: &mut Builder, dtype: DataType) -> Result<()> {
    let state = b.input("product", dtype, Shape::of_rank(2))?;
    let element = b.input("element", dtype, Shape::of_rank(2))?;
    let next = b.binary("Mul", &state, &element)?;
    b.output("next_product", &next)?;
    b.output("result", &next)?;
    Ok(())
}
