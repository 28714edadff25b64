//! Non-maximum suppression in which the scores of boxes that overlap sink (`NonMaxSuppressionV5`).
//!
//! TensorFlow's kernel takes the best box from a queue and lets its score sink by the boxes that were chosen
//! since it was last looked at. Here the scores of all boxes sink with each choice; the choices are the same.

use base::tensor::{DataType, Tensor as Elements};

use super::scored_boxes::Boxes;
use crate::builder::Builder;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

/// The tensors that an iteration reads.
struct Around {
    /// `[boxes, 1]`: the lower and the upper edges, in both directions, and the areas.
    low: [Tensor; 2],
    high: [Tensor; 2],
    area: Tensor,
    /// Float vectors with one element.
    overlap: Tensor,
    score: Tensor,
    /// The factor of the squared overlap in the exponent: 0 for a sigma of 0.
    factor: Tensor,
    is_soft: Tensor,
    lowest: Tensor,
    places: Tensor,
}

/// The indices and the scores of the chosen boxes.
pub(super) fn choose(b: &mut Builder, boxes: &Boxes, sigma: &Tensor) -> Result<(Tensor, Tensor)> {
    let lowest = constant(&[1], vec![f32::NEG_INFINITY])?;
    // A last box that is never chosen, so that there is one.
    let empty = constant(&[1, 4], vec![0f32; 4])?;
    let corners = b.concat(&[&boxes.boxes, &empty], 0)?;
    let scores = b.concat(&[&boxes.scores, &lowest], 0)?;
    let score = boxes.score.clone().unwrap_or_else(|| lowest.clone());
    let around = Around::new(b, &corners, boxes, sigma, score, lowest)?;
    let is_candidate = b.compare("Greater", &scores, &around.score)?;
    let scores = b.choose(&is_candidate, &scores, &around.lowest)?;
    let go_on = around.is_any(b, &scores)?;
    let max = b.squeeze(&boxes.max, &[0])?;
    b.open_graph();
    let body = around.iteration(b, &scores);
    let body = (b.close_graph(), body?).0;
    let mut results = b
        .op("Loop", &[&max, &go_on, &scores])
        .graph("body", body)
        .many([
            (DataType::Float, scores.shape.clone()),
            (DataType::Int64, Shape::of_rank(1)),
            (DataType::Float, Shape::of_rank(1)),
        ])?;
    let chosen_scores = results.swap_remove(2);
    Ok((results.swap_remove(1), chosen_scores))
}

fn constant(shape: &[usize], values: Vec<f32>) -> Result<Tensor> {
    Elements::from_vec(shape, values)
        .map(Tensor::constant)
        .ok_or_else(|| Refusal::new("has a constant of another size"))
}

impl Around {
    fn new(
        b: &mut Builder,
        corners: &Tensor,
        boxes: &Boxes,
        sigma: &Tensor,
        score: Tensor,
        lowest: Tensor,
    ) -> Result<Self> {
        let edge = |b: &mut Builder, op: &str, index: i64| {
            let one = b.slice(corners, &[1], &[index], &[index + 1], &[1])?;
            let other = b.slice(corners, &[1], &[index + 2], &[index + 3], &[1])?;
            let edge = b.binary(op, &one, &other)?;
            b.squeeze(&edge, &[1])
        };
        let low = [edge(b, "Min", 0)?, edge(b, "Min", 1)?];
        let high = [edge(b, "Max", 0)?, edge(b, "Max", 1)?];
        let height = b.binary("Sub", &high[0], &low[0])?;
        let width = b.binary("Sub", &high[1], &low[1])?;
        let area = b.binary("Mul", &height, &width)?;
        let zero = b.scalar(DataType::Float, 0.0)?;
        let is_soft = b.compare("Greater", sigma, &zero)?;
        let one = b.scalar(DataType::Float, 1.0)?;
        let divisor = b.choose(&is_soft, sigma, &one)?;
        let factor = b.binary("Div", &b.scalar(DataType::Float, -0.5)?, &divisor)?;
        let factor = b.choose(&is_soft, &factor, &zero)?;
        let count = b.op("Shape", &[corners]).int("end", 1);
        let count = count.one(DataType::Int64, Shape::fixed(&[1]))?;
        let places = super::windows::range(b, &count)?;
        Ok(Self {
            low,
            high,
            area,
            overlap: boxes.overlap.clone(),
            score,
            factor,
            is_soft,
            lowest,
            places,
        })
    }

