//! Vectors as sets, and counting.

use base::tensor::DataType;

use super::Table;
use super::compress::compress;
use super::scatter::{Reduction, scatter_rows};
use crate::builder::Builder;
use crate::op::{Op, Translated, many, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

pub(super) const TABLE: Table = &[
    ("Bincount", Pure(bincount)),
    ("DenseBincount", Pure(dense_bincount)),
    ("ListDiff", Pure(list_diff)),
    ("Unique", Pure(unique)),
    ("UniqueV2", Pure(unique)),
    ("UniqueWithCounts", Pure(unique)),
    ("UniqueWithCountsV2", Pure(unique)),
];

/// ONNX's `Unique` without sorting keeps the order in which the values first come, as TensorFlow does.
fn unique(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let index_dtype = op.attr_dtype("out_idx").unwrap_or(DataType::Int32);
    let axes = match op.node.op.ends_with("V2") {
        true => op.ints(1, "axis")?,
        false => Vec::new(),
    };
    let axis = match axes.as_slice() {
        [] => None,
        [axis] => Some(*axis).filter(|_| x.rank() != Some(1)),
        _ => return Err(Refusal::new("has several axes")),
    };
    let dtype = x.dtype;
    let carrier = match dtype {
        DataType::Float | DataType::Double | DataType::Int64 | DataType::String => dtype,
        DataType::Half | DataType::BFloat16 => DataType::Float,
        _ => DataType::Int64,
    };
    let mut x = b.cast(x, carrier)?;
    if matches!(carrier, DataType::Float | DataType::Double) {
        // TensorFlow takes each NaN for another value; ONNX Runtime confuses NaN with the other values.
        let bad = b.op("IsNaN", &[&x]).one(DataType::Bool, x.shape.clone())?;
        x = b.guarded(&x, &bad)?;
    }
    if let Some(axis) = axis {
        x = with_elements_along(b, &x, axis)?;
    }
    let shape = unique_shape(&x.shape, axis);
    let places = Shape::dims([match axis {
        Some(axis) => x.shape.dim(axis),
        None => x.shape.count(),
    }]);
    let mut node = b.op("Unique", &[&x]).int("sorted", 0);
    if let Some(axis) = axis {
        node = node.int("axis", axis);
    }
    let outputs = node.many([
        (carrier, shape),
        (DataType::Int64, Shape::of_rank(1)),
        (DataType::Int64, places),
        (DataType::Int64, Shape::of_rank(1)),
    ])?;
    let [values, _, places, counts] = outputs.as_slice() else {
        return Err(Refusal::new("needs four outputs"));
    };
    let mut results = vec![b.cast(values, dtype)?, b.cast(places, index_dtype)?];
    if op.node.op.starts_with("UniqueWithCounts") {
        results.push(b.cast(counts, index_dtype)?);
    }
    many(results)
}

/// The shape of the unique elements, or of the unique slices along an axis.
fn unique_shape(shape: &Shape, axis: Option<i64>) -> Shape {
    let Some(axis) = axis else {
        return Shape::of_rank(1);
    };
    let mut shape = shape.clone();
    if let Some(dims) = &mut shape.0 {
        let place = crate::builder::from_start(axis, dims.len());
        if let Some(dim) = dims.get_mut(place) {
            *dim = None;
        }
    }
    shape
}

/// The same tensor; fails if it has slices along the axis, but no elements in them: ONNX Runtime's `Unique` ends
/// the process then.
fn with_elements_along(b: &mut Builder, x: &Tensor, axis: i64) -> Result<Tensor, Refusal> {
    if x.shape.count().is_some_and(|it| it > 0) {
        return Ok(x.clone());
    }
    let (slices, count) = (b.size_at(x, axis)?, b.count_of(x)?);
    let zero = b.i64(0);
    let has_slices = b.compare("Less", &zero, &slices)?;
    let is_empty = b.compare("Equal", &count, &zero)?;
    let bad = b.op("And", &[&has_slices, &is_empty]);
    let bad = bad.one(DataType::Bool, Shape::dims([Some(1)]))?;
    b.guarded(x, &bad)
}

/// The elements of the first vector that are not in the second, and their places.
fn list_diff(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, y) = (op.input(0)?, op.input(1)?);
    let index_dtype = op.attr_dtype("out_idx").unwrap_or(DataType::Int32);
    let lacks = [DataType::BFloat16];
    let wide = |b: &mut Builder, it: &Tensor| match lacks.contains(&it.dtype) {
        true => b.cast(it, Builder::carrier(it.dtype)),
        false => Ok(it.clone()),
    };
    let (left, right) = (wide(b, x)?, wide(b, y)?);
    let rows = b.unsqueeze(&left, &[1])?;
    let matches = b.compare("Equal", &rows, &right)?;
    let matches = b.cast(&matches, DataType::Int64)?;
    let matches = b.reduce("ReduceSum", &matches, Some(&[1]), false)?;
    let zero = b.i64(0);
    let is_kept = b.compare("Equal", &matches, &zero)?;
    let size = b.size_at(x, 0)?;
    let places = b.count_up(&size)?;
    let kept = compress(b, &left, &is_kept)?;
    let places = compress(b, &places, &is_kept)?;
    many([b.cast(&kept, x.dtype)?, b.cast(&places, index_dtype)?])
}

