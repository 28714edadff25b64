//! Lists as whole tensors: stacked, joined, taken apart, and several elements at a time.

use std::rc::Rc;

use base::tensor::DataType;

use super::{checked, declared, dense, element, made, ragged, readable, shape_input};
use crate::builder::Builder;
use crate::list::{Contents, List, MAX_ITEMS, Stacked};
use crate::op::{Op, Translated, many, one};
use crate::refusal::Refusal;
use crate::translation::Translation;
use crate::value::{Shape, Tensor, Value};

/// A list of the rows of a tensor.
pub(super) fn from_tensor(_: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    let tensor = op.input(0)?;
    if tensor.rank() == Some(0) {
        return Err(Refusal::new("takes a scalar apart"));
    }
    let stacked = Stacked {
        tensor: tensor.clone(),
        is_sized: true,
    };
    made(declared(op, 1, Contents::Stacked(stacked))?)
}

/// All elements as one tensor.
pub(super) fn stack(t: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    let shape = shape_input(op, 1)?;
    let list = readable(t, op, 0, &shape)?;
    let b = &mut t.builder;
    let element = list.declared.merged(&shape);
    let stacked = dense::stack(b, list, &shape)?;
    let mut tensor = stacked.tensor.clone();
    if !stacked.is_sized {
        // No element is set, and the shape is not known.
        let count = b
            .op("Size", &[&tensor])
            .one(DataType::Int64, Shape::scalar())?;
        tensor = refuse_if_zero(b, &count, &tensor)?;
    } else if element.sizes().is_none() && tensor.shape.dim(0).is_none_or(|it| it == 0) {
        // Without elements and their shape TensorFlow does not know the shape of the result.
        tensor = refuse_empty(b, &tensor)?;
    }
    if let Some(count) = op.attr_int("num_elements").filter(|&it| it >= 0)
        && tensor.shape.dim(0) != Some(count)
    {
        let sizes = element::row_sizes(b, &tensor)?;
        let count = b.i64s(&[count]);
        let sizes = b.concat(&[&count, &sizes], 0)?;
        tensor = b.reshape_to(&tensor, &sizes)?;
    }
    checked_elements(b, &tensor, &element)
}

/// The result of `TensorListStack`, whose elements have to have a shape.
fn checked_elements(b: &mut Builder, tensor: &Tensor, element: &Shape) -> Translated {
    let known = element::element_of(&tensor.shape);
    if let Some(sizes) = element.sizes()
        && known != *element
    {
        let sizes: Vec<i64> = sizes.iter().filter_map(|&it| it.try_into().ok()).collect();
        let length = b.first_size(tensor)?;
        let length = b.unsqueeze(&length, &[0])?;
        let sizes = b.i64s(&sizes);
        let sizes = b.concat(&[&length, &sizes], 0)?;
        return one(b.reshape_to(tensor, &sizes)?);
    }
    let shape = crate::list::stacked_shape(None, element);
    one(tensor.clone().with_shape(shape))
}

fn refuse_if_zero(b: &mut Builder, count: &Tensor, tensor: &Tensor) -> Result<Tensor, Refusal> {
    let zero = b.i64(0);
    let is_zero = b.compare("Equal", count, &zero)?;
    b.guarded(tensor, &is_zero)
}

/// The tensor, unless it has no rows.
fn refuse_empty(b: &mut Builder, tensor: &Tensor) -> Result<Tensor, Refusal> {
    let length = b.first_size(tensor)?;
    refuse_if_zero(b, &length, tensor)
}

/// The elements at indices, as one tensor.
pub(super) fn gather(t: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    let shape = shape_input(op, 2)?;
    let list = readable(t, op, 0, &shape)?;
    let indices = checked(t, op.input(1)?)?;
    let stacked = dense::stack(&mut t.builder, list, &shape)?;
    let rows = dense::get(&mut t.builder, &stacked, &indices)?;
    one(rows.with_shape(crate::list::stacked_shape(None, &shape)))
}

/// A list of rows put at indices.
pub(super) fn scatter(t: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    let (tensor, indices) = (op.input(0)?, op.input(1)?);
    let size = match op.len() {
        0..=3 => None,
        _ => Some(op.input(3)?),
    };
    let list = declared(op, 2, Contents::Items(Rc::from([])))?;
    let indices = checked(t, indices)?;
    let b = &mut t.builder;
    let least = last_index(b, &indices)?;
    let length = match size {
        None => least,
        Some(size) => {
            let size = b.cast(size, DataType::Int64)?;
            match size.int() {
                Some(0..) => size,
                Some(_) => least,
                None => {
                    let zero = b.i64(0);
                    let is_free = b.compare("Less", &size, &zero)?;
                    b.choose(&is_free, &least, &size)?
                }
            }
        }
    };
    let row_sizes = element::row_sizes(b, tensor)?;
    let length = b.unsqueeze(&length, &[0])?;
    let sizes = b.concat(&[&length, &row_sizes], 0)?;
    let base = Stacked {
        tensor: b.zeros(list.dtype, &sizes)?,
        is_sized: true,
    };
    let columns = b.unsqueeze(&indices, &[1])?;
    let stacked = dense::scatter(b, &base, &columns, tensor, None)?;
    made(list.with(Contents::Stacked(stacked)))
}

