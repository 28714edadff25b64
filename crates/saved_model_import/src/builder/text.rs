//! Operators on strings as methods.

use base::tensor::{DataType, Tensor as Elements};
use bytes::Bytes;

use super::Builder;
use super::common::axis_of;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

impl Builder {
    /// `Gather` on strings, of shape `shape`. Where an index stands for several strings, ONNX Runtime's kernel
    /// copies only the first (1.32); that of `GatherND` copies all.
    pub(super) fn gather_texts(
        &mut self,
        x: &Tensor,
        indices: &Tensor,
        axis: i64,
        shape: Shape,
    ) -> Result<Tensor> {
        let place = axis_of(axis, x.rank());
        let dims = x.shape.0.as_deref().unwrap_or_default();
        let block = place.and_then(|it| Shape::dims(dims.get(it + 1..)?.iter().copied()).count());
        if block == Some(1) {
            let node = self.op("Gather", &[x, indices]).int("axis", axis);
            return node.one(x.dtype, shape);
        }
        let columns = self.unsqueeze(indices, &[-1])?;
        if axis == 0 || place == Some(0) {
            return self.op("GatherND", &[x, &columns]).one(x.dtype, shape);
        }
        let (Some(place), Some(inner)) = (place, indices.rank()) else {
            return Err(Refusal::new("reads strings of unknown rank"));
        };
        // The axis comes first, and the axes of the indices go where it was.
        let axes = |range: std::ops::Range<usize>| range.map(|it| it as i64);
        let order: Vec<i64> = axes(place..place + 1)
            .chain(axes(0..place))
            .chain(axes(place + 1..dims.len()))
            .collect();
        let first = self.transpose(x, &order)?;
        let rows = self
            .op("GatherND", &[&first, &columns])
            .one(x.dtype, Shape::of_rank(inner + dims.len() - 1))?;
        let order: Vec<i64> = axes(inner..inner + place)
            .chain(axes(0..inner))
            .chain(axes(inner + place..inner + dims.len() - 1))
            .collect();
        Ok(self.transpose(&rows, &order)?.with_shape(shape))
    }

    /// A vector of strings.
    pub(crate) fn texts(&self, texts: &[String]) -> Result<Tensor> {
        let strings: Vec<Bytes> = texts.iter().cloned().map(Bytes::from).collect();
        let elements = Elements::from_strings(&[strings.len()], strings);
        elements
            .map(Tensor::constant)
            .ok_or_else(|| Refusal::new("has no texts"))
    }

    /// A scalar string.
    pub(crate) fn string(&self, text: &str) -> Result<Tensor> {
        let string = Bytes::copy_from_slice(text.as_bytes());
        let elements = Elements::from_strings(&[], vec![string]);
        elements
            .map(Tensor::constant)
            .ok_or_else(|| Refusal::new("has no text"))
    }

    /// A node with one input that says something about each element.
    pub(crate) fn test(&mut self, op_type: &str, x: &Tensor) -> Result<Tensor> {
        self.op(op_type, &[x]).one(DataType::Bool, x.shape.clone())
    }

    /// The strings of two tensors, which are broadcast, one after the other.
    pub(crate) fn string_concat(&mut self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let shape = x.shape.broadcast(&y.shape);
        self.op("StringConcat", &[x, y])
            .one(DataType::String, shape)
    }
}
