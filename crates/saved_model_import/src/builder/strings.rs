//! `Gather` of strings.
//!
//! ONNX Runtime's kernel copies the first string of each slice only, and leaves the others empty. Its `GatherND`
//! copies all.

use base::tensor::DataType;

use super::{Builder, axis_of};
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

/// Whether `Gather` along this axis would lose strings.
pub(super) fn loses(x: &Tensor, axis: i64) -> bool {
    if x.dtype != DataType::String || axis == -1 {
        return false;
    }
    let behind = |dims: &Vec<Option<i64>>| {
        let place = axis_of(axis, Some(dims.len()))?;
        let behind = dims.get(place + 1..)?;
        behind
            .iter()
            .try_fold(1i64, |count, dim| count.checked_mul((*dim)?))
    };
    x.shape.0.as_ref().and_then(behind) != Some(1)
}

impl Builder {
    /// What `Gather` gives, with this shape.
    pub(super) fn gather_strings(
        &mut self,
        x: &Tensor,
        indices: &Tensor,
        axis: i64,
        shape: Shape,
    ) -> Result<Tensor> {
        let indices = self.cast(indices, DataType::Int64)?;
        let points = self.unsqueeze(&indices, &[-1])?;
        if axis == 0 {
            return self.op("GatherND", &[x, &points]).one(x.dtype, shape);
        }
        let rank = x.known_rank("gathers strings of a tensor")?;
        let inner = indices.known_rank("gathers strings by indices")?;
        let axis = axis_of(axis, Some(rank));
        let axis = axis.ok_or_else(|| Refusal::new("has an axis outside of its input's rank"))?;
        // [axis, before, after], then [indices, before, after].
        let mut order: Vec<usize> = (0..rank).filter(|it| *it != axis).collect();
        order.insert(0, axis);
        let moved = self.transpose(x, &signed(&order))?;
        let gathered = self.op("GatherND", &[&moved, &points]);
        let gathered = gathered.one(x.dtype, Shape::of_rank(inner + rank - 1))?;
        let order = (inner..inner + axis).chain(0..inner);
        let order = order.chain(inner + axis..inner + rank - 1);
        let back = self.transpose(&gathered, &signed(&order.collect::<Vec<_>>()))?;
        Ok(back.with_shape(shape))
    }
}

fn signed(order: &[usize]) -> Vec<i64> {
    order
        .iter()
        .filter_map(|&it| i64::try_from(it).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_slices_of_several_strings_lose_any() {
        let x = Tensor::named("x", DataType::String, Shape::dims([None, Some(2), Some(1)]));
        assert!(loses(&x, 0));
        assert!(!loses(&x, 1));
        assert!(!loses(&x, -1));
        let unknown = Tensor::named("x", DataType::String, Shape::unknown());
        assert!(loses(&unknown, 0));
    }
}
