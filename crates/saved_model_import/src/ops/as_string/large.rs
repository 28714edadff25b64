//! The digits of whole numbers beyond int64, in groups of nine.

use base::tensor::{DataType, Tensor as Elements};

use super::Result;
use super::digits::{Piece, doubles};
use crate::builder::Builder;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

/// The size of a group, and its number of digits.
const BASE: i64 = 1_000_000_000;
const WIDTH: i64 = 9;
/// Binary digits that are multiplied at a time.
const STEP: usize = 27;

/// The digits of whole numbers: of `small`, or of `x` itself where it is large. The large ones are computed only
/// if there are any. `is_short`: `x` are floats.
pub(super) fn whole(
    b: &mut Builder,
    x: &Tensor,
    is_large: &Tensor,
    small: &Tensor,
    is_short: bool,
) -> Result<Piece> {
    let any = b.cast(is_large, DataType::Int64)?;
    let any = b.reduce("ReduceSum", &any, None, false)?;
    let any = b.cast(&any, DataType::Bool)?;
    let small = Piece::digits(b, small)?;
    b.open_graph();
    let branch = many_digits(b, x, is_short)
        .and_then(|it| Piece::choose(b, is_large, &it, &small))
        .and_then(|it| outputs(b, &it));
    let large = b.close_graph();
    branch?;
    b.open_graph();
    let branch = outputs(b, &small);
    let none = b.close_graph();
    branch?;
    let shape = x.shape.clone();
    let results = b
        .op("If", &[&any])
        .graph("then_branch", large)
        .graph("else_branch", none)
        .many([(DataType::String, shape.clone()), (DataType::Int64, shape)])?;
    let [text, len] = <[Tensor; 2]>::try_from(results)
        .map_err(|_| Refusal::new("has another number of results"))?;
    Ok(Piece { text, len })
}

fn outputs(b: &mut Builder, piece: &Piece) -> Result<()> {
    b.output("text", &piece.text)?;
    b.output("len", &piece.len)?;
    Ok(())
}

/// The digits of whole numbers from 2^53.
fn many_digits(b: &mut Builder, x: &Tensor, is_short: bool) -> Result<Piece> {
    // The largest float has 39 digits, the largest double 309.
    let (groups, largest) = if is_short { (5, 128) } else { (35, 1024) };
    let (mantissa, steps, rest) = parts(b, x)?;
    // The mantissa times 2^rest, as three parts of 27 bits.
    let shift = b.i64s(&(0..STEP).map(|it| 1i64 << it).collect::<Vec<_>>());
    let shift = b.gather(&shift, &rest, 0)?;
    let part = b.i64(1 << STEP);
    let upper = b.binary("Div", &mantissa, &part)?;
    let lower = b.binary("Mod", &mantissa, &part)?;
    let lower = b.binary("Mul", &lower, &shift)?;
    let carry = b.binary("Div", &lower, &part)?;
    let lower = b.binary("Mod", &lower, &part)?;
    let upper = b.binary("Mul", &upper, &shift)?;
    let upper = b.binary("Add", &upper, &carry)?;
    let top = b.binary("Div", &upper, &part)?;
    let upper = b.binary("Mod", &upper, &part)?;
    // Each part times its power of two, group by group.
    let powers = powers_of_two(groups, largest)?;
    let mut total: Option<Tensor> = None;
    for (offset, part) in (0i64..).zip([lower, upper, top]) {
        let offset = b.i64(offset);
        let row = b.binary("Add", &steps, &offset)?;
        let power = b.gather(&powers, &row, 0)?;
        let part = b.unsqueeze(&part, &[-1])?;
        let product = b.binary("Mul", &power, &part)?;
        total = Some(match total {
            Some(total) => b.binary("Add", &total, &product)?,
            None => product,
        });
    }
    let total = total.ok_or_else(|| Refusal::new("has no digits"))?;
    let groups = carried(b, &total, groups)?;
    joined(b, &groups)
}

