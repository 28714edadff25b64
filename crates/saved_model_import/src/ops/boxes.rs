//! The choice of boxes that do not overlap: non-maximum suppression.
//!
//! Not here: scores that sink instead of being suppressed (`soft_boxes`), all classes together
//! (`class_boxes`).

use base::tensor::DataType;

use super::Table;
use super::scored_boxes::Boxes;
use super::soft_boxes;
use crate::builder::Builder;
use crate::op::{Op, Translated, many, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

pub(super) const TABLE: Table = &[
    ("NonMaxSuppression", Pure(first)),
    ("NonMaxSuppressionV2", Pure(second)),
    ("NonMaxSuppressionV3", Pure(third)),
    ("NonMaxSuppressionV4", Pure(fourth)),
    ("NonMaxSuppressionV5", Pure(fifth)),
];

impl Boxes {
    fn of(b: &mut Builder, op: &Op<'_>, has_score: bool) -> Result<Self> {
        let boxes = op.input(0)?.clone().with_shape(Shape::of_rank(2));
        let scores = op.input(1)?.clone().with_shape(Shape::of_rank(1));
        let overlap = match op.input(3) {
            Ok(overlap) => vector(b, overlap, DataType::Float)?,
            Err(_) => {
                let overlap = op.attr_float("iou_threshold").unwrap_or(0.5);
                let overlap = b.scalar(DataType::Float, f64::from(overlap))?;
                b.reshape(&overlap, &[1])?
            }
        };
        let score = match has_score {
            true => Some(vector(b, op.input(4)?, DataType::Float)?),
            false => None,
        };
        let max = vector(b, op.input(2)?, DataType::Int64)?;
        Ok(Self {
            boxes: b.cast(&boxes, DataType::Float)?,
            scores: b.cast(&scores, DataType::Float)?,
            max: at_least(b, &max, 0)?,
            overlap,
            score,
        })
    }

    /// The indices of the chosen boxes, the highest score first: an int64 vector.
    fn choose(&self, b: &mut Builder) -> Result<Tensor> {
        let boxes = b.unsqueeze(&self.boxes, &[0])?;
        let scores = b.unsqueeze(&self.scores, &[0, 1])?;
        let score = self.score.clone().unwrap_or_else(Tensor::absent);
        let rows = b
            .op(
                "NonMaxSuppression",
                &[&boxes, &scores, &self.max, &self.overlap, &score],
            )
            .one(DataType::Int64, Shape::dims([None, Some(3)]))?;
        b.gather(&rows, &b.i64(2), 1)
    }

    /// Zeros after the elements of a vector, up to the number of boxes that were asked for.
    fn padded(&self, b: &mut Builder, x: &Tensor) -> Result<Tensor> {
        let count = b.shape_of(x)?;
        let missing = b.binary("Sub", &self.max, &count)?;
        let pads = b.concat(&[&b.i64s(&[0]), &missing], 0)?;
        let shape = Shape::dims([self.max.int()]);
        b.op("Pad", &[x, &pads]).one(x.dtype, shape)
    }
}

/// The only element of a tensor as a vector.
pub(super) fn vector(b: &mut Builder, x: &Tensor, dtype: DataType) -> Result<Tensor> {
    let x = b.cast(x, dtype)?;
    b.reshape(&x, &[1])
}

/// The same int64 vector; the model fails for an element that is lower.
pub(super) fn at_least(b: &mut Builder, x: &Tensor, lowest: i64) -> Result<Tensor> {
    match x.ints() {
        Some(ints) if ints.iter().all(|&it| it >= lowest) => Ok(x.clone()),
        _ => {
            let condition = b.compare("GreaterOrEqual", x, &b.i64s(&[lowest]))?;
            b.require(x, &condition)
        }
    }
}

fn first(b: &mut Builder, op: &Op<'_>) -> Translated {
    hard(b, op, false)
}

fn second(b: &mut Builder, op: &Op<'_>) -> Translated {
    hard(b, op, false)
}

fn third(b: &mut Builder, op: &Op<'_>) -> Translated {
    hard(b, op, true)
}

fn hard(b: &mut Builder, op: &Op<'_>, has_score: bool) -> Translated {
    let chosen = Boxes::of(b, op, has_score)?.choose(b)?;
    one(b.cast(&chosen, DataType::Int32)?)
}

fn fourth(b: &mut Builder, op: &Op<'_>) -> Translated {
    let boxes = Boxes::of(b, op, true)?;
    let mut chosen = boxes.choose(b)?;
    let count = count(b, &chosen)?;
    if op.attr_flag("pad_to_max_output_size") {
        chosen = boxes.padded(b, &chosen)?;
    }
    many([b.cast(&chosen, DataType::Int32)?, count])
}

/// Also returns the scores, which sink with the overlap if `soft_nms_sigma` is not 0.
fn fifth(b: &mut Builder, op: &Op<'_>) -> Translated {
    let boxes = Boxes::of(b, op, true)?;
    let sigma = vector(b, op.input(5)?, DataType::Float)?;
    #[allow(clippy::float_cmp)]
    let is_hard = sigma.as_scalar::<f32>() == Some(0.0) || half_zero(op);
    let (mut chosen, mut scores) = match is_hard {
        true => {
            let chosen = boxes.choose(b)?;
            let scores = b.gather(&boxes.scores, &chosen, 0)?;
            (chosen, scores)
        }
        // Rounded to half precision, other scores would be the same.
        false if op.input(1)?.dtype != DataType::Float => {
            return Err(Refusal::new("lets scores sink in half precision"));
        }
        false => soft_boxes::choose(b, &boxes, &sigma)?,
    };
    let count = count(b, &chosen)?;
    if op.attr_flag("pad_to_max_output_size") {
        chosen = boxes.padded(b, &chosen)?;
        scores = boxes.padded(b, &scores)?;
    }
    let dtype = op.input(1)?.dtype;
    many([
        b.cast(&chosen, DataType::Int32)?,
        b.cast(&scores, dtype)?,
        count,
    ])
}

/// Whether `soft_nms_sigma` is the constant 0 in half precision.
fn half_zero(op: &Op<'_>) -> bool {
    let sigma = op.input(5).ok().and_then(|it| it.as_constant());
    let bytes = sigma.filter(|it| it.dtype() == DataType::Half);
    bytes
        .and_then(|it| it.bytes())
        .is_some_and(|it| it.iter().all(|it| *it == 0))
}

/// The length of a vector, an int32 scalar.
fn count(b: &mut Builder, x: &Tensor) -> Result<Tensor> {
    let count = b.shape_of(x)?;
    let count = b.cast(&count, DataType::Int32)?;
    b.squeeze(&count, &[0])
}
