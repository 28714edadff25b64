//! The windows of a tensor, written out: for operators without a kernel in ONNX Runtime that slides a window.
//!
//! Not here: the attributes of a window, and padding (`spatial`).

use base::tensor::{DataType, Tensor as Elements};

use super::spatial::{Padding, Window, pad, slid};
use crate::builder::Builder;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

/// All windows of a tensor whose channels are last: `[batch, place, offset, place, offset, ..., channels]`, with
/// the place of the window and the offset within it for each spatial dimension.
pub(super) fn windows(
    b: &mut Builder,
    x: &Tensor,
    window: &Window,
    padding: &Padding,
    fill: f64,
) -> Result<Tensor> {
    let pads = window.pads_vector(b, x, 1, padding)?;
    let mut x = pad(b, x, 1, &pads, fill)?;
    for index in 0..window.strides.len() {
        let axis = 1 + 2 * index as i64;
        let size = window
            .size(index)
            .zip(window.reach(index))
            .ok_or_else(|| Refusal::new("has a window of unknown size"))?;
        let sizes = b.shape_of(&x)?;
        let length = b.slice(&sizes, &[0], &[axis], &[axis + 1], &[1])?;
        let indices = places(
            b,
            &length,
            size,
            window.strides[index],
            window.dilations[index],
        )?;
        x = b.gather(&x, &indices, axis)?;
    }
    Ok(x)
}

/// The indices that the windows along one dimension read: a row for each window.
fn places(
    b: &mut Builder,
    length: &Tensor,
    (size, reach): (i64, i64),
    stride: i64,
    dilation: i64,
) -> Result<Tensor> {
    /// Larger tables are computed when the model runs.
    const MAX_TABLE: i64 = 1 << 16;
    if size > MAX_TABLE {
        return Err(Refusal::new(format!("has a window of size {size}")));
    }
    if let Some(count) = slid(length.int(), reach, stride, Some((0, 0)))
        && count.checked_mul(size).is_some_and(|it| it <= MAX_TABLE)
    {
        let rows = (0..count)
            .flat_map(|row| (0..size).map(move |column| row * stride + column * dilation));
        let table =
            Elements::from_vec(&[count as usize, size as usize], rows.collect::<Vec<i64>>());
        return table
            .map(Tensor::constant)
            .ok_or_else(|| Refusal::new("has a window of unknown size"));
    }
    let offsets: Vec<i64> = (0..size).map(|it| it * dilation).collect();
    let offsets = b.i64s(&offsets);
    let count = b.binary("Sub", length, &b.i64s(&[reach]))?;
    // TensorFlow refuses an input that is smaller than the window by more than a stride, and so does Range.
    let count = b.binary("Add", &count, &b.i64s(&[stride]))?;
    let count = b.binary("Div", &count, &b.i64s(&[stride]))?;
    let rows = range(b, &count)?;
    let rows = b.binary("Mul", &rows, &b.i64s(&[stride]))?;
    let rows = b.unsqueeze(&rows, &[1])?;
    b.binary("Add", &rows, &offsets)
}

/// The int64 vector from 0 up to the only element of a vector, exclusive.
pub(super) fn range(b: &mut Builder, count: &Tensor) -> Result<Tensor> {
    let count = b.reshape(count, &[])?;
    let known = count.int().filter(|&it| it >= 0);
    let (start, step) = (b.i64(0), b.i64(1));
    let shape = Shape::dims([known]);
    let numbers = b
        .op("Range", &[&start, &count, &step])
        .one(DataType::Int64, shape)?;
    Ok(match known {
        Some(count) if count <= crate::value::MAX_ELEMENTS as i64 => {
            numbers.with_elements((0..count).map(Some).collect())
        }
        _ => numbers,
    })
}
