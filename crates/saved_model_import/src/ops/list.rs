//! TensorLists: making them, and reading and writing single elements.
//!
//! Sources: `tensorflow/core/ops/list_ops.cc` and `tensorflow/core/kernels/list_kernels.*`.
//!
//! Not here: lists as whole tensors (`list::whole`), lists in loops (`control::loops`).

pub(crate) mod dense;
pub(crate) mod element;
pub(crate) mod ragged;
mod whole;

use std::rc::Rc;

use base::tensor::DataType;

use super::Table;
use crate::builder::Builder;
use crate::list::{Contents, How, List, MAX_ITEMS, Stacked};
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Whole;
use crate::refusal::Refusal;
use crate::translation::Translation;
use crate::value::{Shape, Tensor, Value};

pub(super) const TABLE: Table = &[
    ("EmptyTensorList", Whole(empty)),
    ("TensorListConcat", Whole(whole::concat)),
    ("TensorListConcatV2", Whole(whole::concat)),
    ("TensorListElementShape", Whole(element_shape)),
    ("TensorListFromTensor", Whole(whole::from_tensor)),
    ("TensorListGather", Whole(whole::gather)),
    ("TensorListGetItem", Whole(get_item)),
    ("TensorListLength", Whole(length)),
    ("TensorListPopBack", Whole(pop_back)),
    ("TensorListPushBack", Whole(push_back)),
    ("TensorListReserve", Whole(reserve)),
    ("TensorListResize", Whole(resize)),
    ("TensorListScatter", Whole(whole::scatter)),
    (
        "TensorListScatterIntoExistingList",
        Whole(whole::scatter_into),
    ),
    ("TensorListScatterV2", Whole(whole::scatter)),
    ("TensorListSetItem", Whole(set_item)),
    ("TensorListSplit", Whole(whole::split)),
    ("TensorListStack", Whole(whole::stack)),
];

/// An input that is a list.
fn list<'a>(op: &'a Op<'_>, index: usize) -> Result<&'a List, Refusal> {
    match op.inputs.get(index) {
        Some(Value::List(list)) => Ok(list),
        Some(Value::Nothing) | None => Err(Refusal::of_input()),
        Some(_) => Err(Refusal::new("reads a variant that is not a list")),
    }
}

/// An input that is a list whose elements are at hand.
fn readable<'a>(
    t: &mut Translation<'_>,
    op: &'a Op<'_>,
    index: usize,
    element: &Shape,
) -> Result<&'a List, Refusal> {
    let list = list(op, index)?;
    match list.place() {
        Some(place) => {
            let element = list.element_shape().merged(element);
            Err(t.loops.want(place, &element))
        }
        None => Ok(list),
    }
}

/// A list as the only output.
fn made(list: List) -> Translated {
    Ok(vec![Value::List(list)])
}

/// The shape that an input says: -1 is an unknown size, the scalar -1 an unknown rank.
fn shape_input(op: &Op<'_>, index: usize) -> Result<Shape, Refusal> {
    let input = op.input(index)?;
    Ok(match (input.elements(), input.rank(), input.shape.dim(0)) {
        (Some(sizes), Some(1), _) => Shape::dims(sizes.iter().map(|it| it.filter(|&it| it >= 0))),
        (None, Some(1), Some(rank)) => {
            usize::try_from(rank).map_or_else(|_| Shape::unknown(), Shape::of_rank)
        }
        _ => Shape::unknown(),
    })
}

/// A new list, declared by the shape in an input.
fn declared(op: &Op<'_>, shape: usize, contents: Contents) -> Result<List, Refusal> {
    Ok(List {
        dtype: op.attr_dtype("element_dtype")?,
        declared: shape_input(op, shape)?,
        is_declaration_known: op.input(shape)?.ints().is_some(),
        max_elements: None,
        contents,
    })
}

fn empty(_: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    let max = op.int(1, "number of elements")?;
    let mut list = declared(op, 0, Contents::Items(Rc::from([])))?;
    list.max_elements = Some(max).filter(|&it| it >= 0);
    made(list)
}