/// One more than the largest index; 0 if there is none.
fn last_index(b: &mut Builder, indices: &Tensor) -> Result<Tensor, Refusal> {
    let none = b.i64s(&[-1]);
    let all = b.concat(&[indices, &none], 0)?;
    if let Some(known) = all.ints() {
        let last = known.iter().copied().max().unwrap_or(-1);
        return Ok(b.i64(last.saturating_add(1)));
    }
    let last = b.reduce("ReduceMax", &all, Some(&[0]), false)?;
    let one = b.i64(1);
    b.binary("Add", &last, &one)
}

/// A list with rows put at indices.
pub(super) fn scatter_into(t: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    let (tensor, indices) = (op.input(1)?, op.input(2)?);
    let element = element::element_of(&tensor.shape);
    let list = readable(t, op, 0, &element)?;
    let indices = checked(t, indices)?;
    let b = &mut t.builder;
    let least = last_index(b, &indices)?;
    let columns = b.unsqueeze(&indices, &[1])?;
    let stacked = dense::stack(b, list, &element)?;
    let stacked = dense::scatter(b, &stacked, &columns, tensor, Some(&least))?;
    made(list.with(Contents::Stacked(stacked)))
}

/// The elements joined along their first axis, and the size of each.
pub(super) fn concat(t: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    let shape = match op.len() {
        1 => op.attr_shape("element_shape"),
        _ => shape_input(op, 1)?,
    };
    let list = readable(t, op, 0, &shape)?;
    let b = &mut t.builder;
    if let Contents::Items(items) = &list.contents
        && let Some(items) = items.iter().cloned().collect::<Option<Vec<_>>>()
        && !items.is_empty()
    {
        return joined(b, &items);
    }
    if let Contents::Ragged(ragged) = &list.contents {
        return many([ragged.values.clone(), ragged.lengths.clone()]);
    }
    // All elements of a list that is one tensor are of the same size.
    let stacked = dense::stack(b, list, &shape)?;
    let tensor = stacked.tensor;
    if !stacked.is_sized {
        return Err(Refusal::new("joins elements whose shape is not known"));
    }
    let rank = tensor.known_rank("joins elements")?;
    if rank < 2 {
        return Err(Refusal::new("joins scalars"));
    }
    let element = list.declared.merged(&shape);
    let is_known = element
        .0
        .as_ref()
        .is_some_and(|it| it.iter().skip(1).all(Option::is_some));
    let tensor = match is_known || tensor.shape.dim(0).is_some_and(|it| it > 0) {
        true => tensor,
        false => refuse_empty(b, &tensor)?,
    };
    let sizes = b.shape_of(&tensor)?;
    let outer = b.slice(&sizes, &[0], &[0], &[1], &[1])?;
    let inner = b.slice(&sizes, &[0], &[1], &[2], &[1])?;
    let rest = b.slice(&sizes, &[0], &[2], &[i64::MAX], &[1])?;
    let rows = b.binary("Mul", &outer, &inner)?;
    let sizes = b.concat(&[&rows, &rest], 0)?;
    let values = b.reshape_to(&tensor, &sizes)?;
    let lengths = b.expand(&inner, &outer)?;
    many([values, lengths])
}

fn joined(b: &mut Builder, items: &[Tensor]) -> Translated {
    if items.iter().any(|it| it.rank() == Some(0)) {
        return Err(Refusal::new("joins scalars"));
    }
    let values = b.concat(&items.iter().collect::<Vec<_>>(), 0)?;
    let mut lengths = Vec::with_capacity(items.len());
    for item in items {
        let size = b.first_size(item)?;
        lengths.push(b.unsqueeze(&size, &[0])?);
    }
    let lengths = b.concat(&lengths.iter().collect::<Vec<_>>(), 0)?;
    many([values, lengths])
}

/// A list of parts of a tensor along its first axis.
pub(super) fn split(t: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    let tensor = op.input(0)?;
    let known = op.input(2)?.ints();
    let known = known.filter(|it| it.len() <= MAX_ITEMS && it.iter().all(|&it| it >= 0));
    let Some(lengths) = known else {
        let parts = ragged::parts(&mut t.builder, tensor, op.input(2)?)?;
        return made(declared(op, 1, Contents::Ragged(parts))?);
    };
    let list: List = declared(op, 1, Contents::Items(Rc::from([])))?;
    let b = &mut t.builder;
    let sizes = b.i64s(&lengths);
    let element = element::element_of(&tensor.shape);
    let shapes = lengths.iter().map(|&it| {
        let shape = crate::list::stacked_shape(Some(it), &element);
        (tensor.dtype, shape)
    });
    let items = match lengths.is_empty() {
        true => Vec::new(),
        false => b
            .op("Split", &[tensor, &sizes])
            .int("axis", 0)
            .many(shapes)?,
    };
    let items = items.into_iter().map(Some).collect();
    Ok(vec![Value::List(list.with(Contents::Items(items)))])
}
