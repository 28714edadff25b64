//! The largest elements along the last axis.

use base::tensor::DataType;

use super::Table;
use crate::builder::Builder;
use crate::op::{Op, Translated, many};
use crate::ops::Rule::Pure;
use crate::value::Tensor;

pub(super) const TABLE: Table = &[
    (
        "TopK",
        Pure(|b, op| {
            let k = b.i64s(&[op.attr_int("k").unwrap_or(0)]);
            top_k(b, op, &k)
        }),
    ),
    (
        "TopKV2",
        Pure(|b, op| {
            let k = b.cast(op.input(1)?, DataType::Int64)?;
            let k = b.reshape(&k, &[1])?;
            top_k(b, op, &k)
        }),
    ),
];

/// Sorted, also where TensorFlow leaves the order open. Of equal elements the first counts as larger.
fn top_k(b: &mut Builder, op: &Op<'_>, k: &Tensor) -> Translated {
    let x = op.input(0)?;
    let dtype = op.attr_dtype("index_type").unwrap_or(DataType::Int32);
    let wide = b.ordered("TopK", x)?;
    let mut shape = x.shape.clone();
    if let Some(last) = shape.0.as_mut().and_then(|it| it.last_mut()) {
        *last = k.int();
    }
    let outputs = b
        .op("TopK", &[&wide, k])
        .many([(wide.dtype, shape.clone()), (DataType::Int64, shape)])?;
    let [values, places] = &outputs[..] else {
        return Ok(Vec::new());
    };
    let values = b.unordered(values, x.dtype)?;
    let places = b.cast(places, dtype)?;
    many([values, places])
}
