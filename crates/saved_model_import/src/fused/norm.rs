//! Normalizations that a graph writes with arithmetic.
//!
//! `tf.nn.batch_normalization`, which the layers of Keras use too, writes `x * inverse + (offset - mean * inverse)`
//! with `inverse = scale / sqrt(variance + epsilon)`; Keras 3 adds `-mean * inverse` for layers. With constants it
//! is a batch norm; with the mean and the variance of `x` along its last dimension a layer norm. Keras 2 writes a
//! layer norm as a batch norm of a reshaped tensor.

use base::tensor::{DataType, Tensor as Elements};

use super::{ADD, argument, same, terms};
use crate::builder::Builder;
use crate::refusal::Refusal;
use crate::value::Tensor;

type Result<T> = std::result::Result<T, Refusal>;

/// The parts of a normalization.
struct Norm {
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    epsilon: f32,
    scale: Option<Tensor>,
    offset: Option<Tensor>,
}

/// The result that stands for the sum of `x` and `y`, if it is a normalization.
pub(super) fn found(b: &mut Builder, x: &Tensor, y: &Tensor) -> Result<Option<Tensor>> {
    for (product, shift) in [(x, y), (y, x)] {
        if let Some(norm) = parts(b, product, shift) {
            if let Some(size) = norm.layer_size(b) {
                return norm.layer(b, size);
            }
            if let Some(axis) = norm.batch_axis() {
                return norm.batch(b, axis);
            }
        }
        if let Some(norm) = reshaped(b, product, shift)
            && let Some(size) = norm.x.shape.dim(-1)
        {
            return norm.layer(b, size);
        }
    }
    Ok(None)
}

fn parts(b: &Builder, product: &Tensor, shift: &Tensor) -> Option<Norm> {
    for (x, inverse) in terms(b, product, &["Mul"]) {
        let Some((variance, epsilon, scale)) = inverse_of(b, &inverse) else {
            continue;
        };
        let Some((mean, offset)) = shift_of(b, shift, &inverse) else {
            continue;
        };
        return Some(Norm {
            x,
            mean,
            variance,
            epsilon,
            scale,
            offset,
        });
    }
    None
}

/// The variance, the epsilon and the scale.
fn inverse_of(b: &Builder, inverse: &Tensor) -> Option<(Tensor, f32, Option<Tensor>)> {
    let root = |x: &Tensor| {
        let spread = argument(b, x, "Rsqrt")?;
        terms(b, &spread, ADD)
            .into_iter()
            .find_map(|(variance, epsilon)| {
                let epsilon = epsilon.as_scalar::<f32>()?;
                // A scalar variance would be taken for the epsilon.
                (variance.shape.count() != Some(1)).then_some((variance, epsilon))
            })
    };
    if let Some((variance, epsilon)) = root(inverse) {
        return Some((variance, epsilon, None));
    }
    let factors = terms(b, inverse, &["Mul"]);
    factors.into_iter().find_map(|(factor, scale)| {
        let (variance, epsilon) = root(&factor)?;
        Some((variance, epsilon, Some(scale)))
    })
}

/// The mean and the offset.
fn shift_of(b: &Builder, shift: &Tensor, inverse: &Tensor) -> Option<(Tensor, Option<Tensor>)> {
    let other_factor = |x: &Tensor| {
        let factors = terms(b, x, &["Mul"]);
        let found = factors.into_iter().find(|(_, it)| same(it, inverse));
        found.map(|(other, _)| other)
    };
    let negative = |x: &Tensor| argument(b, &other_factor(x)?, "Neg");
    if let Some(difference) = b.origin(shift, &["Sub"])
        && let [offset, product] = difference.inputs.as_slice()
    {
        return Some((other_factor(product)?, Some(offset.clone())));
    }
    if let Some(mean) = negative(shift) {
        return Some((mean, None));
    }
    if let Some(product) = argument(b, shift, "Neg") {
        return Some((other_factor(&product)?, None));
    }
    terms(b, shift, ADD)
        .into_iter()
        .find_map(|(product, offset)| Some((negative(&product)?, Some(offset))))
}

