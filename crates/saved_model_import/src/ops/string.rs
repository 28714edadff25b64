//! Strings.

use base::tensor::Tensor as Elements;
use bytes::Bytes;
use proto::tensorflow::attr_value;

use super::Table;
use crate::builder::Builder;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::Tensor;

type Result<T> = std::result::Result<T, Refusal>;

pub(super) const TABLE: Table = &[("StringJoin", Pure(join))];

/// Joins strings one by one. Inputs are scalars, or of one shape: TensorFlow does not broadcast otherwise.
fn join(b: &mut Builder, op: &Op<'_>) -> Translated {
    let parts = op.inputs(0..op.len())?;
    let separator = match op.attr("separator") {
        Some(attr_value::Value::S(it)) => it.clone(),
        _ => Bytes::new(),
    };
    let Some((first, rest)) = parts.split_first() else {
        return one(text(separator.slice(..0))?);
    };
    let mut joined = (*first).clone();
    let mut model = Some(*first).filter(|it| it.rank() != Some(0));
    for part in rest {
        if !separator.is_empty() {
            let separator = text(separator.clone())?;
            joined = b.string_concat(&joined, &separator)?;
        }
        joined = b.string_concat(&joined, part)?;
        if part.rank() != Some(0) {
            match model {
                None => model = Some(part),
                Some(model) => joined = of_one_shape(b, joined, model, part)?,
            }
        }
    }
    one(joined)
}

/// The strings that `x` and `y` make together. Fails if the shapes of these differ, where ONNX would repeat one.
fn of_one_shape(b: &mut Builder, joined: Tensor, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let (Some(one), Some(two)) = (x.rank(), y.rank()) else {
        return Ok(joined);
    };
    if one != two {
        return Err(Refusal::new("joins tensors of different ranks"));
    }
    if x.shape.sizes().is_some() && x.shape == y.shape {
        return Ok(joined);
    }
    let mut joined = joined;
    for part in [x, y] {
        let sizes = b.shape_of(part)?;
        joined = b
            .op("Reshape", &[&joined, &sizes])
            .int("allowzero", 1)
            .same()?;
    }
    Ok(joined)
}

/// A constant scalar.
fn text(text: Bytes) -> Result<Tensor> {
    let scalar = Elements::from_strings(&[], vec![text]);
    scalar
        .map(Tensor::constant)
        .ok_or_else(|| Refusal::new("has no text"))
}
