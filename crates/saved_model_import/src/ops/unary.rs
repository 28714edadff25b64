//! Arithmetic on one tensor, element by element.
//!
//! Not here: activations (`activation`), functions that ONNX lacks or ONNX Runtime computes in float alone
//! (`special`).

use base::tensor::DataType;

use super::Table;
use crate::builder::Builder;
use crate::builder::kernels::is_integer;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;

pub(super) const TABLE: Table = &[
    ("Abs", Pure(|b, op| unary(b, op, "Abs"))),
    ("Ceil", Pure(|b, op| unary(b, op, "Ceil"))),
    ("ClipByValue", Pure(clip_by_value)),
    ("Cos", Pure(|b, op| unary(b, op, "Cos"))),
    ("Exp", Pure(|b, op| unary(b, op, "Exp"))),
    ("Floor", Pure(|b, op| unary(b, op, "Floor"))),
    ("Inv", Pure(|b, op| unary(b, op, "Reciprocal"))),
    ("Invert", Pure(|b, op| unary(b, op, "BitwiseNot"))),
    ("IsFinite", Pure(is_finite)),
    ("IsInf", Pure(|b, op| is(b, op, "IsInf"))),
    ("IsNan", Pure(|b, op| is(b, op, "IsNaN"))),
    ("L2Loss", Pure(l2_loss)),
    ("Log", Pure(|b, op| unary(b, op, "Log"))),
    ("LogicalNot", Pure(not)),
    ("Neg", Pure(|b, op| unary(b, op, "Neg"))),
    ("OnesLike", Pure(|b, op| filled_like(b, op, 1.0))),
    ("Reciprocal", Pure(|b, op| unary(b, op, "Reciprocal"))),
    ("Rint", Pure(round)),
    ("Round", Pure(round)),
    ("Rsqrt", Pure(rsqrt)),
    ("Sign", Pure(|b, op| unary(b, op, "Sign"))),
    ("Sin", Pure(|b, op| unary(b, op, "Sin"))),
    ("Sqrt", Pure(|b, op| unary(b, op, "Sqrt"))),
    ("Square", Pure(square)),
    ("ZerosLike", Pure(|b, op| filled_like(b, op, 0.0))),
];

fn unary(b: &mut Builder, op: &Op<'_>, name: &str) -> Translated {
    one(b.unary_any(name, op.input(0)?)?)
}

/// To the even one of two integers that are equally near.
fn round(b: &mut Builder, op: &Op<'_>) -> Translated {
    match op.input(0)? {
        x if is_integer(x.dtype) => one(x.clone()),
        _ => unary(b, op, "Round"),
    }
}

fn not(b: &mut Builder, op: &Op<'_>) -> Translated {
    one(b.unary("Not", op.input(0)?)?)
}

fn rsqrt(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let root = b.widened("Sqrt", x)?;
    let root = b.unary("Sqrt", &root)?;
    let result = b.unary("Reciprocal", &root)?;
    one(b.cast(&result, x.dtype)?)
}

fn square(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    one(b.binary_any("Mul", x, x)?)
}

fn is(b: &mut Builder, op: &Op<'_>, name: &str) -> Translated {
    let x = op.input(0)?;
    one(b.op(name, &[x]).one(DataType::Bool, x.shape.clone())?)
}

/// Not a number compares as false.
fn is_finite(b: &mut Builder, op: &Op<'_>) -> Translated {
    let size = b.widened("Abs", op.input(0)?)?;
    let size = b.unary("Abs", &size)?;
    let infinity = b.scalar_for(&size, f64::INFINITY)?;
    one(b.compare("Less", &size, &infinity)?)
}

/// Half of the sum of the squares.
fn l2_loss(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = b.widened("ReduceSum", op.input(0)?)?;
    let square = b.binary("Mul", &x, &x)?;
    let sum = b.reduce("ReduceSum", &square, None, false)?;
    let half = b.scalar_for(&x, 0.5)?;
    let result = b.binary("Mul", &sum, &half)?;
    one(b.cast(&result, op.input(0)?.dtype)?)
}

fn filled_like(b: &mut Builder, op: &Op<'_>, value: f64) -> Translated {
    let x = op.input(0)?;
    let sizes = b.shape_of(x)?;
    let filling = match x.dtype {
        DataType::String => {
            let empty = base::tensor::Tensor::from_strings(&[], vec![bytes::Bytes::new()]);
            empty.map(crate::value::Tensor::constant)
        }
        _ => None,
    };
    let filling = match filling {
        Some(filling) => filling,
        None => b.scalar_for(x, value)?,
    };
    let filling = b.widened("Expand", &filling)?;
    let filled = b.expand(&filling, &sizes)?;
    let filled = b.cast(&filled, x.dtype)?.with_shape(x.shape.clone());
    if !is_integer(x.dtype) {
        return one(filled);
    }
    let count = x.shape.count().and_then(|it| usize::try_from(it).ok());
    #[allow(clippy::cast_possible_truncation)]
    one(match count {
        Some(count) if count <= crate::value::MAX_ELEMENTS => {
            filled.with_elements(vec![Some(value as i64); count])
        }
        _ => filled,
    })
}

/// TensorFlow takes the smaller of the tensor and its maximum first, so a minimum above it counts. The limits are
/// scalars, or have the shape of the tensor.
fn clip_by_value(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let mut wide = b.widened("Min", x)?;
    for (index, name) in [(2, "Min"), (1, "Max")] {
        let limit = op.input(index)?;
        let mut limit = b.widened(name, limit)?;
        let is_provable =
            limit.rank() == Some(0) || limit.shape.sizes().is_some() && limit.shape == x.shape;
        if !is_provable && limit.rank().is_some() {
            // Fails if the number of elements is another one.
            let sizes = b.shape_of(x)?;
            limit = b.reshape_to(&limit, &sizes)?;
        }
        wide = b.binary(name, &wide, &limit)?.with_shape(x.shape.clone());
    }
    one(b.cast(&wide, x.dtype)?)
}

#[cfg(test)]
mod tests {
    use proto::tensorflow::NodeDef;

    use super::*;
    use crate::value::{Shape, Tensor, Value};

    /// TensorFlow's kernel of `Round` takes int32 and int64.
    #[test]
    fn rounding_leaves_integers_as_they_are() {
        let mut b = Builder::new();
        for dtype in [DataType::Int32, DataType::Int64] {
            let x = Tensor::named("x", dtype, Shape::of_rank(2));
            let node = NodeDef::default();
            let inputs = [Value::Tensor(x)];
            let op = Op {
                node: &node,
                inputs: &inputs,
            };
            let results = round(&mut b, &op).unwrap();
            let [Value::Tensor(result)] = &results[..] else {
                panic!("no tensor");
            };
            assert_eq!(result.dtype, dtype);
        }
        assert_eq!(b.node_count(), 0);
    }
}