/// A layer norm as Keras 2 writes it: a batch norm of `[1, rows, size, 1]`, channels in front, that computes
/// statistics, with the scale 1 and the offset 0, reshaped to the shape of `x`, scaled and shifted.
fn reshaped(b: &Builder, product: &Tensor, offset: &Tensor) -> Option<Norm> {
    for (normal, scale) in terms(b, product, &["Mul"]) {
        let Some(back) = b.origin(&normal, &["Reshape"]) else {
            continue;
        };
        let [inner, sizes] = back.inputs.as_slice() else {
            continue;
        };
        let norm = b.origin(
            inner,
            &["FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"],
        )?;
        let (true, true, epsilon) = norm.batch_norm? else {
            return None;
        };
        let [flat, one, zero, mean, variance] = norm.inputs.as_slice() else {
            return None;
        };
        let there = b.origin(flat, &["Reshape"])?;
        let x = there.inputs.first()?;
        let size = x.shape.dim(-1)?;
        let shape = &flat.shape;
        let is_flat = shape.rank() == Some(4)
            && shape.dim(0) == Some(1)
            && shape.dim(2) == Some(size)
            && shape.dim(3) == Some(1);
        let is_back = b
            .origin(sizes, &["Shape"])
            .is_some_and(|it| it.inputs.first().is_some_and(|it| same(it, x)))
            || sizes
                .elements()
                .is_some_and(|it| Some(it.to_vec()) == x.shape.0 && it.iter().all(Option::is_some));
        let is_found = is_flat && is_back && is_filled(b, one, 1.0) && is_filled(b, zero, 0.0);
        return is_found.then(|| Norm {
            x: x.clone(),
            mean: mean.clone(),
            variance: variance.clone(),
            epsilon,
            scale: Some(scale),
            offset: Some(offset.clone()),
        });
    }
    None
}

/// Whether all elements are this number.
#[allow(clippy::float_cmp)]
fn is_filled(b: &Builder, x: &Tensor, value: f32) -> bool {
    if let Some(elements) = x.as_constant().and_then(|it| it.as_slice::<f32>()) {
        return elements.iter().all(|it| *it == value);
    }
    let filled = b.origin(x, &["Fill"]);
    filled.is_some_and(|it| it.inputs.get(1).and_then(Tensor::as_scalar::<f32>) == Some(value))
}

/// The number of elements of a tensor of which all dimensions but one are 1, and the place of that one, from
/// the end. The last one if all are 1.
fn vector(x: &Tensor) -> Option<(i64, i64)> {
    let sizes = x.shape.sizes()?;
    let wide: Vec<usize> = (0..sizes.len()).filter(|&it| sizes[it] != 1).collect();
    let place = match wide.as_slice() {
        [] => sizes.len().checked_sub(1)?,
        [only] => *only,
        _ => return None,
    };
    let from_end = i64::try_from(sizes.len() - place).ok()?;
    Some((i64::try_from(sizes[place]).ok()?, -from_end))
}

impl Norm {
    /// The scale and the offset, as far as there are such.
    fn parameters(&self) -> impl Iterator<Item = &Tensor> {
        self.scale.iter().chain(&self.offset)
    }

