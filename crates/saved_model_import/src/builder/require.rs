//! Values for which TensorFlow's kernel refuses, and ONNX would answer: the model fails for them.

use base::tensor::DataType;

use super::Builder;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

impl Builder {
    /// The int64 tensor `x`; the model fails when it runs and an element of `condition`, which has the same shape,
    /// is false.
    pub(crate) fn require_each(
        &mut self,
        x: &Tensor,
        condition: &Tensor,
    ) -> Result<Tensor, Refusal> {
        let zeros = self.zeros_unless_false(condition)?;
        self.op("Add", &[x, &zeros]).same()
    }

    /// Zeros; the node fails for a condition that is false, because an index is out of range.
    fn zeros_unless_false(&mut self, condition: &Tensor) -> Result<Tensor, Refusal> {
        let violated = self.op("Not", &[condition]).same()?;
        let index = self.cast(&violated, DataType::Int64)?;
        self.op("Gather", &[&self.i64s(&[0]), &index])
            .one(DataType::Int64, condition.shape.clone())
    }

    /// The tensor `x`; the model fails when it runs and an element of `condition`, a vector, is false.
    pub(crate) fn require(&mut self, x: &Tensor, condition: &Tensor) -> Result<Tensor, Refusal> {
        let zeros = self.zeros_unless_false(condition)?;
        let zero = self
            .op("ReduceSum", &[&zeros])
            .int("keepdims", 1)
            .one(DataType::Int64, Shape::fixed(&[1]))?;
        let rank = x.rank().and_then(|it| i64::try_from(it).ok());
        let sizes = self
            .op("Shape", &[x])
            .one(DataType::Int64, Shape::dims([rank]))?;
        let sizes = self
            .op("Add", &[&sizes, &zero])
            .one(DataType::Int64, sizes.shape.clone())?;
        self.op("Reshape", &[x, &sizes])
            .int("allowzero", 1)
            .one(x.dtype, x.shape.clone())
    }
}