fn reserve(t: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    let count = op.input(1)?;
    let contents = match count.int().map(usize::try_from) {
        Some(Ok(count)) if count <= MAX_ITEMS => Contents::Items(vec![None; count].into()),
        _ => Contents::Unset(t.builder.cast(count, DataType::Int64)?),
    };
    made(declared(op, 0, contents)?)
}

fn length(t: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    let list = readable(t, op, 0, &Shape::unknown())?;
    let length = dense::length(&mut t.builder, list)?;
    one(t.builder.cast(&length, DataType::Int32)?)
}

/// The shape that the list was declared with.
fn element_shape(t: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    let list = list(op, 0)?;
    if !list.is_declaration_known {
        return Err(Refusal::new(
            "reads a shape of elements that is not constant",
        ));
    }
    let dtype = op.attr_dtype("shape_type").unwrap_or(DataType::Int32);
    let sizes = match &list.declared.0 {
        Some(dims) => {
            let sizes: Vec<i64> = dims.iter().map(|it| it.unwrap_or(-1)).collect();
            t.builder.i64s(&sizes)
        }
        None => t.builder.i64(-1),
    };
    one(t.builder.cast(&sizes, dtype)?)
}

/// An index that ONNX Runtime refuses if it is negative.
fn checked(t: &mut Translation<'_>, index: &Tensor) -> Result<Tensor, Refusal> {
    match t.loops.is_natural(index) {
        true => t.builder.cast(index, DataType::Int64),
        false => t.builder.indices(index),
    }
}

fn get_item(t: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    let shape = shape_input(op, 2)?;
    let index = op.input(1)?;
    if let Contents::Collected { place, how, item } = &list(op, 0)?.contents
        && is_at(t, *how, index, place.of_loop)
    {
        return one(item.clone());
    }
    let list = readable(t, op, 0, &shape)?;
    let position = index.int().and_then(|it| usize::try_from(it).ok());
    if let (Contents::Items(items), Some(position)) = (&list.contents, position)
        && let Some(Some(item)) = items.get(position)
    {
        return one(item.clone().with_shape(shape));
    }
    let index = checked(t, index)?;
    if let Contents::Ragged(ragged) = &list.contents {
        let item = ragged::get(&mut t.builder, ragged, &index)?;
        return one(item.with_shape(shape));
    }
    let stacked = dense::stack(&mut t.builder, list, &shape)?;
    let item = dense::get(&mut t.builder, &stacked, &index)?;
    one(item.with_shape(shape))
}

/// An element that is about to be set. It has to have the shape that the list was declared with.
fn fitting(t: &mut Translation<'_>, list: &List, item: &Tensor) -> Result<Tensor, Refusal> {
    let is_proven = match (&list.declared.0, &item.shape.0) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(declared), Some(dims)) => {
            let pairs = declared.iter().zip(dims);
            declared.len() == dims.len()
                && pairs
                    .into_iter()
                    .all(|(declared, dim)| declared.is_none() || declared == dim)
        }
    };
    match is_proven {
        true => Ok(item.clone()),
        false => t.builder.ensured(item, &list.declared),
    }
}

/// Whether an index is that at which the iteration wrote.
fn is_at(t: &Translation<'_>, how: How, index: &Tensor, of_loop: usize) -> bool {
    match how {
        How::AtIteration { .. } => t.loops.is_iteration(index, of_loop),
        How::At(position) => index.int() == Some(position),
        How::Pushed => false,
    }
}

fn set_item(t: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    let (list, index) = (list(op, 0)?, op.input(1)?);
    let item = &fitting(t, list, op.input(2)?)?;
    let grows = op.attr_flag("resize_if_index_out_of_bounds");
    let place = match &list.contents {
        Contents::Collecting(place) => Some((*place, None)),
        Contents::Collected { place, how, .. } => Some((*place, Some(*how))),
        _ => None,
    };
    if let Some((place, before)) = place {
        let how = match index.int() {
            _ if t.loops.is_iteration(index, place.of_loop) => Some(How::AtIteration { grows }),
            Some(position) if position >= 0 && !grows => Some(How::At(position)),
            _ => None,
        };
        return match how.filter(|&it| before.is_none_or(|before| before == it)) {
            Some(how) => made(list.with(Contents::Collected {
                place,
                how,
                item: item.clone(),
            })),
            None => Err(t
                .loops
                .want(place, &list.element_shape().merged(&item.shape))),
        };
    }
    let position = index.int().and_then(|it| usize::try_from(it).ok());
    if let (Contents::Items(items), Some(position)) = (&list.contents, position) {
        let mut items = items.to_vec();
        if grows && position < MAX_ITEMS && position >= items.len() {
            items.resize(position + 1, None);
        }
        if let Some(place) = items.get_mut(position) {
            *place = Some(item.clone());
            return made(list.with(Contents::Items(items.into())));
        }
    }
    let index = checked(t, index)?;
    let stacked = dense::stack(&mut t.builder, list, &item.shape)?;
    let stacked = dense::set(&mut t.builder, &stacked, &index, item, grows)?;
    made(list.with(Contents::Stacked(stacked)))
}