    /// The size of the last dimension, if mean and variance are those of `x` along it.
    fn layer_size(&self, b: &Builder) -> Option<i64> {
        let rank = i64::try_from(self.x.rank()?).ok()?;
        let size = self.x.shape.dim(-1)?;
        let mean_of = |mean: &Tensor| {
            let origin = b.origin(mean, &["Mean"])?;
            let [of, axes] = origin.inputs.as_slice() else {
                return None;
            };
            let is_last =
                matches!(axes.ints()?.as_slice(), [axis] if [-1, rank - 1].contains(axis));
            (is_last && mean.rank() == self.x.rank()).then(|| of.clone())
        };
        let squares = mean_of(&self.variance)?;
        let is_square = terms(b, &squares, &["SquaredDifference"])
            .iter()
            .any(|(x, mean)| same(x, &self.x) && same(mean, &self.mean));
        let is_mean = mean_of(&self.mean).is_some_and(|it| same(&it, &self.x));
        let mut parameters = self.parameters();
        let is_along =
            parameters.all(|it| it.dtype == DataType::Float && vector(it) == Some((size, -1)));
        (is_square && is_mean && is_along).then_some(size)
    }

    fn layer(&self, b: &mut Builder, size: i64) -> Result<Option<Tensor>> {
        let is_along = |it: &Tensor| it.dtype == DataType::Float && vector(it) == Some((size, -1));
        if !self.parameters().all(is_along) {
            return Ok(None);
        }
        let scale = parameter(b, self.scale.as_ref(), size, 1.0)?;
        let offset = match &self.offset {
            Some(offset) => b.reshape(offset, &[size])?,
            None => Tensor::absent(),
        };
        let result = b
            .op("LayerNormalization", &[&self.x, &scale, &offset])
            .int("axis", -1)
            .float("epsilon", self.epsilon)
            .same()?;
        b.note_fused(&result);
        Ok(Some(result))
    }

    /// The place of the channels, from the end, if all parameters are constants along them.
    fn batch_axis(&self) -> Option<i64> {
        let rank = i64::try_from(self.x.rank()?).ok()?;
        let place = vector(&self.mean)?;
        let mut all = self.parameters().chain([&self.mean, &self.variance]);
        let are_constant = all.all(|it| {
            it.as_constant().is_some() && it.dtype == DataType::Float && vector(it) == Some(place)
        });
        let (size, axis) = place;
        let is_channel = (axis == -1 || axis == 1 - rank) && (2..=5).contains(&rank);
        let is_found = are_constant && is_channel && self.x.shape.dim(axis) == Some(size);
        is_found.then_some(axis)
    }

    fn batch(&self, b: &mut Builder, axis: i64) -> Result<Option<Tensor>> {
        let Some((rank, size)) = self.x.rank().zip(self.x.shape.dim(axis)) else {
            return Ok(None);
        };
        let rank = rank as i64;
        let scale = parameter(b, self.scale.as_ref(), size, 1.0)?;
        let offset = parameter(b, self.offset.as_ref(), size, 0.0)?;
        let mean = parameter(b, Some(&self.mean), size, 0.0)?;
        let variance = parameter(b, Some(&self.variance), size, 1.0)?;
        let is_last = axis == -1 && rank > 2;
        let order: Vec<i64> = match is_last {
            true => [0, rank - 1].into_iter().chain(1..rank - 1).collect(),
            false => (0..rank).collect(),
        };
        let first = b.transpose(&self.x, &order)?;
        let result = b
            .op(
                "BatchNormalization",
                &[&first, &scale, &offset, &mean, &variance],
            )
            .float("epsilon", self.epsilon)
            .same()?;
        b.note_fused(&result);
        let order: Vec<i64> = match is_last {
            true => [0].into_iter().chain(2..rank).chain([1]).collect(),
            false => order,
        };
        b.transpose(&result, &order).map(Some)
    }
}

/// A parameter as a vector; a vector of one number if it is left out.
fn parameter(b: &mut Builder, x: Option<&Tensor>, size: i64, otherwise: f32) -> Result<Tensor> {
    match x {
        Some(x) => b.reshape(x, &[size]),
        None => usize::try_from(size)
            .ok()
            .filter(|&it| it <= 1 << 24)
            .and_then(|it| Elements::from_vec(&[it], vec![otherwise; it]))
            .map(Tensor::constant)
            .ok_or_else(|| Refusal::new("has too many channels")),
    }
}
