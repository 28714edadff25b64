//! Working along an axis that comes with the request, on numbers whose order has to be kept, and on tensors that
//! are not broadcast.

use base::tensor::DataType;

use super::Builder;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

/// A tensor with the axes before one, and those after it, as one axis each.
pub(crate) struct ThreeParts {
    /// Of rank 3; the axis is the second.
    pub(crate) tensor: Tensor,
    /// The sizes before the axis.
    pub(crate) before: Tensor,
    /// The sizes after the axis.
    pub(crate) after: Tensor,
    /// All sizes.
    pub(crate) sizes: Tensor,
}

impl Builder {
    /// Brings an axis that is not constant to a constant place. An axis that is not there fails.
    pub(crate) fn three_parts(&mut self, x: &Tensor, axis: &Tensor) -> Result<ThreeParts> {
        let sizes = self.shape_of(x)?;
        let axis = self.cast(axis, DataType::Int64)?;
        let axis = self.reshape(&axis, &[1])?;
        let size = self.gather(&sizes, &axis, 0)?;
        let rank = self.shape_of(&sizes)?;
        let axis = self.binary("Mod", &axis, &rank)?;
        let (zero, unit) = (self.i64s(&[0]), self.i64s(&[1]));
        let next = self.binary("Add", &axis, &unit)?;
        let vector = || Shape::of_rank(1);
        let before = self
            .op("Slice", &[&sizes, &zero, &axis])
            .one(DataType::Int64, vector())?;
        let after = self
            .op("Slice", &[&sizes, &next, &rank])
            .one(DataType::Int64, vector())?;
        let count = self.reduce("ReduceProd", &before, None, true)?;
        let rest = self.reduce("ReduceProd", &after, None, true)?;
        let three = self.concat(&[&count, &size, &rest], 0)?;
        let tensor = self.reshape_to(x, &three)?.with_shape(Shape::of_rank(3));
        Ok(ThreeParts {
            tensor,
            before,
            after,
            sizes,
        })
    }

    /// A tensor in the dtype that `op_type` computes in, with the same order: uint64 is moved down by half of its
    /// range.
    pub(crate) fn ordered(&mut self, op_type: &str, x: &Tensor) -> Result<Tensor> {
        if x.dtype != DataType::UInt64 {
            return self.widened(op_type, x);
        }
        let signed = self.cast(x, DataType::Int64)?;
        let half = self.scalar(DataType::Int64, i64::MIN as f64)?;
        self.binary("Add", &signed, &half)
    }

    /// Turns `ordered` back.
    pub(crate) fn unordered(&mut self, x: &Tensor, dtype: DataType) -> Result<Tensor> {
        if dtype != DataType::UInt64 {
            return self.cast(x, dtype);
        }
        let half = self.scalar(DataType::Int64, i64::MIN as f64)?;
        let signed = self.binary("Add", x, &half)?;
        self.cast(&signed, dtype)
    }

    /// A tensor that has the shape of another one in TensorFlow, where ONNX would broadcast: a `Reshape` fails if its
    /// number of elements is another. A batch of unknown size is trusted.
    pub(crate) fn of_same_shape(&mut self, x: &Tensor, model: &Tensor) -> Result<Tensor> {
        if is_same_but_batch(&x.shape, &model.shape) {
            return Ok(x.clone());
        }
        let sizes = self.shape_of(model)?;
        self.reshape_to(x, &sizes)
    }
}

/// Whether the sizes of two shapes are the same, also if the first of several is not known.
fn is_same_but_batch(one: &Shape, two: &Shape) -> bool {
    let (Some(one), Some(two)) = (&one.0, &two.0) else {
        return false;
    };
    let is_trusted = |index: usize| index == 0 && one.len() > 1;
    let mut pairs = one.iter().zip(two).enumerate();
    one.len() == two.len()
        && pairs.all(|(index, pair)| match pair {
            (Some(one), Some(two)) => one == two,
            (None, None) => is_trusted(index),
            _ => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_batch_of_unknown_size_is_trusted() {
        let batch = |size| Shape::dims([None, Some(size)]);
        assert!(is_same_but_batch(&batch(3), &batch(3)));
        assert!(!is_same_but_batch(&batch(3), &batch(1)));
        assert!(!is_same_but_batch(&Shape::of_rank(1), &Shape::of_rank(1)));
        assert!(!is_same_but_batch(&Shape::unknown(), &Shape::unknown()));
        assert!(is_same_but_batch(&Shape::scalar(), &Shape::scalar()));
    }
}
