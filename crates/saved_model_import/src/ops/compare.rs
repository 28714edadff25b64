//! Comparisons and logic.
//!
//! Not here: choosing between two tensors (`select`).

use base::tensor::DataType;

use super::Table;
use crate::builder::Builder;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

pub(super) const TABLE: Table = &[
    ("ApproximateEqual", Pure(approximate_equal)),
    ("Equal", Pure(equal)),
    ("Greater", Pure(|b, op| compare(b, op, "Greater"))),
    (
        "GreaterEqual",
        Pure(|b, op| compare(b, op, "GreaterOrEqual")),
    ),
    ("Less", Pure(|b, op| compare(b, op, "Less"))),
    ("LessEqual", Pure(|b, op| compare(b, op, "LessOrEqual"))),
    ("LogicalAnd", Pure(|b, op| logic(b, op, "And"))),
    ("LogicalOr", Pure(|b, op| logic(b, op, "Or"))),
    ("NotEqual", Pure(not_equal)),
];

fn compare(b: &mut Builder, op: &Op<'_>, name: &str) -> Translated {
    one(b.compare_any(name, op.input(0)?, op.input(1)?)?)
}

fn logic(b: &mut Builder, op: &Op<'_>, name: &str) -> Translated {
    one(b.compare(name, op.input(0)?, op.input(1)?)?)
}

fn equal(b: &mut Builder, op: &Op<'_>) -> Translated {
    one(are_equal(b, op)?)
}

fn not_equal(b: &mut Builder, op: &Op<'_>) -> Translated {
    let equal = are_equal(b, op)?;
    one(b.unary("Not", &equal)?)
}

/// Whether two shapes can be broadcast; `None` if that depends on the request.
fn can_broadcast(x: &Shape, y: &Shape) -> Option<bool> {
    if x.rank() == Some(0) || y.rank() == Some(0) {
        return Some(true);
    }
    let (one, two) = (x.0.as_ref()?, y.0.as_ref()?);
    let pairs = one.iter().rev().zip(two.iter().rev());
    let each = pairs.map(|pair| match pair {
        (Some(1), _) | (_, Some(1)) => Some(true),
        (Some(one), Some(two)) => Some(one == two),
        _ => None,
    });
    let each: Vec<_> = each.collect();
    match each.contains(&Some(false)) {
        true => Some(false),
        false => each.into_iter().collect::<Option<Vec<_>>>().map(|_| true),
    }
}

/// With `incompatible_shape_error` unset, tensors whose shapes do not fit are not equal: one `false` for all.
fn are_equal(b: &mut Builder, op: &Op<'_>) -> Result<Tensor> {
    let (x, y) = (op.input(0)?, op.input(1)?);
    let is_lenient =
        op.attr("incompatible_shape_error").is_some() && !op.attr_flag("incompatible_shape_error");
    match is_lenient.then(|| can_broadcast(&x.shape, &y.shape)) {
        None | Some(Some(true)) => b.compare_any("Equal", x, y),
        Some(Some(false)) => b.scalar(DataType::Bool, 0.0),
        Some(None) => {
            let fits = fits(b, x, y)?;
            b.either(
                &fits,
                |b| b.compare_any("Equal", x, y),
                |b| b.scalar(DataType::Bool, 0.0),
            )
        }
    }
}

/// Whether the shapes of a request can be broadcast: each size is the other one or 1, counted from the end.
fn fits(b: &mut Builder, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let (one, two) = (b.shape_of(x)?, b.shape_of(y)?);
    let (ones, twos) = (b.shape_of(&one)?, b.shape_of(&two)?);
    let len = b.binary("Max", &ones, &twos)?;
    let (one, two) = (
        with_ones(b, &one, &ones, &len)?,
        with_ones(b, &two, &twos, &len)?,
    );
    let unit = b.i64(1);
    let mut fits = b.compare("Equal", &one, &two)?;
    for sizes in [one, two] {
        let is_one = b.compare("Equal", &sizes, &unit)?;
        fits = b.compare("Or", &fits, &is_one)?;
    }
    let fits = b.cast(&fits, DataType::Int32)?;
    let fits = b.reduce("ReduceMin", &fits, None, false)?;
    b.cast(&fits, DataType::Bool)
}

/// A shape with ones before it, up to a length.
fn with_ones(b: &mut Builder, sizes: &Tensor, now: &Tensor, len: &Tensor) -> Result<Tensor> {
    let missing = b.binary("Sub", len, now)?;
    let unit = b.i64s(&[1]);
    let ones = b
        .op("Expand", &[&unit, &missing])
        .one(DataType::Int64, Shape::of_rank(1))?;
    b.op("Concat", &[&ones, sizes])
        .int("axis", 0)
        .one(DataType::Int64, Shape::of_rank(1))
}

/// At most as far from each other as the attribute says.
fn approximate_equal(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, y) = (op.input(0)?, op.input(1)?);
    let (x, y) = (b.widened("Sub", x)?, b.widened("Sub", y)?);
    let difference = b.binary("Sub", &x, &y)?;
    let size = b.unary("Abs", &difference)?;
    let tolerance = op.attr_float("tolerance").unwrap_or(1e-5);
    let (size, tolerance) = match crate::builder::kernels::is_integer(size.dtype) {
        true => {
            let size = b.cast(&size, DataType::Double)?;
            (size, b.scalar(DataType::Double, tolerance.into())?)
        }
        false => {
            let tolerance = b.scalar_for(&size, tolerance.into())?;
            (size, tolerance)
        }
    };
    one(b.compare("LessOrEqual", &size, &tolerance)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_fit_if_each_size_is_the_other_one_or_1() {
        let fixed = |it: &[usize]| Shape::fixed(it);
        assert_eq!(can_broadcast(&fixed(&[2, 3]), &fixed(&[3])), Some(true));
        assert_eq!(can_broadcast(&fixed(&[2, 1]), &fixed(&[1, 3])), Some(true));
        assert_eq!(can_broadcast(&fixed(&[2]), &fixed(&[3])), Some(false));
        assert_eq!(can_broadcast(&fixed(&[2]), &Shape::of_rank(1)), None);
        assert_eq!(
            can_broadcast(&Shape::unknown(), &Shape::scalar()),
            Some(true)
        );
        let (known, partly) = (fixed(&[2, 2]), Shape::dims([None, Some(3)]));
        assert_eq!(can_broadcast(&known, &partly), Some(false));
    }
}
