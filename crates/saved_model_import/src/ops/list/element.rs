//! The shape of the elements of a stacked list.

use crate::builder::Builder;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

/// The shape of an element.
pub(crate) fn element_of(stacked: &Shape) -> Shape {
    match stacked.0.as_ref().and_then(|it| it.get(1..)) {
        Some(dims) => Shape::dims(dims.iter().copied()),
        None => Shape::unknown(),
    }
}

/// The sizes of an element, a vector of int64.
pub(crate) fn row_sizes(b: &mut Builder, tensor: &Tensor) -> Result<Tensor> {
    let sizes = b.shape_of(tensor)?;
    b.slice(&sizes, &[0], &[1], &[i64::MAX], &[1])
}
