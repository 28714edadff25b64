//! Graphs within the graph, and whether two of its tensors are the same.
//!
//! Not here: the conditions and loops of TensorFlow (`ops::control`).

use base::tensor::DataType;
use proto::onnx::{GraphProto, NodeProto};

use super::Builder;
use crate::refusal::Refusal;
use crate::value::Tensor;

type Result<T> = std::result::Result<T, Refusal>;

/// How many nodes back, and how far up, two tensors are compared.
const MAX_LOOKED_AT: usize = 4096;
const MAX_COMPARED_DEPTH: usize = 8;
/// Operators that give the same for the same inputs, and that lengths are computed with.
const COMPARED: &[&str] = &[
    "Add",
    "Cast",
    "Concat",
    "Div",
    "Gather",
    "Identity",
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
        let label = self.label.clone();
        let (one, first) = self.nested(&label, then)?;
        let (two, second) = self.nested(&label, otherwise)?;
        self.op("If", &[condition])
            .graph("then_branch", one)
            .graph("else_branch", two)
            .one(first.dtype, first.shape.common(&second.shape))
    }

    fn nested(
        &mut self,
        label: &str,
        build: impl FnOnce(&mut Self) -> Result<Tensor>,
    ) -> Result<(GraphProto, Tensor)> {
        self.open_graph();
        let built = build(self).and_then(|it| {
            self.output(&format!("{label}/branch"), &it)?;
            Ok(it)
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

    /// Whether two tensors have the same elements because they are computed in the same way. `false`: unknown.
    pub(crate) fn is_same(&self, one: &Tensor, two: &Tensor) -> bool {
        if let (Some(one), Some(two)) = (one.ints(), two.ints()) {
            return one == two;
        }
        match (one.name(), two.name()) {
            (Ok(one), Ok(two)) => self.is_same_name(one, two, MAX_COMPARED_DEPTH),
            _ => false,
        }
    }

    fn is_same_name(&self, one: &str, two: &str, depth: usize) -> bool {
        if one == two {
            return true;
        }
        let Some((one, two)) = self.producer(one).zip(self.producer(two)) else {
            return false;
        };
        depth > 0
            && one.op_type == two.op_type
            && one.domain == two.domain
            && COMPARED.contains(&one.op_type())
            && one.attribute == two.attribute
            && one.input.len() == two.input.len()
            && one.output.len() == 1
            && two.output.len() == 1
            && std::iter::zip(&one.input, &two.input)
                .all(|(one, two)| self.is_same_name(one, two, depth - 1))
    }

    fn producer(&self, name: &str) -> Option<&NodeProto> {
        self.graphs.iter().rev().find_map(|graph| {
            let nodes = graph.node.iter().rev().take(MAX_LOOKED_AT);
            nodes
                .into_iter()
                .find(|it| it.output.iter().any(|it| it == name))
        })
    }
}

/// An index that no tensor has.
pub(crate) const OUT_OF_RANGE: i64 = i64::MAX / 4;
