//! Normalization: of batches, and of the response over channels.
//!
//! Not here: normalizations that a graph writes with smaller operators (`fused`).

use base::tensor::DataType;

use super::Table;
use super::spatial::Layout;
use crate::builder::Builder;
use crate::op::{Op, Translated, many, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

pub(super) const TABLE: Table = &[
    ("FusedBatchNorm", Pure(|b, op| batch_norm(b, op, 5))),
    ("FusedBatchNormV2", Pure(|b, op| batch_norm(b, op, 5))),
    ("FusedBatchNormV3", Pure(|b, op| batch_norm(b, op, 6))),
    ("LRN", Pure(local_response)),
];

/// The statistics are in float if the input has a narrower dtype.
fn batch_norm(b: &mut Builder, op: &Op<'_>, outputs: usize) -> Translated {
    let spatial = match op.attr_text("data_format") {
        "NDHWC" | "NCDHW" => 3,
        _ => 2,
    };
    let layout = Layout::of(op, spatial)?;
    let x = op.input(0)?;
    let inputs = op.inputs(1..5)?;
    let wide = match x.dtype {
        DataType::Float | DataType::Half | DataType::BFloat16 => b.cast(x, DataType::Float)?,
        other => return Err(Refusal::new(format!("is not run for {other}"))),
    };
    // TensorFlow's default of the attribute is 0.0001; it is written to every file.
    let epsilon = op.attr_float("epsilon").unwrap_or(1e-4);
    let is_training = match op.attr("is_training") {
        Some(_) => op.attr_flag("is_training"),
        None => true,
    };
    let mut results = if is_training {
        trained(b, op, &wide, layout, epsilon)?
    } else {
        let first = layout.to_first(b, &wide)?;
        let y = b
            .op(
                "BatchNormalization",
                &[&first, inputs[0], inputs[1], inputs[2], inputs[3]],
            )
            .float("epsilon", epsilon)
            .same()?;
        let y = layout.returned_from_first(b, &y)?;
        let (mean, variance) = (inputs[2].clone(), inputs[3].clone());
        vec![y, mean.clone(), variance.clone(), mean, variance]
    };
    results[0] = b.cast(&results[0], x.dtype)?;
    if outputs > results.len() {
        // The space that only the gradient reads.
        results.push(b.scalar(DataType::Float, 0.0)?);
    }
    many(results)
}

/// With the statistics of the batch, as TensorFlow's kernel computes them: the variance that it returns is
/// the one of a sample, the one that normalizes is not.
fn trained(
    b: &mut Builder,
    op: &Op<'_>,
    x: &Tensor,
    layout: Layout,
    epsilon: f32,
) -> Result<Vec<Tensor>> {
    let x = layout.ranked(x)?;
    let (scale, offset) = (op.input(1)?, op.input(2)?);
    let channel = layout.channels() as i64;
    let axes: Vec<i64> = (0..layout.rank() as i64)
        .filter(|&it| it != channel)
        .collect();
    let mean = b.reduce("ReduceMean", &x, Some(&axes), true)?;
    let centered = b.binary("Sub", &x, &mean)?;
    let squares = b.binary("Mul", &centered, &centered)?;
    let variance = b.reduce("ReduceMean", &squares, Some(&axes), true)?;
    let spread = b.binary("Add", &variance, &b.scalar(x.dtype, f64::from(epsilon))?)?;
    let spread = b.unary("Sqrt", &spread)?;
    let y = b.binary("Div", &centered, &spread)?;
    let spatial_axes: Vec<i64> = match layout.is_first {
        true => (1..=layout.spatial as i64).collect(),
        false => Vec::new(),
    };
    let mut parameters = [scale.clone(), offset.clone()];
    if !spatial_axes.is_empty() {
        for parameter in &mut parameters {
            *parameter = b.unsqueeze(parameter, &spatial_axes)?;
        }
    }
    let y = b.binary("Mul", &y, &parameters[0])?;
    let y = b.binary("Add", &y, &parameters[1])?;
    let mean = b.squeeze(&mean, &axes)?;
    let variance = b.squeeze(&variance, &axes)?;
    let sample = sample_variance(b, &x, &variance, &axes)?;
    let factor = op.attr_float("exponential_avg_factor").unwrap_or(1.0);
    let (moved_mean, moved_variance) = (
        moved(b, op.input(3)?, &mean, factor)?,
        moved(b, op.input(4)?, &sample, factor)?,
    );
    Ok(vec![y, moved_mean, moved_variance, mean, variance])
}

/// `variance * n / max(n - 1, 1)` for `n` elements along the axes.
fn sample_variance(b: &mut Builder, x: &Tensor, variance: &Tensor, axes: &[i64]) -> Result<Tensor> {
    let sizes = b.shape_of(x)?;
    let sizes = b.gather(&sizes, &b.i64s(axes), 0)?;
    let count = b
        .op("ReduceProd", &[&sizes])
        .int("keepdims", 0)
        .one(DataType::Int64, Shape::scalar())?;
    let less = b.binary("Sub", &count, &b.i64(1))?;
    let less = b.binary("Max", &less, &b.i64(1))?;
    let (count, less) = (b.cast(&count, x.dtype)?, b.cast(&less, x.dtype)?);
    let factor = b.binary("Div", &count, &less)?;
    b.binary("Mul", variance, &factor)
}

/// `old * (1 - factor) + new * factor`.
fn moved(b: &mut Builder, old: &Tensor, new: &Tensor, factor: f32) -> Result<Tensor> {
    #[allow(clippy::float_cmp)]
    let is_new = factor == 1.0;
    if is_new {
        return Ok(new.clone());
    }
    let rest = b.scalar(new.dtype, f64::from(1.0 - factor))?;
    let old = b.binary("Mul", old, &rest)?;
    let new = b.binary("Mul", new, &b.scalar(new.dtype, f64::from(factor))?)?;
    b.binary("Add", &old, &new)
}

/// ONNX divides the factor by the number of channels that it sums; TensorFlow does not.
fn local_response(b: &mut Builder, op: &Op<'_>) -> Translated {
    let layout = Layout {
        is_first: false,
        spatial: 2,
    };
    let x = op.input(0)?;
    let wide = match x.dtype {
        DataType::Float | DataType::Half | DataType::BFloat16 => b.cast(x, DataType::Float)?,
        other => return Err(Refusal::new(format!("is not run for {other}"))),
    };
    let radius = op.attr_int("depth_radius").unwrap_or(5);
    if !(0..=1 << 20).contains(&radius) {
        return Err(Refusal::new(format!("has the radius {radius}")));
    }
    let size = 2 * radius + 1;
    #[allow(clippy::cast_precision_loss)]
    let alpha = op.attr_float("alpha").unwrap_or(1.0) * size as f32;
    let first = layout.to_first(b, &wide)?;
    let result = b
        .op("LRN", &[&first])
        .int("size", size)
        .float("alpha", alpha)
        .float("beta", op.attr_float("beta").unwrap_or(0.5))
        .float("bias", op.attr_float("bias").unwrap_or(1.0))
        .same()?;
    let result = layout.returned_from_first(b, &result)?;
    one(b.cast(&result, x.dtype)?)
}
