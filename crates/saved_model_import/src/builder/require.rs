//! Values for which TensorFlow's kernel refuses, and ONNX would answer: the model fails for them.
//!
//! Not here: how it fails (`guard`).

use super::Builder;
use crate::refusal::Refusal;
use crate::value::Tensor;

impl Builder {
    /// The int64 tensor `x`; the model fails when it runs and an element of `condition`, which has the same shape,
    /// is false.
    pub(crate) fn require_each(
        &mut self,
        x: &Tensor,
        condition: &Tensor,
    ) -> Result<Tensor, Refusal> {
        self.require(x, condition)
    }

    /// The tensor `x`; the model fails when it runs and an element of `condition`, a vector, is false.
    pub(crate) fn require(&mut self, x: &Tensor, condition: &Tensor) -> Result<Tensor, Refusal> {
        let violated = self.op("Not", &[condition]).same()?;
        self.guarded(x, &violated)
    }
}
