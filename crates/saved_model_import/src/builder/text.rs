//! Operators on strings as methods.

use base::tensor::{DataType, Tensor as Elements};
use bytes::Bytes;

use super::Builder;
use crate::refusal::Refusal;
use crate::value::Tensor;

type Result<T> = std::result::Result<T, Refusal>;

impl Builder {
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