fn push_back(t: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    let list = list(op, 0)?;
    let item = &fitting(t, list, op.input(1)?)?;
    if let Contents::Collecting(place) = list.contents
        && list.max_elements.is_none()
    {
        return made(list.with(Contents::Collected {
            place,
            how: How::Pushed,
            item: item.clone(),
        }));
    }
    readable(t, op, 0, &item.shape)?;
    if let Contents::Items(items) = &list.contents
        && items.len() < MAX_ITEMS
    {
        let is_full = |max: i64| usize::try_from(max).is_ok_and(|max| items.len() >= max);
        if list.max_elements.is_some_and(is_full) {
            return Err(Refusal::new("adds to a list that is full"));
        }
        let items = items.iter().cloned().chain([Some(item.clone())]);
        return made(list.with(Contents::Items(items.collect())));
    }
    if list.max_elements.is_some() {
        return Err(Refusal::new(
            "adds to a list with a largest number of elements",
        ));
    }
    let stacked = dense::stack(&mut t.builder, list, &item.shape)?;
    let stacked = dense::push(&mut t.builder, &stacked, item)?;
    made(list.with(Contents::Stacked(stacked)))
}

fn pop_back(t: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    let shape = shape_input(op, 1)?;
    let list = readable(t, op, 0, &shape)?;
    if let Contents::Items(items) = &list.contents
        && let Some((Some(last), before)) = items.split_last()
    {
        let before = list.with(Contents::Items(before.into()));
        return Ok(vec![Value::List(before), Value::Tensor(last.clone())]);
    }
    let b = &mut t.builder;
    let stacked = dense::stack(b, list, &shape)?;
    // The last element; an empty list has none, and the request is refused.
    let last = b.i64(-1);
    let item = dense::get(b, &stacked, &last)?.with_shape(shape);
    let before = shorter(b, &stacked)?;
    let before = list.with(Contents::Stacked(before));
    Ok(vec![Value::List(before), Value::Tensor(item)])
}

fn shorter(b: &mut Builder, stacked: &Stacked) -> Result<Stacked, Refusal> {
    Ok(Stacked {
        tensor: b.slice(&stacked.tensor, &[0], &[0], &[-1], &[1])?,
        is_sized: stacked.is_sized,
    })
}

fn resize(t: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    let list = readable(t, op, 0, &Shape::unknown())?;
    let size = checked(t, op.input(1)?)?;
    let known = size.int().and_then(|it| usize::try_from(it).ok());
    let b = &mut t.builder;
    let contents = match &list.contents {
        Contents::Items(items) if known.is_some_and(|it| it <= MAX_ITEMS) => {
            let mut items = items.to_vec();
            items.resize(known.unwrap_or_default(), None);
            Contents::Items(items.into())
        }
        Contents::Unset(_) => Contents::Unset(size),
        Contents::Items(items) if items.iter().all(Option::is_none) => Contents::Unset(size),
        _ => {
            let stacked = dense::stack(b, list, &Shape::unknown())?;
            let length = b.first_size(&stacked.tensor)?;
            let missing = b.binary("Sub", &size, &length)?;
            let zero = b.i64(0);
            let missing = b.binary("Max", &missing, &zero)?;
            let longer = dense::extended(b, &stacked.tensor, &missing)?;
            Contents::Stacked(Stacked {
                tensor: dense::first(b, &longer, &size)?,
                is_sized: stacked.is_sized,
            })
        }
    };
    made(list.with(contents))
}