/// Numbers as mantissa times 2^(27 * steps + rest).
fn parts(b: &mut Builder, x: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
    let powers: Vec<f64> = (0..1024).map(|it| 2f64.powi(it)).collect();
    let powers = doubles(powers)?;
    let ln = b.scalar(DataType::Double, std::f64::consts::LN_2)?;
    let one = b.scalar(DataType::Double, 1.0)?;
    let positive = b.binary("Max", x, &one)?;
    let logarithm = b.unary("Log", &positive)?;
    let exponent = b.binary("Div", &logarithm, &ln)?;
    let exponent = b.unary("Floor", &exponent)?;
    let exponent = b.cast(&exponent, DataType::Int64)?;
    // With one bit more than needed, the estimate can be one too large.
    let bits = b.i64(52);
    let exponent = b.binary("Sub", &exponent, &bits)?;
    let zero = b.i64(0);
    let exponent = b.binary("Max", &exponent, &zero)?;
    let unit = b.i64(1);
    let power = b.gather(&powers, &exponent, 0)?;
    let quotient = b.binary("Div", x, &power)?;
    // A quotient that is not whole has lost its last bit to an estimate that is too large.
    let floor = b.unary("Floor", &quotient)?;
    let is_whole = b.compare("Equal", &floor, &quotient)?;
    let lower = b.binary("Sub", &exponent, &unit)?;
    let lower = b.binary("Max", &lower, &zero)?;
    let exponent = b.choose(&is_whole, &exponent, &lower)?;
    let power = b.gather(&powers, &exponent, 0)?;
    let mantissa = b.binary("Div", x, &power)?;
    let mantissa = b.cast(&mantissa, DataType::Int64)?;
    let step = b.i64(i64::try_from(STEP).unwrap_or(1));
    let steps = b.binary("Div", &exponent, &step)?;
    let rest = b.binary("Mod", &exponent, &step)?;
    Ok((mantissa, steps, rest))
}

/// The groups of each 2^(27 * row), the lowest first.
fn powers_of_two(groups: usize, largest: usize) -> Result<Tensor> {
    let rows = largest / STEP + 3;
    let mut all: Vec<i64> = Vec::with_capacity(rows * groups);
    let mut power = vec![0i64; groups];
    power[0] = 1;
    for _ in 0..rows {
        all.extend(&power);
        let mut carry = 0;
        for group in &mut power {
            let product = (*group << STEP) + carry;
            (*group, carry) = (product % BASE, product / BASE);
        }
    }
    let table = Elements::from_vec(&[rows, groups], all);
    table
        .map(Tensor::constant)
        .ok_or_else(|| Refusal::new("has no table"))
}

/// Groups below `BASE`, the lowest first, along the last axis.
fn carried(b: &mut Builder, total: &Tensor, groups: usize) -> Result<Vec<Tensor>> {
    let one = total.rank().map_or_else(Shape::unknown, |rank| {
        let dims = (0..rank).map(|axis| match axis + 1 == rank {
            true => Some(1),
            false => total.shape.dim(i64::try_from(axis).unwrap_or(0)),
        });
        Shape::dims(dims)
    });
    let count = i64::try_from(groups).unwrap_or(1);
    let parts = b
        .op("Split", &[total])
        .int("axis", -1)
        .int("num_outputs", count)
        .many(std::iter::repeat_n((DataType::Int64, one), groups))?;
    let base = b.i64(BASE);
    let mut carry: Option<Tensor> = None;
    let mut groups = Vec::with_capacity(parts.len());
    for part in parts {
        let sum = match &carry {
            Some(carry) => b.binary("Add", &part, carry)?,
            None => part,
        };
        let upper = b.binary("Div", &sum, &base)?;
        groups.push(b.binary("Mod", &sum, &base)?);
        carry = Some(upper);
    }
    Ok(groups)
}

/// The digits of all groups without zeros at the front.
fn joined(b: &mut Builder, groups: &[Tensor]) -> Result<Piece> {
    let width = b.i64(WIDTH);
    let zero = b.i64(0);
    let nothing = Piece::fixed(b, "")?;
    let mut text = nothing.clone();
    let mut above: Option<Tensor> = None;
    for group in groups.iter().rev() {
        let digits = Piece::digits(b, group)?;
        let filled = Piece::filled(b, group, &width, WIDTH)?;
        let is_any = b.compare("Greater", group, &zero)?;
        let first = Piece::choose(b, &is_any, &digits, &nothing)?;
        let piece = match &above {
            Some(above) => Piece::choose(b, above, &filled, &first)?,
            None => first,
        };
        text = text.then(b, &piece)?;
        above = Some(match &above {
            Some(above) => b.compare("Or", above, &is_any)?,
            None => is_any,
        });
    }
    let last = b.i64s(&[-1]);
    let squeezed = |b: &mut Builder, x: &Tensor| {
        let shape = x
            .shape
            .0
            .as_ref()
            .map(|it| it[..it.len().saturating_sub(1)].to_vec());
        b.op("Squeeze", &[x, &last]).one(x.dtype, Shape(shape))
    };
    Ok(Piece {
        text: squeezed(b, &text.text)?,
        len: squeezed(b, &text.len)?,
    })
}
