//! Lists whose elements differ in their first size: the elements joined along it, and the size of each.
//!
//! Not here: lists of equal elements (`list::dense`).

use base::tensor::DataType;

use crate::builder::Builder;
use crate::list::{Ragged, Stacked, stacked_shape};
use crate::refusal::Refusal;
use crate::value::Tensor;

use super::element;

type Result<T> = std::result::Result<T, Refusal>;

/// The parts of `values` of these lengths. The request is refused if they do not fit.
pub(crate) fn parts(b: &mut Builder, values: &Tensor, lengths: &Tensor) -> Result<Ragged> {
    let lengths = b.cast(lengths, DataType::Int64)?;
    let total = b.reduce("ReduceSum", &lengths, Some(&[0]), false)?;
    let size = b.first_size(values)?;
    let is_whole = b.compare("Equal", &total, &size)?;
    let is_other = b.op("Not", &[&is_whole]).same()?;
    let zero = b.i64(0);
    let is_negative = b.compare("Less", &lengths, &zero)?;
    let values = b.guarded(values, &is_other)?;
    Ok(Ragged {
        values: b.guarded(&values, &is_negative)?,
        lengths,
    })
}

/// The element at `index`, a scalar that is not negative.
pub(crate) fn get(b: &mut Builder, list: &Ragged, index: &Tensor) -> Result<Tensor> {
    let axis = b.i64(0);
    let ends = b
        .op("CumSum", &[&list.lengths, &axis])
        .one(DataType::Int64, list.lengths.shape.clone())?;
    let end = b.gather(&ends, index, 0)?;
    let length = b.gather(&list.lengths, index, 0)?;
    let start = b.binary("Sub", &end, &length)?;
    let (start, end) = (b.unsqueeze(&start, &[0])?, b.unsqueeze(&end, &[0])?);
    let axes = b.i64s(&[0]);
    let shape = stacked_shape(None, &element::element_of(&list.values.shape));
    b.op("Slice", &[&list.values, &start, &end, &axes])
        .one(list.values.dtype, shape)
}

/// The elements stacked. The request is refused if they differ in their sizes, or if there are none.
pub(crate) fn stack(b: &mut Builder, list: &Ragged) -> Result<Stacked> {
    let least = b.reduce("ReduceMin", &list.lengths, Some(&[0]), true)?;
    let same = b.compare("Equal", &list.lengths, &least)?;
    let differs = b.op("Not", &[&same]).same()?;
    let values = b.guarded(&list.values, &differs)?;
    let count = b.shape_of(&list.lengths)?;
    let rest = element::row_sizes(b, &values)?;
    let sizes = b.concat(&[&count, &least, &rest], 0)?;
    let tensor = b.reshape_to(&values, &sizes)?;
    let rest = element::element_of(&list.values.shape);
    let element = stacked_shape(None, &rest);
    Ok(Stacked {
        tensor: tensor.with_shape(stacked_shape(None, &element)),
        is_sized: true,
    })
}

/// The number of elements, an int64 scalar.
pub(crate) fn length(b: &mut Builder, list: &Ragged) -> Result<Tensor> {
    b.first_size(&list.lengths)
}