/// How often each number below `size` occurs, or the sum of its weights. An empty tensor of weights stands for
/// none.
fn bincount(b: &mut Builder, op: &Op<'_>) -> Translated {
    let values = b.as_vector(op.input(0)?)?;
    let (size, weights) = (op.input(1)?, op.input(2)?);
    one(counted(b, &values, size, weights, false)?)
}

/// The same, in each row of a matrix; or whether each number occurs (`binary_output`).
fn dense_bincount(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, size, weights) = (op.input(0)?, op.input(1)?, op.input(2)?);
    let is_binary = op.attr_flag("binary_output");
    match x.known_rank("counts in a tensor")? {
        1 => one(counted(b, x, size, weights, is_binary)?),
        2 => {
            // Each row gets numbers of its own, with one more for those that are too large.
            let size = b.cast(size, DataType::Int64)?;
            let size = b.as_vector(&size)?;
            let (zero, only) = (b.i64(0), b.i64s(&[1]));
            let values = b.cast(x, DataType::Int64)?;
            let bad = b.compare("Less", &values, &zero)?;
            let values = b.guarded(&values, &bad)?;
            let values = b.binary("Min", &values, &size)?;
            let rows = b.size_at(x, 0)?;
            let width = b.binary("Add", &size, &only)?;
            let starts = b.count_up(&rows)?;
            let starts = b.binary("Mul", &starts, &width)?;
            let starts = b.unsqueeze(&starts, &[1])?;
            let values = b.binary("Add", &values, &starts)?;
            let values = b.as_vector(&values)?;
            let all = b.binary("Mul", &rows, &width)?;
            let counts = counted(b, &values, &all, weights, is_binary)?;
            let sizes = b.concat(&[&rows, &width], 0)?;
            let counts = b.reshape_to(&counts, &sizes)?;
            let (start, axis) = (b.i64s(&[0]), b.i64s(&[1]));
            let shape = Shape::dims([x.shape.dim(0), size.int()]);
            one(b
                .op("Slice", &[&counts, &start, &size, &axis])
                .one(counts.dtype, shape)?)
        }
        _ => Err(Refusal::new(
            "counts in a tensor of more than two dimensions",
        )),
    }
}

fn counted(
    b: &mut Builder,
    values: &Tensor,
    size: &Tensor,
    weights: &Tensor,
    is_binary: bool,
) -> Result<Tensor, Refusal> {
    let dtype = weights.dtype;
    let values = b.cast(values, DataType::Int64)?;
    let size = b.cast(size, DataType::Int64)?;
    let size = b.as_vector(&size)?;
    let zero = b.i64(0);
    let bad = b.compare("Less", &values, &zero)?;
    let values = b.guarded(&values, &bad)?;
    let places = b.binary("Min", &values, &size)?;
    let count = b.size_at(&values, 0)?;
    let one = b.scalar(dtype, 1.0)?;
    let ones = b.expand(&one, &count)?;
    let weights = match (weights.shape.count(), is_binary) {
        (Some(0), _) | (_, true) => ones,
        _ => {
            let weights = b.as_vector(weights)?;
            let both = b.concat(&[&weights, &ones], 0)?;
            let (start, axis) = (b.i64s(&[0]), b.i64s(&[0]));
            b.op("Slice", &[&both, &start, &count, &axis])
                .one(dtype, values.shape.clone())?
        }
    };
    let only = b.i64s(&[1]);
    let length = b.binary("Add", &size, &only)?;
    let nothing = b.scalar(dtype, 0.0)?;
    let empty = b.expand(&nothing, &length)?;
    let how = if is_binary {
        Reduction::Last
    } else {
        Reduction::Add
    };
    let counts = scatter_rows(b, &empty, &places, &weights, how)?;
    let (start, axis) = (b.i64s(&[0]), b.i64s(&[0]));
    b.op("Slice", &[&counts, &start, &size, &axis])
        .one(dtype, Shape::dims([size.int()]))
}
