//! Sizes along axes, and axes that only a request gives.

use base::tensor::DataType;

use super::Builder;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

impl Builder {
    /// The size along an axis: a vector of one int64. A negative axis counts from the end.
    pub(crate) fn size_at(&mut self, x: &Tensor, axis: i64) -> Result<Tensor> {
        if let Some(size) = x.shape.dim(axis) {
            return Ok(self.i64s(&[size]));
        }
        let sizes = self.shape_of(x)?;
        let axis = self.i64s(&[axis]);
        self.gather(&sizes, &axis, 0)
    }

    /// The sizes along axes from `start` to `end`; to the last with `None`.
    pub(crate) fn sizes_in(
        &mut self,
        x: &Tensor,
        start: usize,
        end: Option<usize>,
    ) -> Result<Tensor> {
        let sizes = self.shape_of(x)?;
        let bound = |it: usize| i64::try_from(it).unwrap_or(i64::MAX);
        let (start, end) = (bound(start), end.map_or(i64::MAX, bound));
        self.slice(&sizes, &[0], &[start], &[end], &[1])
    }

    /// The number of elements, an int64 scalar.
    pub(crate) fn count_of(&mut self, x: &Tensor) -> Result<Tensor> {
        if let Some(count) = x.shape.count() {
            return Ok(self.i64(count));
        }
        self.op("Size", &[x]).one(DataType::Int64, Shape::scalar())
    }

    /// The number of dimensions, an int64 scalar.
    pub(crate) fn rank_of(&mut self, x: &Tensor) -> Result<Tensor> {
        if let Some(rank) = x.rank() {
            return Ok(self.i64(i64::try_from(rank).unwrap_or(i64::MAX)));
        }
        let sizes = self.shape_of(x)?;
        self.op("Size", &[&sizes])
            .one(DataType::Int64, Shape::scalar())
    }

    /// The integers 0, 1, … below an int64 scalar (or a vector of one).
    pub(crate) fn count_up(&mut self, end: &Tensor) -> Result<Tensor> {
        let (zero, one) = (self.i64(0), self.i64(1));
        let end = self.as_scalar(end)?;
        self.range(&zero, &end, &one)
    }

    /// ONNX's `Range` of int64 scalars.
    pub(crate) fn range(&mut self, start: &Tensor, end: &Tensor, step: &Tensor) -> Result<Tensor> {
        let known = start.int().zip(end.int()).zip(step.int());
        let known = known.filter(|(_, step)| *step != 0);
        let count = known.and_then(|((start, end), step)| steps(start, end, step));
        if let (Some(count), Some(((start, _), step))) = (count, known)
            && count <= MAX_RANGE
        {
            let values: Vec<i64> = (0..count).map(|it| start + it * step).collect();
            return Ok(self.i64s(&values));
        }
        self.op("Range", &[start, end, step])
            .one(DataType::Int64, Shape::dims([count]))
    }

    /// A tensor with one element as a scalar.
    pub(crate) fn as_scalar(&mut self, x: &Tensor) -> Result<Tensor> {
        match x.rank() {
            Some(0) => Ok(x.clone()),
            _ => self.reshape(x, &[]),
        }
    }

    /// The elements of a tensor as a vector.
    pub(crate) fn as_vector(&mut self, x: &Tensor) -> Result<Tensor> {
        match x.rank() {
            Some(1) => Ok(x.clone()),
            _ => self.reshape(x, &[-1]),
        }
    }

    /// The outputs of `by` for an axis that only a request gives, one of `rank`: an `If` for each.
    pub(crate) fn by_axis(
        &mut self,
        axis: &Tensor,
        rank: usize,
        by: &dyn Fn(&mut Self, i64) -> Result<Vec<Tensor>>,
    ) -> Result<Vec<Tensor>> {
        if rank == 0 || rank > MAX_BRANCHES {
            return Err(Refusal::new(format!(
                "has an axis that is not constant, of {rank} dimensions"
            )));
        }
        let rank = i64::try_from(rank).unwrap_or(i64::MAX);
        // The axis from the start: an axis outside of the rank fails here.
        let all: Vec<i64> = (0..rank).collect();
        let all = self.i64s(&all);
        let axis = self.cast(axis, DataType::Int64)?;
        let axis = self.as_scalar(&axis)?;
        let axis = self.gather(&all, &axis, 0)?;
        self.branch_of_axis(&axis, 0, rank, by)
    }

