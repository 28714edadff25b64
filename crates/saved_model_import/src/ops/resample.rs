//! Resizing along one dimension of a batch of images, written out: which elements count, and how much.
//!
//! The arithmetic is that of TensorFlow's kernels, in float.
//!
//! Not here: the operators (`image`).

use base::tensor::DataType;

use crate::builder::Builder;
use crate::op::Op;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

/// How the places of old and new elements relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grid {
    /// The first elements have the same place.
    Legacy,
    /// The first elements do, and the last.
    Corners,
    /// The outer edges of the images do.
    HalfPixel,
}

impl Grid {
    pub(super) fn of(op: &Op<'_>) -> Result<Self> {
        match (
            op.attr_flag("align_corners"),
            op.attr_flag("half_pixel_centers"),
        ) {
            (true, true) => Err(Refusal::new(
                "has both align_corners and half_pixel_centers",
            )),
            (true, false) => Ok(Self::Corners),
            (false, true) => Ok(Self::HalfPixel),
            (false, false) => Ok(Self::Legacy),
        }
    }

    /// ONNX's name.
    pub(super) fn mode(self) -> &'static str {
        match self {
            Self::Legacy => "asymmetric",
            Self::Corners => "align_corners",
            Self::HalfPixel => "half_pixel",
        }
    }
}

/// The sizes of a dimension before and after, and the scale that follows from them.
struct Axis {
    /// int64 scalars.
    from: Tensor,
    /// The new places, an int64 vector, as floats.
    places: Tensor,
    /// A float scalar: the distance between two new elements, in old ones.
    scale: Tensor,
}

impl Axis {
    /// `axis` is 1 for the height, and 2 for the width.
    fn new(b: &mut Builder, x: &Tensor, axis: i64, sizes: &Tensor, grid: Grid) -> Result<Self> {
        let all = b.shape_of(x)?;
        let from = b.gather(&all, &b.i64(axis), 0)?;
        let to = b.gather(sizes, &b.i64(axis - 1), 0)?;
        let places = super::windows::range(b, &to)?;
        let places = b.cast(&places, DataType::Float)?;
        let (old, new) = (
            b.cast(&from, DataType::Float)?,
            b.cast(&to, DataType::Float)?,
        );
        let mut scale = b.binary("Div", &old, &new)?;
        if grid == Grid::Corners {
            let float = |b: &Builder, it| b.scalar(DataType::Float, it);
            let one = float(b, 1.0)?;
            let (less_old, less_new) = (b.binary("Sub", &old, &one)?, b.binary("Sub", &new, &one)?);
            // One new element is at the first place with any scale; but it must not be 0 / 0.
            let divisor = b.binary("Max", &less_new, &one)?;
            let corners = b.binary("Div", &less_old, &divisor)?;
            let several = b.compare("Greater", &new, &one)?;
            scale = b.choose(&several, &corners, &scale)?;
        }
        Ok(Self {
            from,
            places,
            scale,
        })
    }

    /// The last old index, as a float.
    fn last(&self, b: &mut Builder) -> Result<Tensor> {
        let last = b.binary("Sub", &self.from, &b.i64(1))?;
        b.cast(&last, DataType::Float)
    }
}

fn float(b: &Builder, value: f64) -> Result<Tensor> {
    b.scalar(DataType::Float, value)
}

/// The index of the old element for each new one.
pub(super) fn nearest(
    b: &mut Builder,
    x: &Tensor,
    axis: i64,
    sizes: &Tensor,
    grid: Grid,
) -> Result<Tensor> {
    let along = Axis::new(b, x, axis, sizes, grid)?;
    let half = float(b, 0.5)?;
    let place = match grid {
        Grid::Legacy => b.binary("Mul", &along.places, &along.scale)?,
        Grid::HalfPixel => {
            let centers = b.binary("Add", &along.places, &half)?;
            b.binary("Mul", &centers, &along.scale)?
        }
        Grid::Corners => {
            let place = b.binary("Mul", &along.places, &along.scale)?;
            rounded(b, &place)?
        }
    };
    let index = b.unary("Floor", &place)?;
    let last = along.last(b)?;
    let index = b.binary("Min", &index, &last)?;
    b.cast(&index, DataType::Int64)
}

