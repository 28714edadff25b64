//! Choosing between the elements of two tensors.

use super::Table;
use crate::builder::Builder;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::Tensor;

pub(super) const TABLE: Table = &[("Select", Pure(select)), ("SelectV2", Pure(select_v2))];

/// With the rules of broadcasting.
fn select_v2(b: &mut Builder, op: &Op<'_>) -> Translated {
    one(b.choose_any(op.input(0)?, op.input(1)?, op.input(2)?)?)
}

/// The condition is a scalar, has the shape of the others, or chooses whole slices along their first axis.
fn select(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (condition, x, y) = (op.input(0)?, op.input(1)?, op.input(2)?);
    let shape = x.shape.merged(&y.shape);
    let condition = match (condition.rank(), shape.rank()) {
        (Some(0), _) => condition.clone(),
        (Some(one), Some(two))
            if one == two && condition.shape == shape && shape.sizes().is_some() =>
        {
            condition.clone()
        }
        (rank, _) => leading(b, condition, rank, x)?,
    };
    let y = b.of_same_shape(y, x)?;
    one(b.choose_any(&condition, x, &y)?.with_shape(shape))
}

/// The condition with the leading sizes of `x`, followed by ones. This fails if it has another number of elements.
fn leading(
    b: &mut Builder,
    condition: &Tensor,
    rank: Option<usize>,
    x: &Tensor,
) -> Result<Tensor, Refusal> {
    let sizes = b.shape_of(x)?;
    let all = b.shape_of(&sizes)?;
    let (head, taken) = match rank.and_then(|it| i64::try_from(it).ok()) {
        Some(rank) => (b.slice(&sizes, &[0], &[0], &[rank], &[1])?, b.i64s(&[rank])),
        None => {
            let own = b.shape_of(condition)?;
            let rank = b.shape_of(&own)?;
            let start = b.i64s(&[0]);
            let head = b
                .op("Slice", &[&sizes, &start, &rank])
                .one(sizes.dtype, crate::value::Shape::of_rank(1))?;
            (head, rank)
        }
    };
    let missing = b.binary("Sub", &all, &taken)?;
    let unit = b.i64s(&[1]);
    let ones = b.expand(&unit, &missing)?;
    let target = b.concat(&[&head, &ones], 0)?;
    let shape = match (rank, x.rank()) {
        (Some(rank), Some(whole)) => crate::value::Shape::dims((0..whole).map(|it| {
            if it < rank {
                x.shape.dim(it as i64)
            } else {
                Some(1)
            }
        })),
        (_, Some(whole)) => crate::value::Shape::of_rank(whole),
        _ => crate::value::Shape::unknown(),
    };
    Ok(b.reshape_to(condition, &target)?.with_shape(shape))
}
