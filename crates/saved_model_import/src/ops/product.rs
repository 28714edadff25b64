//! Products of matrices.
//!
//! Not here: sums of products with named axes (`einsum`).

use base::tensor::DataType::{self, *};

use super::Table;
use crate::builder::Builder;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

pub(super) const TABLE: Table = &[
    ("BatchMatMul", Pure(batch_mat_mul)),
    ("BatchMatMulV2", Pure(|b, op| batch(b, op, None))),
    (
        "BatchMatMulV3",
        Pure(|b, op| {
            let dtype = op.attr_dtype("Tout")?;
            batch(b, op, Some(dtype))
        }),
    ),
    ("MatMul", Pure(mat_mul)),
];

/// ONNX's `MatMul`, for every dtype. Matrices are the last two axes, the others are broadcast.
pub(super) fn multiply(b: &mut Builder, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let dtype = x.dtype;
    let (x, y) = (b.widened("MatMul", x)?, b.widened("MatMul", y)?);
    let shape = product_shape(&x.shape, &y.shape);
    let product = b.op("MatMul", &[&x, &y]).one(x.dtype, shape)?;
    b.cast(&product, dtype)
}

fn product_shape(x: &Shape, y: &Shape) -> Shape {
    let (Some(one), Some(two)) = (&x.0, &y.0) else {
        return Shape::unknown();
    };
    let (Some(first), Some(second)) = (one.len().checked_sub(2), two.len().checked_sub(2)) else {
        return Shape::unknown();
    };
    let outer = Shape::dims(one[..first].iter().copied());
    let outer = outer.broadcast(&Shape::dims(two[..second].iter().copied()));
    let Some(mut dims) = outer.0 else {
        return Shape::unknown();
    };
    dims.extend([one[first], two[second + 1]]);
    Shape::dims(dims)
}

/// Of two matrices. `Gemm` reads a transposed one as it is; ONNX Runtime joins a `MatMul` with a sum after it.
fn mat_mul(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, y) = (op.input(0)?, op.input(1)?);
    let (flip_x, flip_y) = (op.attr_flag("transpose_a"), op.attr_flag("transpose_b"));
    if !flip_x && !flip_y {
        let product = multiply(b, x, y)?;
        return one(product.with_shape(Shape::of_rank(2)));
    }
    if matches!(x.dtype, Float | Double | Half) {
        let rows = x.shape.dim(i64::from(flip_x));
        let columns = y.shape.dim(i64::from(!flip_y));
        return one(b
            .op("Gemm", &[x, y])
            .int("transA", flip_x.into())
            .int("transB", flip_y.into())
            .one(x.dtype, Shape::dims([rows, columns]))?);
    }
    let x = if flip_x {
        b.transpose(x, &[1, 0])?
    } else {
        x.clone()
    };
    let y = if flip_y {
        b.transpose(y, &[1, 0])?
    } else {
        y.clone()
    };
    one(multiply(b, &x, &y)?)
}

/// The last two axes exchanged.
fn adjoint(b: &mut Builder, x: &Tensor) -> Result<Tensor> {
    match x.rank().and_then(|it| i64::try_from(it).ok()) {
        Some(rank @ 2..) => {
            let mut order: Vec<i64> = (0..rank - 2).collect();
            order.extend([rank - 1, rank - 2]);
            b.transpose(x, &order)
        }
        Some(_) => Err(Refusal::new("multiplies a tensor that is not a matrix")),
        None => {
            // The axes before the matrices become one.
            let sizes = b.shape_of(x)?;
            let outer = b.slice(&sizes, &[0], &[0], &[-2], &[1])?;
            let inner = b.slice(&sizes, &[0], &[-2], &[i64::MAX], &[1])?;
            let count = b.reduce("ReduceProd", &outer, None, true)?;
            let flat = b.concat(&[&count, &inner], 0)?;
            let flat = b.reshape_to(x, &flat)?.with_shape(Shape::of_rank(3));
            let flipped = b.transpose(&flat, &[0, 2, 1])?;
            let back = b.i64s(&[1, 0]);
            let inner = b.gather(&inner, &back, 0)?;
            let sizes = b
                .op("Concat", &[&outer, &inner])
                .int("axis", 0)
                .one(Int64, Shape::of_rank(1))?;
            b.reshape_to(&flipped, &sizes)
        }
    }
}

/// With `adj_x` and `adj_y`; `dtype` is that of the result.
fn batch(b: &mut Builder, op: &Op<'_>, dtype: Option<DataType>) -> Translated {
    let mut sides = [op.input(0)?.clone(), op.input(1)?.clone()];
    for (side, name) in sides.iter_mut().zip(["adj_x", "adj_y"]) {
        if let Some(dtype) = dtype {
            *side = b.cast(side, dtype)?;
        }
        if op.attr_flag(name) {
            *side = adjoint(b, side)?;
        }
    }
    one(multiply(b, &sides[0], &sides[1])?)
}

/// The first version does not broadcast: a `Reshape` to the other's leading sizes fails where they are not the same.
fn batch_mat_mul(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, y) = (op.input(0)?, op.input(1)?);
    let outer = |it: &Tensor| {
        let dims = it.shape.0.as_ref()?;
        dims.get(..dims.len().checked_sub(2)?)
            .map(|it| it.to_vec())
            .filter(|it| it.iter().all(Option::is_some))
    };
    let is_provable = match (outer(x), outer(y)) {
        (Some(one), Some(two)) => one == two,
        _ => false,
    };
    if is_provable {
        return batch(b, op, None);
    }
    let (one, two) = (b.shape_of(x)?, b.shape_of(y)?);
    let outer = b.slice(&one, &[0], &[0], &[-2], &[1])?;
    let inner = b.slice(&two, &[0], &[-2], &[i64::MAX], &[1])?;
    let sizes = b.concat(&[&outer, &inner], 0)?;
    let checked = b.reshape_to(y, &sizes)?.with_shape(y.shape.clone());
    let inputs = [x.clone(), checked].map(crate::value::Value::Tensor);
    let checked = Op {
        node: op.node,
        inputs: &inputs,
    };
    batch(b, &checked, None)
}
