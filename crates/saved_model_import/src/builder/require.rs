//! Values for which TensorFlow's kernel refuses, and ONNX would answer: the model fails for them.
//!
//! Not here: how it fails (`guard`).

use base::tensor::DataType;

use super::Builder;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

impl Builder {
    /// The tensor `x`; the model fails when it runs and an element of `condition`, of any shape, is false.
    pub(crate) fn require(&mut self, x: &Tensor, condition: &Tensor) -> Result<Tensor, Refusal> {
        let violated = self.op("Not", &[condition]).same()?;
        self.guarded(x, &violated)
    }

    /// The tensor, which has to have this shape when the model runs.
    pub(crate) fn ensured(&mut self, x: &Tensor, expected: &Shape) -> Result<Tensor, Refusal> {
        let Some(dims) = &expected.0 else {
            return Ok(x.clone());
        };
        if x.as_constant().is_some() && x.shape.merged(expected) == x.shape {
            return Ok(x.clone());
        }
        let sizes = self
            .op("Shape", &[x])
            .one(DataType::Int64, Shape::of_rank(1))?;
        let rank = self
            .op("Size", &[&sizes])
            .one(DataType::Int64, Shape::scalar())?;
        let wanted = self.i64(i64::try_from(dims.len()).unwrap_or(i64::MAX));
        let same = self.compare("Equal", &rank, &wanted)?;
        let other_rank = self.op("Not", &[&same]).same()?;
        let mut x = self.guarded(x, &other_rank)?;
        let fixed = dims
            .iter()
            .zip(0..)
            .filter_map(|(dim, axis)| Some(((*dim)?, axis)));
        let (fixed, axes): (Vec<i64>, Vec<i64>) = fixed.unzip();
        if !fixed.is_empty() {
            let (fixed, axes) = (self.i64s(&fixed), self.i64s(&axes));
            let found = self
                .op("Gather", &[&sizes, &axes])
                .one(DataType::Int64, Shape::of_rank(1))?;
            let same = self.compare("Equal", &found, &fixed)?;
            let other_size = self.op("Not", &[&same]).same()?;
            x = self.guarded(&x, &other_size)?;
        }
        Ok(x.with_shape(expected.clone()))
    }
}
