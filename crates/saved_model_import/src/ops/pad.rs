//! Padding.

use base::tensor::DataType;

use super::Table;
use crate::builder::Builder;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

pub(super) const TABLE: Table = &[
    ("MirrorPad", Pure(mirror_pad)),
    ("Pad", Pure(pad)),
    ("PadV2", Pure(pad)),
];

/// The dtypes that ONNX's `Pad` lacks, apart from strings.
const LACKS: [DataType; 3] = [DataType::Int16, DataType::UInt16, DataType::BFloat16];

fn pad(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    if x.rank() == Some(0) {
        return one(x.clone());
    }
    let paddings = paddings(b, op.input(1)?)?;
    let value = match op.len() {
        2 => b.zero(x.dtype)?,
        _ => op.input(2)?.clone(),
    };
    one(padded(b, x, &paddings, &value)?)
}

/// The paddings as int64, `[rank, 2]`; fails if any is negative: ONNX would remove elements.
pub(super) fn paddings(b: &mut Builder, paddings: &Tensor) -> Result<Tensor, Refusal> {
    let paddings = b.cast(paddings, DataType::Int64)?;
    match paddings.ints() {
        Some(known) if known.iter().any(|&it| it < 0) => Err(Refusal::new("has negative paddings")),
        Some(_) => Ok(paddings),
        None => {
            let zero = b.i64(0);
            let bad = b.compare("Less", &paddings, &zero)?;
            b.guarded(&paddings, &bad)
        }
    }
}

/// `x` with `value` around it; `paddings` has a row for each dimension.
pub(super) fn padded(
    b: &mut Builder,
    x: &Tensor,
    paddings: &Tensor,
    value: &Tensor,
) -> Result<Tensor, Refusal> {
    if x.dtype == DataType::String {
        return padded_strings(b, x, paddings, value);
    }
    let shape = padded_shape(x, paddings);
    let pads = match paddings.ints() {
        // All starts before all ends.
        Some(known) => {
            let starts = known.iter().step_by(2);
            let ends = known.iter().skip(1).step_by(2);
            b.i64s(&starts.chain(ends).copied().collect::<Vec<_>>())
        }
        None => {
            let turned = b.transpose(paddings, &[1, 0])?;
            b.reshape(&turned, &[-1])?
        }
    };
    b.carried(x, &LACKS, |b, x| {
        let value = b.cast(value, x.dtype)?;
        let value = b.as_scalar(&value)?;
        b.op("Pad", &[x, &pads, &value]).one(x.dtype, shape)
    })
}

fn padded_shape(x: &Tensor, paddings: &Tensor) -> Shape {
    let rank = x
        .rank()
        .or_else(|| usize::try_from(paddings.shape.dim(0)?).ok());
    let known = paddings
        .elements()
        .filter(|it| Some(it.len() / 2) == x.rank());
    match (&x.shape.0, known) {
        (Some(dims), Some(known)) => {
            let dims = dims.iter().zip(known.chunks(2));
            Shape::dims(dims.map(|(dim, pads)| {
                pads.iter()
                    .try_fold((*dim)?, |sum, it| sum.checked_add((*it)?))
            }))
        }
        _ => rank.map_or_else(Shape::unknown, Shape::of_rank),
    }
}

/// Pads the places of the elements with one behind the last, where `value` is.
fn padded_strings(
    b: &mut Builder,
    x: &Tensor,
    paddings: &Tensor,
    value: &Tensor,
) -> Result<Tensor, Refusal> {
    let count = b.count_of(x)?;
    let places = b.count_up(&count)?;
    let sizes = b.shape_of(x)?;
    let places = b.reshape_to(&places, &sizes)?;
    let places = places.with_shape(x.shape.clone());
    let places = padded(b, &places, paddings, &count)?;
    let flat = b.as_vector(x)?;
    let value = b.as_vector(value)?;
    let table = b.concat(&[&flat, &value], 0)?;
    b.gather(&table, &places, 0)
}

/// Gathers along each axis that is padded: reflected at the edge's middle (`REFLECT`) or behind it
/// (`SYMMETRIC`, which ONNX lacks).
fn mirror_pad(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let paddings = paddings(b, op.input(1)?)?;
    let edge = match op.attr_text("mode") {
        "REFLECT" => 0,
        "SYMMETRIC" => 1,
        _ => return Err(Refusal::new("has an unknown mode")),
    };
    let known = paddings.ints();
    let rank = x
        .rank()
        .or_else(|| usize::try_from(paddings.shape.dim(0)?).ok());
    let rank = rank.ok_or_else(|| Refusal::new("pads a tensor of unknown rank"))?;
    let mut result = x.clone();
    let is_full = x.shape.sizes().is_some_and(|it| !it.contains(&0));
    if edge == 0 && !is_full {
        // A dimension without elements cannot be reflected, not even without padding.
        let (sizes, zero) = (b.shape_of(x)?, b.i64(0));
        let bad = b.compare("Equal", &sizes, &zero)?;
        result = b.guarded(x, &bad)?;
    }
    for axis in 0..rank {
        let pads = known.as_ref().map(|it| it.get(2 * axis..2 * axis + 2));
        if matches!(pads, Some(Some([0, 0]))) {
            continue;
        }
        let axis = i64::try_from(axis).unwrap_or(i64::MAX);
        let places = mirrored(b, x, &paddings, axis, edge)?;
        result = b.gather(&result, &places, axis)?;
    }
    one(result)
}

/// The places along an axis from which the padded elements come.
fn mirrored(
    b: &mut Builder,
    x: &Tensor,
    paddings: &Tensor,
    axis: i64,
    edge: i64,
) -> Result<Tensor, Refusal> {
    let row = b.i64(axis);
    let row = b.gather(paddings, &row, 0)?;
    let before = b.slice(&row, &[0], &[0], &[1], &[1])?;
    let after = b.slice(&row, &[0], &[1], &[2], &[1])?;
    let size = b.size_at(x, axis)?;
    let size = enough(b, size, &row, edge)?;
    let (zero, one, edge) = (b.i64(0), b.i64(1), b.i64(edge));
    let start = b.binary("Sub", &zero, &before)?;
    let start = b.as_scalar(&start)?;
    let end = b.binary("Add", &size, &after)?;
    let end = b.as_scalar(&end)?;
    let places = b.range(&start, &end, &one)?;
    // Reflected at the start, then at the end: -edge - place, and 2 (size - 1) + edge - place.
    let reflected = b.binary("Add", &places, &edge)?;
    let reflected = b.binary("Sub", &zero, &reflected)?;
    let places = b.binary("Max", &places, &reflected)?;
    let last = b.binary("Sub", &size, &one)?;
    let last = b.binary("Add", &last, &last)?;
    let last = b.binary("Add", &last, &edge)?;
    let reflected = b.binary("Sub", &last, &places)?;
    b.binary("Min", &places, &reflected)
}

/// The size, whose computation fails if a padding is larger than the part that can be reflected.
fn enough(b: &mut Builder, size: Tensor, pads: &Tensor, edge: i64) -> Result<Tensor, Refusal> {
    let most = b.i64(edge - 1);
    let most = b.binary("Add", &size, &most)?;
    if let (Some(pads), Some(most)) = (pads.ints(), most.int()) {
        return match pads.iter().all(|&it| it <= most) {
            true => Ok(size),
            false => Err(Refusal::new("has paddings that are larger than its input")),
        };
    }
    let bad = b.compare("Less", &most, pads)?;
    b.guarded(&size, &bad)
}
