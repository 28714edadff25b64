//! Operators on dtypes for which ONNX Runtime has no kernel on the CPU: they are computed in another dtype that
//! holds the same results, and converted back.
//!
//! Which kernels there are was tried with ONNX Runtime 1.32. Half precision is left to ONNX Runtime, which
//! computes in float where it has no kernel.

use base::tensor::DataType::{self, *};

use super::Builder;
use crate::refusal::Refusal;
use crate::value::Tensor;

type Result<T> = std::result::Result<T, Refusal>;

impl Builder {
    /// A tensor in the dtype that `op_type` computes in.
    pub(crate) fn widened(&mut self, op_type: &str, x: &Tensor) -> Result<Tensor> {
        let dtype = computed_in(op_type, x.dtype)?;
        self.cast(x, dtype)
    }

    /// As `unary`, for every dtype.
    pub(crate) fn unary_any(&mut self, op_type: &str, x: &Tensor) -> Result<Tensor> {
        let wide = self.widened(op_type, x)?;
        let computed = self.unary(op_type, &wide)?;
        self.cast(&computed, x.dtype)
    }

    /// As `binary`, for every dtype.
    pub(crate) fn binary_any(&mut self, op_type: &str, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let (one, two) = (self.widened(op_type, x)?, self.widened(op_type, y)?);
        let computed = self.binary(op_type, &one, &two)?;
        self.cast(&computed, x.dtype)
    }

    /// As `compare`, for every dtype.
    pub(crate) fn compare_any(&mut self, op_type: &str, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let (one, two) = (self.widened(op_type, x)?, self.widened(op_type, y)?);
        self.compare(op_type, &one, &two)
    }

    /// As `choose`, for every dtype.
    pub(crate) fn choose_any(
        &mut self,
        condition: &Tensor,
        x: &Tensor,
        y: &Tensor,
    ) -> Result<Tensor> {
        let (one, two) = (self.widened("Where", x)?, self.widened("Where", y)?);
        let chosen = self.choose(condition, &one, &two)?;
        self.cast(&chosen, x.dtype)
    }

    /// A scalar of the dtype of `x`.
    pub(crate) fn scalar_for(&self, x: &Tensor, value: f64) -> Result<Tensor> {
        self.scalar(x.dtype, value)
    }
}

/// Whether a dtype is one of integers.
pub(crate) fn is_integer(dtype: DataType) -> bool {
    crate::value::int_constant(dtype, &[0], &[]).is_some()
}

/// Whether a dtype is one of floating point numbers.
pub(crate) fn is_floating(dtype: DataType) -> bool {
    matches!(dtype, Float | Double | Half | BFloat16)
}

/// Whether a dtype is one of integers without a sign.
pub(crate) fn is_unsigned(dtype: DataType) -> bool {
    matches!(dtype, UInt8 | UInt16 | UInt32 | UInt64)
}

/// The dtype in which ONNX Runtime can compute an operator.
fn computed_in(op_type: &str, dtype: DataType) -> Result<DataType> {
    if has_kernel(op_type, dtype) {
        return Ok(dtype);
    }
    let wider = match dtype {
        BFloat16 | Half => Some(Float),
        Int8 | UInt8 | Int16 | UInt16 => Some(Int32),
        UInt32 => Some(Int64),
        // The same bits: sums and products wrap around in the same way.
        UInt64 if is_modular(op_type) => Some(Int64),
        Bool if has_kernel(op_type, UInt8) => Some(UInt8),
        Bool => Some(Int32),
        _ => None,
    };
    wider
        .filter(|&it| has_kernel(op_type, it))
        .ok_or_else(|| Refusal::new(format!("is not run for {dtype}")))
}

/// Whether the lowest bits of the results depend on the lowest bits of the inputs alone.
fn is_modular(op_type: &str) -> bool {
    matches!(
        op_type,
        "Add" | "Sub" | "Mul" | "Neg" | "ReduceSum" | "ReduceProd" | "CumSum" | "Einsum" | "Where"
    )
}

fn has_kernel(op_type: &str, dtype: DataType) -> bool {
    let is_float = matches!(dtype, Float | Half);
    let is_real = is_float || dtype == Double;
    match op_type {
        // The kernel for half precision gives 0 for NaN.
        "Sign" => matches!(dtype, Float | Double) || is_integer(dtype),
        "Abs" | "Add" | "Sub" | "Mul" | "Div" | "Mod" | "Less" | "LessOrEqual" | "Greater"
        | "GreaterOrEqual" => is_real || is_integer(dtype),
        "Equal" => is_real || is_integer(dtype) || matches!(dtype, Bool | String),
        "Neg" => is_real || matches!(dtype, Int8 | Int16 | Int32 | Int64),
        "Max" | "Min" | "Clip" => {
            is_real || matches!(dtype, Int8 | UInt8 | Int32 | UInt32 | Int64 | UInt64)
        }
        "MatMul" => is_real || matches!(dtype, Int32 | UInt32 | Int64 | UInt64),
        "Where" => is_real || matches!(dtype, Int8 | UInt8 | Int32 | UInt32 | Int64 | String),
        "ReduceMax" | "ReduceMin" | "ArgMax" | "ArgMin" => {
            is_real || matches!(dtype, Int8 | UInt8 | Int32 | Int64)
        }
        "TopK" => is_real || matches!(dtype, Int8 | UInt8 | Int16 | Int32 | Int64),
        "ReduceSum" | "ReduceProd" | "CumSum" | "Einsum" => {
            is_real || matches!(dtype, Int32 | Int64)
        }
        "Relu" => is_real || matches!(dtype, Int8 | Int32),
        "BitwiseNot" | "BitwiseAnd" | "BitwiseOr" | "BitwiseXor" => is_integer(dtype),
        "BitShift" => is_unsigned(dtype),
        "IsNaN" | "IsInf" => is_real || dtype == BFloat16,
        "Expand" => dtype != BFloat16,
        "Ceil" | "Floor" | "Round" | "Sqrt" | "Reciprocal" | "Exp" | "Log" | "Sin" | "Cos"
        | "Tanh" | "Sigmoid" | "Softmax" | "LogSoftmax" | "Pow" | "Gemm" | "ReduceL2"
        | "ReduceMean" => is_real,
        _ => is_float,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dtypes_without_a_kernel_are_computed_in_wider_ones() {
        let of = |op_type, dtype| computed_in(op_type, dtype).ok();
        assert_eq!(of("Add", Int8), Some(Int8));
        assert_eq!(of("Max", UInt16), Some(Int32));
        assert_eq!(of("ReduceSum", UInt32), Some(Int64));
        assert_eq!(of("Exp", BFloat16), Some(Float));
        assert_eq!(of("Where", Bool), Some(UInt8));
        assert_eq!(of("Exp", Int32), None);
        assert_eq!(of("Erf", Double), None);
    }

    #[test]
    fn uint64_is_taken_as_int64_only_where_its_order_does_not_matter() {
        assert_eq!(computed_in("ReduceSum", UInt64).ok(), Some(Int64));
        assert_eq!(computed_in("ReduceMax", UInt64).ok(), None);
    }
}