    fn branch_of_axis(
        &mut self,
        axis: &Tensor,
        place: i64,
        rank: i64,
        by: &dyn Fn(&mut Self, i64) -> Result<Vec<Tensor>>,
    ) -> Result<Vec<Tensor>> {
        if place + 1 == rank {
            return by(self, place);
        }
        let number = self.i64(place);
        let is_this = self.compare("Equal", axis, &number)?;
        self.open_graph();
        let here = by(self, place).and_then(|it| self.results(&it));
        let then_branch = self.close_graph();
        let here = here?;
        self.open_graph();
        let other = self
            .branch_of_axis(axis, place + 1, rank, by)
            .and_then(|it| self.results(&it));
        let else_branch = self.close_graph();
        let other = other?;
        let outputs = here.iter().zip(&other);
        let outputs = outputs.map(|(one, two)| (one.dtype, common(&one.shape, &two.shape)));
        self.op("If", &[&is_this])
            .graph("then_branch", then_branch)
            .graph("else_branch", else_branch)
            .many(outputs)
    }

    /// Makes tensors the outputs of the innermost graph.
    fn results(&mut self, tensors: &[Tensor]) -> Result<Vec<Tensor>> {
        for tensor in tensors {
            let open = Tensor::clone(tensor).without_sizes();
            self.output("result", &open)?;
        }
        Ok(tensors.to_vec())
    }
}

/// The longest range that becomes a constant.
const MAX_RANGE: i64 = 4096;
/// The most axes that a branch is built for.
const MAX_BRANCHES: usize = 8;

/// The number of steps from `start` to below `end`.
fn steps(start: i64, end: i64, step: i64) -> Option<i64> {
    let distance = end.checked_sub(start)?;
    if (distance > 0) != (step > 0) {
        return Some(0);
    }
    let whole = distance.checked_div(step)?;
    let rest = i64::from(distance.checked_rem(step)? != 0);
    whole.checked_add(rest)
}

/// The sizes in which both shapes agree.
fn common(one: &Shape, two: &Shape) -> Shape {
    match (&one.0, &two.0) {
        (Some(one), Some(two)) if one.len() == two.len() => {
            let dims = one.iter().zip(two);
            Shape::dims(dims.map(|(one, two)| one.filter(|_| one == two)))
        }
        _ => Shape::unknown(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_counted_as_range_does() {
        assert_eq!(steps(0, 5, 2), Some(3));
        assert_eq!(steps(5, 0, -2), Some(3));
        assert_eq!(steps(3, 3, -1), Some(0));
        assert_eq!(steps(0, 5, -1), Some(0));
        assert_eq!(steps(i64::MIN, i64::MAX, 1), None);
    }

    #[test]
    fn arithmetic_on_a_shape_keeps_the_sizes_that_are_known() {
        let mut b = Builder::new();
        let shape = Shape::dims([None, Some(4), Some(6)]);
        let x = Tensor::named("x", DataType::Float, shape);
        let batch = b.sizes_in(&x, 0, Some(1)).unwrap();
        assert_eq!(batch.elements(), Some(&[None][..]));
        let nodes = b.node_count();
        let (rows, columns) = (b.size_at(&x, 1).unwrap(), b.size_at(&x, -1).unwrap());
        let area = b.binary("Mul", &rows, &columns).unwrap();
        assert_eq!(area.ints(), Some(vec![24]));
        assert_eq!(b.node_count(), nodes, "known sizes need no nodes");
        let sizes = b.concat(&[&batch, &area], 0).unwrap();
        let flat = b.reshape_to(&x, &sizes).unwrap();
        assert_eq!(flat.shape, Shape::dims([None, Some(24)]));
    }

    #[test]
    fn known_ranges_are_constants() {
        let mut b = Builder::new();
        let [start, end, step] = [7, 1, -3].map(|it| b.i64(it));
        assert_eq!(
            b.range(&start, &end, &step).unwrap().ints(),
            Some(vec![7, 4])
        );
        assert_eq!(b.node_count(), 0);
    }
}
