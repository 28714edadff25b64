//! Graphs within the graph, and whether two of its tensors are the same.
//!
//! Not here: the conditions and loops of TensorFlow (`ops::control`).

use base::tensor::DataType;
use proto::onnx::{GraphProto, NodeProto};

use super::Builder;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

/// How many nodes are looked at to compare two tensors.
const MAX_COMPARED: usize = 64;
/// Operators that give the same for the same inputs, and that lengths are computed with.
const COMPARED: &[&str] = &[
    "Add",
    "Concat",
    "Div",
    "Gather",
    "Max",
    "Min",
    "Mul",
    "ReduceProd",
    "Reshape",
    "Shape",
    "Size",
    "Slice",
    "Squeeze",
    "Sub",
    "Unsqueeze",
];

impl Builder {
    /// Opens a graph again that was closed, for its outputs.
    pub(crate) fn reopen_graph(&mut self, graph: GraphProto) {
        self.graphs.push(graph);
    }

    /// Ends a nested graph without removing anything, to open it again.
    pub(crate) fn suspend_graph(&mut self) -> GraphProto {
        self.graphs.pop().unwrap_or_default()
    }

    /// An `If` with one output; the branches are built by two functions.
    pub(crate) fn either(
        &mut self,
        condition: &Tensor,
        then: impl FnOnce(&mut Self) -> Result<Tensor>,
        otherwise: impl FnOnce(&mut Self) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let (one, first) = self.nested(|b| Ok(vec![then(b)?]))?;
        let (two, second) = self.nested(|b| Ok(vec![otherwise(b)?]))?;
        let (first, second) = (&first[0], &second[0]);
        self.op("If", &[condition])
            .graph("then_branch", one)
            .graph("else_branch", two)
            .one(first.dtype, first.shape.common(&second.shape))
    }

    /// An `If` with outputs of these dtypes and shapes.
    pub(crate) fn either_of(
        &mut self,
        condition: &Tensor,
        types: &[(DataType, Shape)],
        then: impl FnOnce(&mut Self) -> Result<Vec<Tensor>>,
        otherwise: impl FnOnce(&mut Self) -> Result<Vec<Tensor>>,
    ) -> Result<Vec<Tensor>> {
        let (one, _) = self.nested(then)?;
        let (two, _) = self.nested(otherwise)?;
        self.op("If", &[condition])
            .graph("then_branch", one)
            .graph("else_branch", two)
            .many(types.iter().cloned())
    }

    /// Adds nodes that were taken from a nested graph, with the names that they have.
    pub(crate) fn adopt(&mut self, nodes: Vec<NodeProto>) {
        self.graph().node.extend(nodes);
    }

    fn nested(
        &mut self,
        build: impl FnOnce(&mut Self) -> Result<Vec<Tensor>>,
    ) -> Result<(GraphProto, Vec<Tensor>)> {
        let wish = format!("{}/branch", self.label);
        self.open_graph();
        let built = build(self).and_then(|results| {
            for result in &results {
                self.output(&wish, result)?;
            }
            Ok(results)
        });
        let graph = self.close_graph();
        Ok((graph, built?))
    }

    /// Zeros of the sizes in a vector of int64.
    pub(crate) fn zeros(&mut self, dtype: DataType, sizes: &Tensor) -> Result<Tensor> {
        let zero = self.zero(dtype)?;
        self.expand(&zero, sizes)
    }

    /// The size along the first axis, an int64 scalar.
    pub(crate) fn first_size(&mut self, x: &Tensor) -> Result<Tensor> {
        let sizes = self.shape_of(x)?;
        let index = self.i64(0);
        self.gather(&sizes, &index, 0)
    }

    /// Whether two tensors of integers have the same elements because they are computed in the same way.
    /// `false`: that is not known.
    pub(crate) fn is_same(&self, one: &Tensor, two: &Tensor) -> bool {
        self.is_same_to(one, two, &mut { MAX_COMPARED })
    }