    /// Whether a box is left, a bool scalar.
    fn is_any(&self, b: &mut Builder, scores: &Tensor) -> Result<Tensor> {
        let best = b.reduce("ReduceMax", scores, Some(&[0]), true)?;
        let is_any = b.compare("Greater", &best, &self.score)?;
        b.squeeze(&is_any, &[0])
    }

    /// The body of the loop: chooses the best box, and lets the scores of the others sink.
    fn iteration(&self, b: &mut Builder, scores: &Tensor) -> Result<()> {
        b.input("iteration", DataType::Int64, Shape::scalar())?;
        b.input("go_on", DataType::Bool, Shape::scalar())?;
        let scores = b.input(
            "scores",
            DataType::Float,
            Shape::of_rank(scores.rank().unwrap_or(1)),
        )?;
        let best = b
            .op("ArgMax", &[&scores])
            .int("axis", 0)
            .int("keepdims", 1)
            .one(DataType::Int64, Shape::fixed(&[1]))?;
        let score = b.gather(&scores, &best, 0)?;
        let overlap = self.overlap_with(b, &best)?;
        let left = self.sunk(b, &scores, &overlap)?;
        let is_best = b.compare("Equal", &self.places, &best)?;
        let left = b.choose(&is_best, &self.lowest, &left)?;
        let go_on = self.is_any(b, &left)?;
        let (best, score) = (b.squeeze(&best, &[0])?, b.squeeze(&score, &[0])?);
        b.output("go_on", &go_on)?;
        b.output("left", &left)?;
        b.output("best", &best)?;
        b.output("score", &score)?;
        Ok(())
    }

    /// The area that each box shares with the chosen one, as part of the area of both.
    fn overlap_with(&self, b: &mut Builder, best: &Tensor) -> Result<Tensor> {
        let zero = b.scalar(DataType::Float, 0.0)?;
        let mut shared = None;
        for (low, high) in self.low.iter().zip(&self.high) {
            let (own_low, own_high) = (b.gather(low, best, 0)?, b.gather(high, best, 0)?);
            let start = b.binary("Max", low, &own_low)?;
            let end = b.binary("Min", high, &own_high)?;
            let length = b.binary("Sub", &end, &start)?;
            let length = b.binary("Max", &length, &zero)?;
            shared = Some(match shared {
                Some(shared) => b.binary("Mul", &shared, &length)?,
                None => length,
            });
        }
        let shared = shared.unwrap_or_else(|| zero.clone());
        let own = b.gather(&self.area, best, 0)?;
        let both = b.binary("Add", &self.area, &own)?;
        let both = b.binary("Sub", &both, &shared)?;
        let overlap = b.binary("Div", &shared, &both)?;
        // A box without an area overlaps with none.
        let least = b.binary("Min", &self.area, &own)?;
        let has_area = b.compare("Greater", &least, &zero)?;
        b.choose(&has_area, &overlap, &zero)
    }

    /// The scores after a choice; the lowest for boxes that stopped being candidates.
    fn sunk(&self, b: &mut Builder, scores: &Tensor, overlap: &Tensor) -> Result<Tensor> {
        let square = b.binary("Mul", overlap, overlap)?;
        let exponent = b.binary("Mul", &square, &self.factor)?;
        let weight = b.unary("Exp", &exponent)?;
        let is_near = b.compare("Greater", overlap, &self.overlap)?;
        let sunk = b.binary("Mul", scores, &weight)?;
        // Only without sinking a box that is near is suppressed.
        let suppressed = b.choose(&self.is_soft, &sunk, &self.lowest)?;
        let sunk = b.choose(&is_near, &suppressed, &sunk)?;
        let was_candidate = b.compare("Greater", scores, &self.score)?;
        let sunk = b.choose(&was_candidate, &sunk, &self.lowest)?;
        let is_candidate = b.compare("Greater", &sunk, &self.score)?;
        b.choose(&is_candidate, &sunk, &self.lowest)
    }
}
