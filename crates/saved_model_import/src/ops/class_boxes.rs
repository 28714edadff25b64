//! Non-maximum suppression of all classes and images together (`CombinedNonMaxSuppression`).

use base::tensor::{DataType, Tensor as Elements};

use super::Table;
use super::boxes::{at_least, vector};
use crate::builder::Builder;
use crate::op::{Op, Translated, many};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

pub(super) const TABLE: Table = &[("CombinedNonMaxSuppression", Pure(combined))];

/// The sizes of the inputs, int64 vectors with one element.
struct Sizes {
    images: Tensor,
    boxes: Tensor,
    classes: Tensor,
}

fn combined(b: &mut Builder, op: &Op<'_>) -> Translated {
    let boxes = op.input(0)?.clone().with_shape(Shape::of_rank(4));
    let scores = op.input(1)?.clone().with_shape(Shape::of_rank(3));
    let all = b.shape_of(&scores)?;
    let at = |b: &mut Builder, axis: i64| b.slice(&all, &[0], &[axis], &[axis + 1], &[1]);
    let sizes = Sizes {
        images: at(b, 0)?,
        boxes: at(b, 1)?,
        classes: at(b, 2)?,
    };
    let per_class = vector(b, op.input(2)?, DataType::Int64)?;
    let per_class = at_least(b, &per_class, 1)?;
    let total = vector(b, op.input(3)?, DataType::Int64)?;
    let mut total = at_least(b, &total, 1)?;
    if op.attr_flag("pad_per_class") {
        let all = b.binary("Mul", &per_class, &sizes.classes)?;
        total = b.binary("Min", &total, &all)?;
    }
    // [images, classes, boxes]
    let scores = b.transpose(&scores, &[0, 2, 1])?;
    let is_shared = boxes.shape.dim(2) == Some(1);
    let boxes = match is_shared {
        true => b.squeeze(&boxes, &[2])?,
        false => for_each_class(b, &boxes, &sizes)?,
    };
    let kept = kept_scores(b, op, &boxes, &scores, &per_class, &sizes, is_shared)?;
    let best = Best::new(b, &kept, &total, &sizes)?;
    let chosen = best.boxes(b, &boxes, &sizes, is_shared)?;
    // The boxes are clipped unless the attribute says otherwise.
    let chosen = match op.attr("clip_boxes").is_none() || op.attr_flag("clip_boxes") {
        true => {
            let limits = [
                b.scalar(DataType::Float, 0.0)?,
                b.scalar(DataType::Float, 1.0)?,
            ];
            let chosen = b.binary("Max", &chosen, &limits[0])?;
            b.binary("Min", &chosen, &limits[1])?
        }
        false => chosen,
    };
    let zero = b.scalar(DataType::Float, 0.0)?;
    let scores = b.choose(&best.is_valid, &best.scores, &zero)?;
    let classes = b.binary("Div", &best.places, &sizes.boxes)?;
    let classes = b.cast(&classes, DataType::Float)?;
    let classes = b.choose(&best.is_valid, &classes, &zero)?;
    let valid = b.cast(&best.is_valid, DataType::Int32)?;
    let valid = b.reduce("ReduceSum", &valid, Some(&[1]), false)?;
    many([chosen, scores, classes, valid])
}

/// Boxes that each class has of its own: `[images * classes, boxes, 4]`.
fn for_each_class(b: &mut Builder, boxes: &Tensor, sizes: &Sizes) -> Result<Tensor> {
    let one = b.i64s(&[1]);
    let target = b.concat(&[&one, &one, &sizes.classes, &one], 0)?;
    let boxes = b.expand(boxes, &target)?;
    let boxes = b.transpose(&boxes, &[0, 2, 1, 3])?;
    let images = b.binary("Mul", &sizes.images, &sizes.classes)?;
    let target = b.concat(&[&images, &sizes.boxes, &b.i64s(&[4])], 0)?;
    b.reshape_to(&boxes, &target)
}

