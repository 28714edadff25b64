//! Lists as tensors with the elements stacked along the first axis.
//!
//! Not here: which operator needs them (`ops::list`).

use base::tensor::DataType;

use super::element::{element_of, row_sizes};
use super::ragged;
use crate::builder::{Builder, OUT_OF_RANGE};
use crate::list::{Contents, List, Stacked, stacked_shape};
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

/// The number of elements, an int64 scalar.
pub(crate) fn length(b: &mut Builder, list: &List) -> Result<Tensor> {
    match &list.contents {
        Contents::Unset(length) => Ok(length.clone()),
        Contents::Items(items) => Ok(b.i64(int(items.len())?)),
        Contents::Stacked(stacked) => b.first_size(&stacked.tensor),
        Contents::Ragged(ragged) => ragged::length(b, ragged),
        Contents::Collecting(_) | Contents::Collected { .. } => Err(Refusal::of_input()),
    }
}

fn int(size: usize) -> Result<i64> {
    i64::try_from(size).map_err(|_| Refusal::new("has a list that is too long"))
}

/// The elements of a list, stacked. Those that are not set are zeros, as `TensorListStack` gives them. `hint` is
/// the shape of the elements, as far as the place that needs them knows it.
pub(crate) fn stack(b: &mut Builder, list: &List, hint: &Shape) -> Result<Stacked> {
    match &list.contents {
        Contents::Stacked(stacked) => Ok(stacked.clone()),
        Contents::Ragged(ragged) => ragged::stack(b, ragged),
        Contents::Unset(length) => {
            let shape = list.element_shape().merged(hint);
            unset(b, list.dtype, length, &shape)
        }
        Contents::Items(items) => match items.iter().flatten().next().cloned() {
            Some(first) => stack_items(b, items, &first, &list.element_shape()),
            None => {
                let length = b.i64(int(items.len())?);
                let shape = list.element_shape().merged(hint);
                unset(b, list.dtype, &length, &shape)
            }
        },
        Contents::Collecting(_) | Contents::Collected { .. } => Err(Refusal::of_input()),
    }
}

/// A list of this length of which no element is set.
fn unset(b: &mut Builder, dtype: DataType, length: &Tensor, element: &Shape) -> Result<Stacked> {
    let Some(dims) = &element.0 else {
        return Err(Refusal::new("has a list with elements of unknown rank"));
    };
    let length = b.unsqueeze(length, &[0])?;
    let known: Vec<i64> = dims.iter().map(|it| it.unwrap_or(0)).collect();
    let element_sizes = b.i64s(&known);
    let sizes = b.concat(&[&length, &element_sizes], 0)?;
    let tensor = b.zeros(dtype, &sizes)?;
    let is_sized = dims.iter().all(Option::is_some);
    let mut tensor = tensor;
    tensor.shape = stacked_shape(tensor.shape.dim(0), element);
    Ok(Stacked { tensor, is_sized })
}

fn stack_items(
    b: &mut Builder,
    items: &[Option<Tensor>],
    first: &Tensor,
    element: &Shape,
) -> Result<Stacked> {
    let mut zero = None;
    let mut rows = Vec::with_capacity(items.len());
    for item in items {
        let item = match (item, &zero) {
            (Some(item), _) => item.clone(),
            (None, Some(zero)) => Tensor::clone(zero),
            (None, None) => {
                let sizes = b.shape_of(first)?;
                let made = b.zeros(first.dtype, &sizes)?;
                zero = Some(made.clone());
                made
            }
        };
        rows.push(b.unsqueeze(&item, &[0])?);
    }
    let tensor = b.concat(&rows.iter().collect::<Vec<_>>(), 0)?;
    let shape = stacked_shape(Some(int(items.len())?), element);
    Ok(Stacked {
        tensor: tensor.with_shape(shape),
        is_sized: true,
    })
}

/// The elements of a list, with the sizes of an element that is about to be set.
pub(crate) fn sized_as(b: &mut Builder, stacked: &Stacked, item_sizes: &Tensor) -> Result<Tensor> {
    let tensor = &stacked.tensor;
    if stacked.is_sized {
        return Ok(tensor.clone());
    }
    let count = b
        .op("Size", &[tensor])
        .one(DataType::Int64, Shape::scalar())?;
    let zero = b.i64(0);
    let is_unset = b.compare("Equal", &count, &zero)?;
    let length = b.first_size(tensor)?;
    b.either(
        &is_unset,
        |b| {
            let length = b.unsqueeze(&length, &[0])?;
            let sizes = b.concat(&[&length, item_sizes], 0)?;
            b.zeros(tensor.dtype, &sizes)
        },
        |_| Ok(tensor.clone()),
    )
}

