//! The forms that the variables of a loop take in ONNX.

use base::tensor::DataType;

use crate::builder::Builder;
use crate::list::{Contents, How, List, Stacked, stacked_shape};
use crate::ops::list::{dense, element};
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

/// The form that a variable of a loop takes.
#[derive(Clone)]
pub(super) enum Role {
    /// It does not change: the body reads the value from outside.
    Invariant,
    /// A resource, which must not change.
    Resource,
    /// It is one more in each iteration of a loop whose iterations are counted: the body computes it from the
    /// number of the iteration.
    Counter,
    /// A state of the loop, with a shape that holds in all iterations.
    State(Shape),
    /// A list that each iteration writes one element of: an output of the loop that is stacked.
    Collect,
    /// A list that each iteration writes one element of, whose first sizes differ: the elements joined as a state,
    /// and their sizes as an output of the loop that is stacked.
    Join { initial: Tensor, shape: Shape },
    /// A list as a state of the loop, its elements stacked.
    Dense { initial: Stacked, shape: Shape },
}

/// A list that a loop carries as one tensor.
pub(super) fn dense_role(b: &mut Builder, list: &List, element: &Shape) -> Result<Role, Refusal> {
    let initial = dense::stack(b, list, element)?;
    let shape = match (&initial.is_sized, initial.tensor.rank()) {
        (false, Some(rank)) => {
            let length = initial.tensor.shape.dim(0);
            let unknown = Shape::of_rank(rank.saturating_sub(1));
            stacked_shape(length, &list.declared.merged(&unknown))
        }
        _ => initial.tensor.shape.clone(),
    };
    Ok(Role::Dense { initial, shape })
}

/// Whether no element of a list is set.
pub(super) fn is_unset(list: &List) -> bool {
    match &list.contents {
        Contents::Unset(_) => true,
        Contents::Items(items) => items.iter().all(Option::is_none),
        _ => false,
    }
}

/// Whether the elements that a loop writes in this way can be collected.
pub(super) fn can_collect(list: &List, how: How) -> bool {
    match (how, &list.contents) {
        (How::AtIteration { .. }, _) => is_unset(list),
        (How::At(index), Contents::Items(items)) => {
            is_unset(list)
                && list.declared.sizes().is_none()
                && usize::try_from(index).is_ok_and(|it| it < items.len())
        }
        (How::At(_), _) => false,
        (How::Pushed, Contents::Stacked(stacked)) => stacked.is_sized,
        (How::Pushed, Contents::Items(items)) => items.is_empty() || !is_unset(list),
        (How::Pushed, _) => false,
    }
}

/// A list that a loop fills with elements of different first sizes, of shape `element`.
pub(super) fn join_role(b: &mut Builder, list: &List, element: &Shape) -> Result<Role, Refusal> {
    let dims = element.0.as_deref().unwrap_or_default();
    let rest = dims.get(1..).unwrap_or_default();
    let sizes = std::iter::once(0).chain(rest.iter().map(|it| it.unwrap_or(0)));
    let sizes = b.i64s(&sizes.collect::<Vec<_>>());
    let mut initial = b.zeros(list.dtype, &sizes)?;
    let shape = stacked_shape(None, &Shape::dims(rest.iter().copied()));
    initial.shape = shape.clone();
    Ok(Role::Join { initial, shape })
}

/// Whether all elements of a list are written by a loop with this number of iterations.
pub(super) fn is_filled(
    b: &mut Builder,
    list: &List,
    how: How,
    trip: Option<&Tensor>,
) -> Result<bool, Refusal> {
    let length = dense::length(b, list)?;
    Ok(match how {
        How::AtIteration { grows: true } | How::Pushed => length.int() == Some(0),
        How::AtIteration { grows: false } => trip.is_some_and(|it| b.is_same(it, &length)),
        How::At(_) => false,
    })
}

/// A list after a loop that wrote to it; `written` are the elements, stacked, and `trip` is the number of
/// iterations if it was known before.
pub(super) fn collected(
    b: &mut Builder,
    list: &List,
    how: How,
    written: Tensor,
    trip: Option<&Tensor>,
) -> Result<List, Refusal> {
    let is_fixed = element::element_of(&written.shape).sizes().is_some();
    let contents = match (how, &list.contents) {
        (How::At(index), Contents::Items(items)) => {
            // An iteration that did not take place wrote nothing: the request is refused.
            let last = b.i64(-1);
            let item = b.gather(&written, &last, 0)?;
            let mut items = items.to_vec();
            let place = usize::try_from(index).ok().and_then(|it| items.get_mut(it));
            *place.ok_or_else(|| Refusal::new("writes beyond its list"))? = Some(item);
            Contents::Items(items.into())
        }
        (How::Pushed, Contents::Items(items)) if items.is_empty() => sized(written),
        (How::Pushed, _) => {
            let before = dense::stack(b, list, &Shape::unknown())?;
            sized(b.concat(&[&before.tensor, &written], 0)?)
        }
        (How::AtIteration { grows }, _) => {
            let length = dense::length(b, list)?;
            let is_complete = trip.is_some_and(|it| b.is_same(it, &length));
            if is_complete || (grows && length.int() == Some(0)) {
                sized(written)
            } else {
                let count = b.first_size(&written)?;
                let mut missing = b.binary("Sub", &length, &count)?;
                if grows {
                    let zero = b.i64(0);
                    missing = b.binary("Max", &missing, &zero)?;
                }
                // Fewer than none is refused when the request runs.
                let mut tensor = dense::extended(b, &written, &missing)?;
                if !is_fixed && let Some(rank) = tensor.rank() {
                    tensor.shape = Shape::of_rank(rank);
                }
                Contents::Stacked(Stacked {
                    tensor,
                    is_sized: is_fixed,
                })
            }
        }
        (How::At(_), _) => return Err(Refusal::new("writes to a list of unknown length")),
    };
    Ok(list.with(contents))
}

fn sized(tensor: Tensor) -> Contents {
    Contents::Stacked(Stacked {
        tensor,
        is_sized: true,
    })
}

/// The value of a counter after the loop.
pub(super) fn counted(b: &mut Builder, start: &Tensor, trip: &Tensor) -> Result<Tensor, Refusal> {
    let zero = b.i64(0);
    let times = b.binary("Max", trip, &zero)?;
    let first = b.cast(start, DataType::Int64)?;
    let last = b.binary("Add", &first, &times)?;
    b.cast(&last, start.dtype)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(declared: Shape, items: Vec<Option<Tensor>>) -> List {
        List {
            dtype: DataType::Float,
            declared,
            is_declaration_known: true,
            max_elements: None,
            contents: Contents::Items(items.into()),
        }
    }

    #[test]
    fn a_list_with_elements_is_not_collected_by_index() {
        let item = Tensor::named("x", DataType::Float, Shape::scalar());
        let written = How::AtIteration { grows: false };
        let set = list(Shape::unknown(), vec![Some(item)]);
        assert!(!can_collect(&set, written));
        assert!(can_collect(&set, How::Pushed));
        let unset = list(Shape::unknown(), vec![None, None]);
        assert!(can_collect(&unset, written));
        assert!(!can_collect(&unset, How::Pushed));
    }

    #[test]
    fn one_place_is_collected_only_within_a_list_of_unknown_elements() {
        let unset = list(Shape::unknown(), vec![None]);
        assert!(can_collect(&unset, How::At(0)));
        assert!(!can_collect(&unset, How::At(1)));
        // Without an iteration the element would be zeros.
        assert!(!can_collect(&list(Shape::scalar(), vec![None]), How::At(0)));
    }
}