    /// `left` is how many more nodes are looked at.
    fn is_same_to(&self, one: &Tensor, two: &Tensor, left: &mut usize) -> bool {
        let (one, two) = (self.without_casts(one), self.without_casts(two));
        if let (Ok(one), Ok(two)) = (one.name(), two.name())
            && one == two
        {
            return true;
        }
        if let (Some(first), Some(second)) = (one.ints(), two.ints()) {
            return first == second && one.rank() == two.rank();
        }
        let Some((one, two)) = self.made(one).zip(self.made(two)) else {
            return false;
        };
        let Some(fewer) = left.checked_sub(1) else {
            return false;
        };
        *left = fewer;
        if one.op_type == "Shape"
            && one.is_alike(two)
            && let (Some(one), Some(two)) = (one.inputs.first(), two.inputs.first())
        {
            return self.is_same_to(self.unreversed(one), self.unreversed(two), left);
        }
        COMPARED.contains(&one.op_type.as_str())
            && one.is_alike(two)
            && std::iter::zip(&one.inputs, &two.inputs)
                .all(|(one, two)| self.is_same_to(one, two, left))
    }

    /// The tensor whose elements are only in another order along one axis: it has the same shape.
    fn unreversed<'t>(&'t self, x: &'t Tensor) -> &'t Tensor {
        let mut x = x;
        while let Some(made) = self.made(x)
            && made.op_type == "Slice"
            && let [inner, start, end, _, step] = made.inputs.as_slice()
            && start.int() == Some(-1)
            && end.int().is_some_and(|it| it <= -i64::from(i32::MAX))
            && step.int() == Some(-1)
        {
            x = inner;
        }
        x
    }

    /// The tensor that is only taken as another integer. Sizes and counts are too small for a difference.
    fn without_casts<'t>(&'t self, x: &'t Tensor) -> &'t Tensor {
        let is_int = |x: &Tensor| matches!(x.dtype, DataType::Int32 | DataType::Int64);
        let mut x = x;
        while let Some(made) = self.made(x)
            && matches!(made.op_type.as_str(), "Cast" | "Identity")
            && let Some(input) = made.inputs.first()
            && is_int(x)
            && is_int(input)
        {
            x = input;
        }
        x
    }
}

/// An index that no tensor has.
pub(crate) const OUT_OF_RANGE: i64 = i64::MAX / 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn input(b: &mut Builder) -> Tensor {
        b.input("x", DataType::Float, Shape::of_rank(3)).unwrap()
    }

    #[test]
    fn a_size_that_is_computed_twice_is_the_same() {
        let mut b = Builder::new();
        let x = input(&mut b);
        let one = b.first_size(&x).unwrap();
        let narrow = b.cast(&one, DataType::Int32).unwrap();
        let two = b.first_size(&x).unwrap();
        assert!(b.is_same(&narrow, &two));
        let sizes = b.shape_of(&x).unwrap();
        let index = b.i64(1);
        let other = b.gather(&sizes, &index, 0).unwrap();
        assert!(!b.is_same(&one, &other));
    }

    #[test]
    fn a_reversed_tensor_has_the_same_sizes_but_not_the_same_elements() {
        let mut b = Builder::new();
        let x = b.input("x", DataType::Int64, Shape::of_rank(1)).unwrap();
        let reversed = b.slice(&x, &[0], &[-1], &[i64::MIN], &[-1]).unwrap();
        let half = b.slice(&x, &[0], &[-1], &[i64::MIN], &[-2]).unwrap();
        let one = b.first_size(&x).unwrap();
        let two = b.first_size(&reversed).unwrap();
        let three = b.first_size(&half).unwrap();
        assert!(b.is_same(&one, &two));
        assert!(!b.is_same(&one, &three));
        assert!(!b.is_same(&x, &reversed));
    }
}
