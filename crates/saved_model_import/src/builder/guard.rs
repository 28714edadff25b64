//! Failing where TensorFlow refuses values that ONNX would take: a guard reads an element outside of a tensor.
//!
//! Not here: refusals before a model is built (`refusal`).

use base::tensor::{DataType, Tensor as Elements};

use super::Builder;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

impl Builder {
    /// The int64 scalar 0, whose computation fails if any element of `bad`, a tensor of bools, is true.
    pub(crate) fn zero_unless(&mut self, bad: &Tensor) -> Result<Tensor> {
        let mut count = self.cast(bad, DataType::Int64)?;
        if count.rank() != Some(0) {
            count = self.reduce("ReduceSum", &count, None, false)?;
        }
        let zero = self.i64s(&[0]);
        self.op("Gather", &[&zero, &count])
            .one(DataType::Int64, Shape::scalar())
    }

    /// The same tensor, whose computation fails if any element of `bad` is true.
    pub(crate) fn guarded(&mut self, x: &Tensor, bad: &Tensor) -> Result<Tensor> {
        let zero = self.zero_unless(bad)?;
        let guarded = if matches!(x.dtype, DataType::Int32 | DataType::Int64) {
            let zero = self.cast(&zero, x.dtype)?;
            self.op("Add", &[x, &zero]).one(x.dtype, x.shape.clone())?
        } else {
            let sizes = self.shape_of(x)?;
            let sizes = self.binary("Add", &sizes, &zero)?;
            self.op("Reshape", &[x, &sizes])
                .int("allowzero", 1)
                .one(x.dtype, x.shape.clone())?
        };
        Ok(match x.elements() {
            Some(known) if x.as_constant().is_none() => guarded.with_elements(known.to_vec()),
            _ => guarded,
        })
    }

    /// Indices as int64, in which negative ones are replaced with one that is outside of any tensor: ONNX would
    /// count them from the end.
    pub(crate) fn indices(&mut self, x: &Tensor) -> Result<Tensor> {
        if is_non_negative(x) {
            return self.cast(x, DataType::Int64);
        }
        if x.dtype == DataType::Int32 {
            // Two's complement: a negative number becomes 2^31 at least.
            let bits = self.cast(x, DataType::UInt32)?;
            return self.cast(&bits, DataType::Int64);
        }
        let x = self.cast(x, DataType::Int64)?;
        let (zero, outside) = (self.i64(0), self.i64(i64::MAX));
        let negative = self.compare("Less", &x, &zero)?;
        self.choose(&negative, &outside, &x)
    }

    /// The dtype in which ONNX Runtime has nearly all kernels, and which holds all values of `dtype`.
    pub(crate) fn carrier(dtype: DataType) -> DataType {
        match dtype {
            DataType::BFloat16 | DataType::Half => DataType::Float,
            DataType::Bool
            | DataType::Int8
            | DataType::UInt8
            | DataType::Int16
            | DataType::UInt16 => DataType::Int32,
            // The upper half of uint64 becomes negative, and comes back by the same conversion.
            DataType::UInt32 | DataType::UInt64 => DataType::Int64,
            other => other,
        }
    }

    /// Moves the elements of `x` with `by`, in another dtype if ONNX Runtime has no kernel for its own. `lacks`
    /// are the dtypes without one.
    pub(crate) fn carried(
        &mut self,
        x: &Tensor,
        lacks: &[DataType],
        by: impl FnOnce(&mut Self, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        if !lacks.contains(&x.dtype) {
            return by(self, x);
        }
        let wide = self.cast(x, Self::carrier(x.dtype))?;
        let moved = by(self, &wide)?;
        self.cast(&moved, x.dtype)
    }

    /// A scalar of any dtype that TensorFlow uses as its zero: 0, false or the empty string.
    pub(crate) fn zero(&self, dtype: DataType) -> Result<Tensor> {
        if dtype == DataType::String {
            let empty = Elements::from_strings(&[], vec![bytes::Bytes::new()]);
            let empty = empty.ok_or_else(|| Refusal::new("is not run for strings"))?;
            return Ok(Tensor::constant(empty));
        }
        self.scalar(dtype, 0.0)
    }
}

/// Whether all elements are known not to be negative.
fn is_non_negative(x: &Tensor) -> bool {
    let unsigned = matches!(
        x.dtype,
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32
    );
    unsigned || x.ints().is_some_and(|it| it.iter().all(|&it| it >= 0))
}
