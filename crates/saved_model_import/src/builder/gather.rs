//! Elements by their indices along an axis.
//!
//! Not here: strings, which take other nodes (`strings`), and negative indices that TensorFlow refuses (`guard`).

use super::{Builder, axis_of, from_start, strings};
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

impl Builder {
    /// ONNX's `Gather`: negative indices count from the end.
    pub(crate) fn gather(&mut self, x: &Tensor, indices: &Tensor, axis: i64) -> Result<Tensor> {
        let shape = match (&x.shape.0, &indices.shape.0, axis_of(axis, x.rank())) {
            (Some(dims), Some(inner), Some(axis)) => {
                let (before, after) = (&dims[..axis], &dims[axis + 1..]);
                Shape::dims(before.iter().chain(inner).chain(after).copied())
            }
            _ => Shape::unknown(),
        };
        if strings::loses(x, axis) {
            return self.gather_strings(x, indices, axis, shape);
        }
        let known = match (x.elements(), x.rank(), indices.ints()) {
            (Some(elements), Some(1), Some(indices)) => {
                let at = |&index: &i64| elements.get(from_start(index, elements.len())).copied();
                indices.iter().map(at).collect::<Option<Vec<_>>>()
            }
            _ => None,
        };
        self.op("Gather", &[x, indices])
            .int("axis", axis)
            .one_known(x.dtype, shape, known)
    }
}