/// Floats that are not negative, rounded as C's `roundf` does: halves up.
pub(super) fn rounded(b: &mut Builder, x: &Tensor) -> Result<Tensor> {
    let floor = b.unary("Floor", x)?;
    let rest = b.binary("Sub", x, &floor)?;
    let is_up = b.compare("GreaterOrEqual", &rest, &float(b, 0.5)?)?;
    let next = b.binary("Add", &floor, &float(b, 1.0)?)?;
    b.choose(&is_up, &next, &floor)
}

/// How often each old element is repeated, if the new ones are just that.
#[allow(clippy::cast_precision_loss)]
pub(super) fn repeats(from: i64, to: i64, grid: Grid) -> Option<f32> {
    /// The floats that the places are computed with are exact up to here.
    const MAX: i64 = 1 << 16;
    let is_small = (1..=MAX).contains(&from) && (1..=MAX).contains(&to);
    if !is_small || to % from != 0 || grid == Grid::Corners {
        return None;
    }
    let (factor, scale) = (to / from, from as f32 / to as f32);
    let offset = if grid == Grid::HalfPixel { 0.5 } else { 0.0 };
    let is_repeated = (0..to).all(|place| {
        let index = ((place as f32 + offset) * scale).floor();
        index.min((from - 1) as f32) == (place / factor) as f32
    });
    is_repeated.then_some(factor as f32)
}

/// TensorFlow reads the weights from a table with this many steps between two elements.
const STEPS: f64 = 1024.0;

/// Four old elements count for each new one, with the weights of a cubic.
pub(super) fn cubic(
    b: &mut Builder,
    x: &Tensor,
    axis: i64,
    sizes: &Tensor,
    grid: Grid,
) -> Result<Tensor> {
    let along = Axis::new(b, x, axis, sizes, grid)?;
    let (first, before) = table_place(b, &along, grid)?;
    let after = b.binary("Sub", &float(b, 1.0)?, &before)?;
    let (last, zero) = (along.last(b)?, float(b, 0.0)?);
    let is_keys = grid == Grid::HalfPixel;
    let mut taps = Vec::new();
    let mut total: Option<Tensor> = None;
    for (distance, from, is_far) in [
        (-1.0, &before, true),
        (0.0, &before, false),
        (1.0, &after, false),
        (2.0, &after, true),
    ] {
        let wanted = b.binary("Add", &first, &float(b, distance)?)?;
        let index = b.binary("Max", &wanted, &zero)?;
        let index = b.binary("Min", &index, &last)?;
        let mut weight = weight(b, from, is_far, is_keys)?;
        if is_keys {
            // Elements outside do not count.
            let is_inside = b.compare("Equal", &index, &wanted)?;
            weight = b.choose(&is_inside, &weight, &zero)?;
            total = Some(match total {
                Some(total) => b.binary("Add", &total, &weight)?,
                None => weight.clone(),
            });
        }
        taps.push((b.cast(&index, DataType::Int64)?, weight));
    }
    let mut sum: Option<Tensor> = None;
    let behind: Vec<i64> = (1..4 - axis).collect();
    for (index, mut weight) in taps {
        if let Some(total) = &total {
            weight = b.binary("Div", &weight, total)?;
        }
        let weight = b.unsqueeze(&weight, &behind)?;
        let elements = b.gather(x, &index, axis)?;
        let part = b.binary("Mul", &elements, &weight)?;
        sum = Some(match sum {
            Some(sum) => b.binary("Add", &sum, &part)?,
            None => part,
        });
    }
    sum.ok_or_else(|| Refusal::new("has no weights"))
}

/// For each new element, the old one before it, and the distance to that as the table has it.
fn table_place(b: &mut Builder, along: &Axis, grid: Grid) -> Result<(Tensor, Tensor)> {
    let place = match grid {
        Grid::HalfPixel => {
            let half = float(b, 0.5)?;
            let centers = b.binary("Add", &along.places, &half)?;
            let centers = b.binary("Mul", &centers, &along.scale)?;
            b.binary("Sub", &centers, &half)?
        }
        _ => b.binary("Mul", &along.places, &along.scale)?,
    };
    let first = b.unary("Floor", &place)?;
    let steps = float(b, STEPS)?;
    let step = b.binary("Sub", &place, &first)?;
    let step = b.binary("Mul", &step, &steps)?;
    let step = b.unary("Round", &step)?;
    let distance = b.binary("Div", &step, &steps)?;
    Ok((first, distance))
}

