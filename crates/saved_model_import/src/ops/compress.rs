//! The rows of a tensor for which a condition is true.

use base::tensor::DataType;

use crate::builder::Builder;
use crate::refusal::Refusal;
use crate::value::Tensor;

/// The rows for which a vector of bools is true.
pub(super) fn compress(b: &mut Builder, x: &Tensor, kept: &Tensor) -> Result<Tensor, Refusal> {
    let mut shape = x.shape.clone();
    if let Some(dims) = &mut shape.0
        && let Some(first) = dims.first_mut()
    {
        *first = None;
    }
    b.carried(x, &[DataType::BFloat16], |b, x| {
        b.op("Compress", &[x, kept])
            .int("axis", 0)
            .one(x.dtype, shape)
    })
}