/// The scores of the boxes that are chosen in their class, minus infinity for the others:
/// `[images, classes * boxes]`.
fn kept_scores(
    b: &mut Builder,
    op: &Op<'_>,
    boxes: &Tensor,
    scores: &Tensor,
    per_class: &Tensor,
    sizes: &Sizes,
    is_shared: bool,
) -> Result<Tensor> {
    let overlap = vector(b, op.input(4)?, DataType::Float)?;
    let threshold = vector(b, op.input(5)?, DataType::Float)?;
    let classes = match is_shared {
        true => sizes.classes.clone(),
        false => b.i64s(&[1]),
    };
    let shape = b.shape_of(boxes)?;
    let images = b.slice(&shape, &[0], &[0], &[1], &[1])?;
    let target = b.concat(&[&images, &classes, &sizes.boxes], 0)?;
    let grouped = b.reshape_to(scores, &target)?;
    let rows = b
        .op(
            "NonMaxSuppression",
            &[boxes, &grouped, per_class, &overlap, &threshold],
        )
        .one(DataType::Int64, Shape::dims([None, Some(3)]))?;
    // The place of each among the scores.
    let strides = b.binary("Mul", &classes, &sizes.boxes)?;
    let strides = b.concat(&[&strides, &sizes.boxes, &b.i64s(&[1])], 0)?;
    let places = b.binary("Mul", &rows, &strides)?;
    let places = b.reduce("ReduceSum", &places, Some(&[1]), false)?;
    let flat = b.reshape(scores, &[-1])?;
    let found = b.gather(&flat, &places, 0)?;
    let lowest = b.scalar(DataType::Float, f64::NEG_INFINITY)?;
    let count = b.shape_of(&flat)?;
    let nothing = b.expand(&lowest, &count)?;
    let kept = b
        .op("ScatterElements", &[&nothing, &places, &found])
        .int("axis", 0)
        .one(DataType::Float, nothing.shape.clone())?;
    let each = b.binary("Mul", &sizes.classes, &sizes.boxes)?;
    let target = b.concat(&[&sizes.images, &each], 0)?;
    b.reshape_to(&kept, &target)
}

/// The best of each image: `[images, detections]`.
struct Best {
    scores: Tensor,
    /// The places among the scores of an image; 0 where there are not enough.
    places: Tensor,
    is_valid: Tensor,
}

impl Best {
    fn new(b: &mut Builder, kept: &Tensor, total: &Tensor, sizes: &Sizes) -> Result<Self> {
        let all = b.binary("Mul", &sizes.classes, &sizes.boxes)?;
        let count = b.binary("Min", total, &all)?;
        let shape = Shape::dims([kept.shape.dim(0), count.int()]);
        let best = b
            .op("TopK", &[kept, &count])
            .int("axis", 1)
            .many([(DataType::Float, shape.clone()), (DataType::Int64, shape)])?;
        let missing = b.binary("Sub", total, &count)?;
        let zeros = b.i64s(&[0, 0, 0]);
        let pads = b.concat(&[&zeros, &missing], 0)?;
        let shape = Shape::dims([kept.shape.dim(0), total.int()]);
        let lowest = b.scalar(DataType::Float, f64::NEG_INFINITY)?;
        let scores = b
            .op("Pad", &[&best[0], &pads, &lowest])
            .one(DataType::Float, shape.clone())?;
        let places = b
            .op("Pad", &[&best[1], &pads])
            .one(DataType::Int64, shape)?;
        let is_valid = b.compare("Greater", &scores, &lowest)?;
        Ok(Self {
            scores,
            places,
            is_valid,
        })
    }

    /// The boxes, zeros where there are not enough: `[images, detections, 4]`.
    fn boxes(
        &self,
        b: &mut Builder,
        boxes: &Tensor,
        sizes: &Sizes,
        is_shared: bool,
    ) -> Result<Tensor> {
        let all = b.reshape(boxes, &[-1, 4])?;
        // A last box, so that there is one.
        let empty = Elements::from_vec(&[1, 4], vec![0f32; 4])
            .map(Tensor::constant)
            .ok_or_else(|| Refusal::new("has no boxes"))?;
        let all = b.concat(&[&all, &empty], 0)?;
        let (place, each) = match is_shared {
            true => {
                let row = b
                    .op("Mod", &[&self.places, &sizes.boxes])
                    .one(DataType::Int64, self.places.shape.clone())?;
                (row, sizes.boxes.clone())
            }
            false => {
                let each = b.binary("Mul", &sizes.classes, &sizes.boxes)?;
                (self.places.clone(), each)
            }
        };
        let images = super::spatial::range(b, &sizes.images)?;
        let starts = b.binary("Mul", &images, &each)?;
        let starts = b.unsqueeze(&starts, &[1])?;
        let place = b.binary("Add", &place, &starts)?;
        let chosen = b.gather(&all, &place, 0)?;
        let is_valid = b.unsqueeze(&self.is_valid, &[2])?;
        let zero = b.scalar(DataType::Float, 0.0)?;
        b.choose(&is_valid, &chosen, &zero)
    }
}