/// The list with the element at `index`, which is not negative, replaced; if `grows`, it is made longer for it.
pub(crate) fn set(
    b: &mut Builder,
    stacked: &Stacked,
    index: &Tensor,
    item: &Tensor,
    grows: bool,
) -> Result<Stacked> {
    let indices = b.reshape(index, &[1, 1])?;
    let rows = b.unsqueeze(item, &[0])?;
    let one = b.i64(1);
    let length = match grows {
        true => Some(b.binary("Add", index, &one)?),
        false => None,
    };
    scatter(b, stacked, &indices, &rows, length.as_ref())
}

/// The list with rows of a tensor put at `indices`, a matrix with one column. It is made at least as long as
/// `least`.
pub(crate) fn scatter(
    b: &mut Builder,
    stacked: &Stacked,
    indices: &Tensor,
    rows: &Tensor,
    least: Option<&Tensor>,
) -> Result<Stacked> {
    let item_sizes = row_sizes(b, rows)?;
    let mut base = sized_as(b, stacked, &item_sizes)?;
    if let Some(least) = least {
        let length = b.first_size(&base)?;
        let missing = b.binary("Sub", least, &length)?;
        let zero = b.i64(0);
        let missing = b.binary("Max", &missing, &zero)?;
        base = extended(b, &base, &missing)?;
    }
    let element = element_of(&base.shape).merged(&element_of(&rows.shape));
    let shape = stacked_shape(base.shape.dim(0), &element);
    let tensor = b
        .op("ScatterND", &[&base, indices, rows])
        .one(base.dtype, shape)?;
    Ok(Stacked {
        tensor,
        is_sized: true,
    })
}

/// The list with one more element.
pub(crate) fn push(b: &mut Builder, stacked: &Stacked, item: &Tensor) -> Result<Stacked> {
    let item_sizes = b.shape_of(item)?;
    let base = sized_as(b, stacked, &item_sizes)?;
    let row = b.unsqueeze(item, &[0])?;
    let joined = b.concat(&[&base, &row], 0)?;
    Ok(Stacked {
        tensor: joined,
        is_sized: true,
    })
}

/// The list with `count` more elements that are not set; `count` is an int64 scalar. All sizes of elements are
/// known at run time.
pub(crate) fn extended(b: &mut Builder, tensor: &Tensor, count: &Tensor) -> Result<Tensor> {
    if count.int() == Some(0) {
        return Ok(tensor.clone());
    }
    let count = b.unsqueeze(count, &[0])?;
    let item_sizes = row_sizes(b, tensor)?;
    let sizes = b.concat(&[&count, &item_sizes], 0)?;
    let zeros = b.zeros(tensor.dtype, &sizes)?;
    b.concat(&[tensor, &zeros], 0)
}

/// The first `count` elements; `count` is an int64 scalar.
pub(crate) fn first(b: &mut Builder, tensor: &Tensor, count: &Tensor) -> Result<Tensor> {
    let start = b.i64s(&[0]);
    let end = b.unsqueeze(count, &[0])?;
    let axes = b.i64s(&[0]);
    let shape = stacked_shape(count.int(), &element_of(&tensor.shape));
    b.op("Slice", &[tensor, &start, &end, &axes])
        .one(tensor.dtype, shape)
}

/// The elements at `indices`, which are not negative.
pub(crate) fn get(b: &mut Builder, stacked: &Stacked, indices: &Tensor) -> Result<Tensor> {
    let tensor = &stacked.tensor;
    if stacked.is_sized {
        return b.gather(tensor, indices, 0);
    }
    // Without sizes there are no elements to read.
    let count = b
        .op("Size", &[tensor])
        .one(DataType::Int64, Shape::scalar())?;
    let (zero, large) = (b.i64(0), b.i64(OUT_OF_RANGE));
    let is_unset = b.compare("Equal", &count, &zero)?;
    let shape = indices.shape.clone();
    let indices = b
        .op("Where", &[&is_unset, &large, indices])
        .one(DataType::Int64, shape)?;
    b.gather(tensor, &indices, 0)
}
