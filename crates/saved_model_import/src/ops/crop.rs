//! Crops of images that are resized to one size.

use base::tensor::DataType;

use super::Table;
use super::image::{LAYOUT, positive};
use super::resample::rounded;
use super::windows::range;
use crate::builder::{Builder, MICROSOFT};
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

pub(super) const TABLE: Table = &[("CropAndResize", Pure(crop_and_resize))];

fn crop_and_resize(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = LAYOUT.ranked(op.input(0)?)?;
    let x = b.cast(&x, DataType::Float)?;
    let boxes = op.input(1)?.clone().with_shape(Shape::of_rank(2));
    let boxes = b.cast(&boxes, DataType::Float)?;
    let of = op.input(2)?.clone().with_shape(Shape::of_rank(1));
    let sizes = b.cast(op.input(3)?, DataType::Int64)?;
    let sizes = sizes.with_shape(Shape::fixed(&[2]));
    let sizes = positive(b, &sizes)?;
    let outside = op.attr_float("extrapolation_value").unwrap_or(0.0);
    match op.attr_text("method") {
        "" | "bilinear" => one(bilinear(b, &x, &boxes, &of, &sizes, outside)?),
        "nearest" => one(nearest(b, &x, &boxes, &of, &sizes, outside)?),
        other => Err(Refusal::new(format!("has the method {other}"))),
    }
}

fn bilinear(
    b: &mut Builder,
    x: &Tensor,
    boxes: &Tensor,
    of: &Tensor,
    sizes: &Tensor,
    outside: f32,
) -> Result<Tensor> {
    let first = LAYOUT.to_first(b, x)?;
    let at = |index: usize| *sizes.elements()?.get(index)?;
    let shape = Shape::dims([boxes.shape.dim(0), x.shape.dim(3), at(0), at(1)]);
    let sizes = b.cast(sizes, DataType::Int32)?;
    let of = b.cast(of, DataType::Int32)?;
    let result = b
        .op("CropAndResize", &[&first, boxes, &of, &sizes])
        .domain(MICROSOFT)
        .text("mode", "bilinear")
        .float("extrapolation_value", outside)
        .one(DataType::Float, shape)?;
    LAYOUT.returned_from_first(b, &result)
}

/// Written out, with the arithmetic of TensorFlow's kernel: ONNX Runtime's rounds other places differently.
fn nearest(
    b: &mut Builder,
    x: &Tensor,
    boxes: &Tensor,
    of: &Tensor,
    sizes: &Tensor,
    outside: f32,
) -> Result<Tensor> {
    let of = b.cast(of, DataType::Int64)?;
    // A negative index would count from the end.
    let is_index = b.compare("GreaterOrEqual", &of, &b.i64s(&[0]))?;
    let of = b.require(&of, &is_index)?;
    let rows = along(b, x, boxes, sizes, 0)?;
    let columns = along(b, x, boxes, sizes, 1)?;
    // [boxes, height, width, (image, row, column)]
    let of = b.unsqueeze(&of, &[1, 2])?;
    let row = b.unsqueeze(&rows.index, &[2])?;
    let column = b.unsqueeze(&columns.index, &[1])?;
    let zeros = b.binary("Add", &row, &column)?;
    let zeros = b.binary("Mul", &zeros, &b.i64s(&[0]))?;
    let mut parts = Vec::new();
    for part in [&of, &row, &column] {
        let part = b.binary("Add", part, &zeros)?;
        parts.push(b.unsqueeze(&part, &[3])?);
    }
    let indices = b.concat(&[&parts[0], &parts[1], &parts[2]], 3)?;
    let shape = Shape::dims([boxes.shape.dim(0), None, None, x.shape.dim(3)]);
    let elements = b
        .op("GatherND", &[x, &indices])
        .one(DataType::Float, shape)?;
    let row = b.unsqueeze(&rows.is_inside, &[2, 3])?;
    let column = b.unsqueeze(&columns.is_inside, &[1, 3])?;
    let shape = row.shape.broadcast(&column.shape);
    let is_inside = b.op("And", &[&row, &column]).one(DataType::Bool, shape)?;
    let outside = b.scalar(DataType::Float, f64::from(outside))?;
    b.choose(&is_inside, &elements, &outside)
}

/// The elements that the boxes take along one dimension: `[boxes, size]`.
struct Along {
    index: Tensor,
    is_inside: Tensor,
}

fn along(
    b: &mut Builder,
    x: &Tensor,
    boxes: &Tensor,
    sizes: &Tensor,
    dimension: i64,
) -> Result<Along> {
    let float = |b: &Builder, value| b.scalar(DataType::Float, value);
    let all = b.shape_of(x)?;
    let last = b.gather(&all, &b.i64(dimension + 1), 0)?;
    let last = b.binary("Sub", &last, &b.i64(1))?;
    let last = b.cast(&last, DataType::Float)?;
    let size = b.gather(sizes, &b.i64(dimension), 0)?;
    let start = b.slice(boxes, &[1], &[dimension], &[dimension + 1], &[1])?;
    let end = b.slice(boxes, &[1], &[dimension + 2], &[dimension + 3], &[1])?;
    let places = range(b, &size)?;
    let places = b.cast(&places, DataType::Float)?;
    let gaps = b.binary("Sub", &size, &b.i64(1))?;
    let several = b.compare("Greater", &gaps, &b.i64(0))?;
    let gaps = b.binary("Max", &gaps, &b.i64(1))?;
    let gaps = b.cast(&gaps, DataType::Float)?;
    // (end - start) * last / gaps, place by place from the start; the middle if there is one place only.
    let scale = b.binary("Sub", &end, &start)?;
    let scale = b.binary("Mul", &scale, &last)?;
    let scale = b.binary("Div", &scale, &gaps)?;
    let from = b.binary("Mul", &start, &last)?;
    let steps = b.binary("Mul", &scale, &places)?;
    let spread = b.binary("Add", &from, &steps)?;
    let middle = b.binary("Add", &start, &end)?;
    let middle = b.binary("Mul", &middle, &float(b, 0.5)?)?;
    let middle = b.binary("Mul", &middle, &last)?;
    let place = b.choose(&several, &spread, &middle)?;
    let zero = float(b, 0.0)?;
    let is_low = b.compare("GreaterOrEqual", &place, &zero)?;
    let is_high = b.compare("LessOrEqual", &place, &last)?;
    let is_inside = b
        .op("And", &[&is_low, &is_high])
        .one(DataType::Bool, place.shape.clone())?;
    let place = b.choose(&is_inside, &place, &zero)?;
    let index = rounded(b, &place)?;
    let index = b.cast(&index, DataType::Int64)?;
    Ok(Along { index, is_inside })
}
