//! Images: resizing and patches.
//!
//! Not here: crops (`crop`), the weights of a resize that is written out (`resample`).

use base::tensor::DataType;

use super::Table;
use super::resample::{self, Grid};
use super::spatial::{Layout, Padding, Window};
use super::windows::windows;
use crate::builder::Builder;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

pub(super) const TABLE: Table = &[
    ("ExtractImagePatches", Pure(|b, op| patches(b, op, 2))),
    ("ExtractVolumePatches", Pure(|b, op| patches(b, op, 3))),
    ("ResizeArea", Pure(area)),
    ("ResizeBicubic", Pure(bicubic)),
    ("ResizeBilinear", Pure(bilinear)),
    ("ResizeNearestNeighbor", Pure(nearest)),
];

/// Images always have their channels last.
pub(super) const LAYOUT: Layout = Layout {
    is_first: false,
    spatial: 2,
};

/// The images and the new sizes, an int64 vector that is checked to be positive.
fn images_and_sizes(b: &mut Builder, op: &Op<'_>) -> Result<(Tensor, Tensor)> {
    let x = LAYOUT.ranked(op.input(0)?)?;
    let sizes = b.cast(op.input(1)?, DataType::Int64)?;
    let sizes = sizes.with_shape(Shape::fixed(&[2]));
    Ok((x, positive(b, &sizes)?))
}

/// The same vector of sizes; TensorFlow refuses sizes that are not positive.
pub(super) fn positive(b: &mut Builder, sizes: &Tensor) -> Result<Tensor> {
    if let Some(known) = sizes.elements()
        && known.iter().all(|it| it.is_some_and(|it| it > 0))
    {
        return Ok(sizes.clone());
    }
    let zero = b.i64s(&[0]);
    let is_positive = b.compare("Greater", sizes, &zero)?;
    b.require(sizes, &is_positive)
}

/// The shape of resized images.
fn resized(x: &Tensor, sizes: &Tensor) -> Shape {
    let at = |index: usize| *sizes.elements()?.get(index)?;
    Shape::dims([x.shape.dim(0), at(0), at(1), x.shape.dim(3)])
}

fn bilinear(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, sizes) = images_and_sizes(b, op)?;
    let grid = Grid::of(op)?;
    let shape = resized(&x, &sizes);
    let x = b.cast(&x, DataType::Float)?;
    let first = LAYOUT.to_first(b, &x)?;
    let absent = Tensor::absent();
    // All dimensions: ONNX Runtime moves transpositions through Resize as if it had no axes.
    let all = b.shape_of(&first)?;
    let outer = b.slice(&all, &[0], &[0], &[2], &[1])?;
    let sizes = b.concat(&[&outer, &sizes], 0)?;
    let dims = [0, 3, 1, 2].map(|axis| shape.dim(axis));
    let result = b
        .op("Resize", &[&first, &absent, &absent, &sizes])
        .text("mode", "linear")
        .text("coordinate_transformation_mode", grid.mode())
        .one(DataType::Float, Shape::dims(dims))?;
    one(LAYOUT.returned_from_first(b, &result)?)
}

/// Each element is copied, so it is read by its index: for all dtypes, and with TensorFlow's rounding.
fn nearest(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, sizes) = images_and_sizes(b, op)?;
    let grid = Grid::of(op)?;
    if let Some(factors) = factors(&x, &sizes, grid) {
        return one(repeat(b, &x, factors, resized(&x, &sizes))?);
    }
    let mut result = x;
    for axis in [1, 2] {
        let indices = resample::nearest(b, &result, axis, &sizes, grid)?;
        result = b.gather(&result, &indices, axis)?;
    }
    one(result)
}