/// The weight of an element at a distance up to 1, or, if it is far, up to 2: the distance without that 1.
fn weight(b: &mut Builder, distance: &Tensor, is_far: bool, is_keys: bool) -> Result<Tensor> {
    let a = if is_keys { -0.5 } else { -0.75 };
    // The coefficients of the polynomial, from the highest power.
    let coefficients = match is_far {
        false => [a + 2.0, -(a + 3.0), 0.0, 1.0],
        true => [a, -5.0 * a, 8.0 * a, -4.0 * a],
    };
    let x = match is_far {
        true => b.binary("Add", distance, &float(b, 1.0)?)?,
        false => distance.clone(),
    };
    let mut sum = b.binary("Mul", &x, &float(b, coefficients[0])?)?;
    for (index, &coefficient) in coefficients.iter().enumerate().skip(1) {
        sum = b.binary("Add", &sum, &float(b, coefficient)?)?;
        if index < 3 {
            sum = b.binary("Mul", &sum, &x)?;
        }
    }
    Ok(sum)
}

/// Each new element is the average of the old ones that it covers, in part or entirely: a product with a matrix.
pub(super) fn area(
    b: &mut Builder,
    x: &Tensor,
    axis: i64,
    sizes: &Tensor,
    grid: Grid,
) -> Result<Tensor> {
    let along = Axis::new(b, x, axis, sizes, grid)?;
    let one = float(b, 1.0)?;
    // With one element whose corners are aligned the scale is 0; then any other does as well.
    let scale = b.binary("Max", &along.scale, &float(b, 1e-6)?)?;
    let start = b.binary("Mul", &along.places, &scale)?;
    let end = b.binary("Add", &along.places, &one)?;
    let end = b.binary("Mul", &end, &scale)?;
    let (start, end) = (b.unsqueeze(&start, &[1])?, b.unsqueeze(&end, &[1])?);
    let old = super::windows::range(b, &along.from)?;
    let old = b.cast(&old, DataType::Float)?;
    let next = b.binary("Add", &old, &one)?;
    // The last element counts for the part behind it too.
    let last = along.last(b)?;
    let is_last = b.compare("Equal", &old, &last)?;
    let next = b.choose(&is_last, &float(b, f64::from(f32::MAX))?, &next)?;
    let covered_to = b.binary("Min", &end, &next)?;
    let covered_from = b.binary("Max", &start, &old)?;
    let covered = b.binary("Sub", &covered_to, &covered_from)?;
    let covered = b.binary("Max", &covered, &float(b, 0.0)?)?;
    let all = b.reduce("ReduceSum", &covered, Some(&[1]), true)?;
    let weights = b.binary("Div", &covered, &all)?;
    // [batch, height, width, channels]: the dimension comes to the front of a matrix.
    let order = if axis == 1 {
        [0, 3, 1, 2]
    } else {
        [0, 1, 2, 3]
    };
    let moved = match axis {
        // [batch, channels, height, width]
        1 => b.transpose(x, &order)?,
        _ => x.clone(),
    };
    let shape = match axis {
        1 => Shape::dims([x.shape.dim(0), x.shape.dim(3), None, x.shape.dim(2)]),
        _ => Shape::dims([x.shape.dim(0), x.shape.dim(1), None, x.shape.dim(3)]),
    };
    let product = b
        .op("MatMul", &[&weights, &moved])
        .one(DataType::Float, shape)?;
    match axis {
        1 => b.transpose(&product, &[0, 2, 3, 1]),
        _ => Ok(product),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nearest_resize_by_a_factor_repeats() {
        for grid in [Grid::Legacy, Grid::HalfPixel] {
            assert_eq!(repeats(7, 14, grid), Some(2.0));
            assert_eq!(repeats(5, 15, grid), Some(3.0));
            assert_eq!(repeats(5, 5, grid), Some(1.0));
            assert_eq!(repeats(5, 12, grid), None);
            assert_eq!(repeats(0, 12, grid), None);
        }
        // The corners keep their places, so the elements between are not repeated equally often.
        assert_eq!(repeats(7, 14, Grid::Corners), None);
    }
}