/// How often each element is repeated in each direction, if that is all, for dtypes that ONNX Runtime resizes.
fn factors(x: &Tensor, sizes: &Tensor, grid: Grid) -> Option<[f32; 2]> {
    if !matches!(x.dtype, DataType::Float | DataType::UInt8) {
        return None;
    }
    let mut factors = [1.0; 2];
    for (index, factor) in factors.iter_mut().enumerate() {
        let from = x.shape.dim(index as i64 + 1)?;
        let to = *sizes.elements()?.get(index)?;
        *factor = resample::repeats(from, to?, grid)?;
    }
    Some(factors)
}

fn repeat(b: &mut Builder, x: &Tensor, factors: [f32; 2], shape: Shape) -> Result<Tensor> {
    let first = LAYOUT.to_first(b, x)?;
    let scales = [1.0, 1.0, factors[0], factors[1]].to_vec();
    let scales = base::tensor::Tensor::from_vec(&[4], scales)
        .map(Tensor::constant)
        .ok_or_else(|| Refusal::new("has sizes that are too large"))?;
    let dims = [0, 3, 1, 2].map(|axis| shape.dim(axis));
    let result = b
        .op("Resize", &[&first, &Tensor::absent(), &scales])
        .text("mode", "nearest")
        .text("coordinate_transformation_mode", "asymmetric")
        .text("nearest_mode", "floor")
        .one(x.dtype, Shape::dims(dims))?;
    LAYOUT.returned_from_first(b, &result)
}

fn bicubic(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, sizes) = images_and_sizes(b, op)?;
    let grid = Grid::of(op)?;
    let mut result = b.cast(&x, DataType::Float)?;
    for axis in [1, 2] {
        result = resample::cubic(b, &result, axis, &sizes, grid)?;
    }
    one(result)
}

fn area(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, sizes) = images_and_sizes(b, op)?;
    let grid = Grid::of(op)?;
    let mut result = b.cast(&x, DataType::Float)?;
    for axis in [1, 2] {
        result = resample::area(b, &result, axis, &sizes, grid)?;
    }
    one(result)
}

/// All windows, each as one vector along the channels.
fn patches(b: &mut Builder, op: &Op<'_>, spatial: usize) -> Translated {
    let layout = Layout {
        is_first: false,
        spatial,
    };
    let x = layout.ranked(op.input(0)?)?;
    let sizes = layout.spatial(op.attr_ints("ksizes"), "window")?;
    let strides = layout.spatial(op.attr_ints("strides"), "strides")?;
    let rates = layout.spatial(op.attr_ints("rates"), "rates")?;
    let padding = Padding::of(op, layout)?;
    let between = match x.dtype {
        DataType::Int8 | DataType::Int16 | DataType::UInt16 => DataType::Int32,
        DataType::BFloat16 | DataType::Half => DataType::Float,
        dtype => dtype,
    };
    let wide = b.cast(&x, between)?;
    let window = Window::new(b, &sizes, strides, rates);
    let elements = windows(b, &wide, &window, &padding, 0.0)?;
    let places = (0..spatial as i64).map(|it| 1 + 2 * it);
    let places: Vec<i64> = [0].into_iter().chain(places).collect();
    let offsets = (0..spatial as i64).map(|it| 2 + 2 * it);
    let order: Vec<i64> = places
        .iter()
        .copied()
        .chain(offsets)
        .chain([1 + 2 * spatial as i64])
        .collect();
    let elements = b.transpose(&elements, &order)?;
    let all = b.shape_of(&elements)?;
    let outer = b.slice(&all, &[0], &[0], &[places.len() as i64], &[1])?;
    let channels = b.slice(&all, &[0], &[-1], &[i64::MAX], &[1])?;
    let count = sizes
        .iter()
        .try_fold(1i64, |product, &it| product.checked_mul(it))
        .ok_or_else(|| Refusal::new("has a window that is too large"))?;
    let depth = b.binary("Mul", &channels, &b.i64s(&[count]))?;
    let sizes = b.concat(&[&outer, &depth], 0)?;
    let result = b.reshape_to(&elements, &sizes)?;
    one(b.cast(&result, x.dtype)?)
}
