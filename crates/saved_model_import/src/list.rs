//! The state of a TensorList during a translation.
//!
//! ONNX has no lists that can be as large as a loop makes them and whose elements are read by index cheaply, so
//! a list is a tensor with the elements stacked along its first axis, wherever that can be proven to be the same.
//!
//! Not here: the operators on lists (`ops::list`), and loops that carry them (`ops::control`).

use std::collections::HashMap;
use std::rc::Rc;

use base::tensor::DataType;

use crate::refusal::Refusal;
use crate::tensor::{Shape, Tensor};

/// A list of at most this many elements is followed element by element.
pub(crate) const MAX_ITEMS: usize = 64;

/// A list of tensors of one dtype.
#[derive(Clone)]
pub(crate) struct List {
    /// The dtype of the elements.
    pub(crate) dtype: DataType,
    /// The shape that the elements were declared with.
    pub(crate) declared: Shape,
    /// Whether `declared` is all of the declaration: otherwise more was computed than is known.
    pub(crate) is_declaration_known: bool,
    /// The number of elements that `TensorListPushBack` stops at.
    pub(crate) max_elements: Option<i64>,
    pub(crate) contents: Contents,
}

/// The elements of a list.
#[derive(Clone)]
pub(crate) enum Contents {
    /// No element is set. The number of elements, an int64 scalar.
    Unset(Tensor),
    /// Each element, as far as it is set.
    Items(Rc<[Option<Tensor>]>),
    /// The elements stacked along the first axis.
    Stacked(Stacked),
    /// The elements joined along their first axis.
    Ragged(Ragged),
    /// In the body of a loop: the list as the iteration before left it. It cannot be read.
    Collecting(Place),
    /// In the body of a loop: that list after this iteration wrote one element.
    Collected {
        place: Place,
        how: How,
        item: Tensor,
    },
}

/// Elements stacked along the first axis.
#[derive(Clone)]
pub(crate) struct Stacked {
    pub(crate) tensor: Tensor,
    /// Whether the sizes of the elements are those of the tensor. Otherwise it is possible that no element is
    /// set, and then all sizes that were not declared are 0.
    pub(crate) is_sized: bool,
}

/// Elements that are joined along their first axis.
#[derive(Clone)]
pub(crate) struct Ragged {
    pub(crate) values: Tensor,
    /// The first size of each element, a vector of int64.
    pub(crate) lengths: Tensor,
}

/// A variable of a loop that is being translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// The number of the loop within the signature.
    pub(crate) of_loop: usize,
    /// The number of the variable.
    pub(crate) variable: usize,
}

/// How each iteration of a loop writes an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// At the number of the iteration. The list can grow.
    AtIteration { grows: bool },
    /// At this index, always.
    At(i64),
    /// At the end.
    Pushed,
}

impl List {
    /// The same list with other contents.
    pub(crate) fn with(&self, contents: Contents) -> Self {
        Self {
            contents,
            ..self.clone()
        }
    }

    /// The loop's variable whose elements are collected.
    pub(crate) fn place(&self) -> Option<Place> {
        match &self.contents {
            Contents::Collecting(place) | Contents::Collected { place, .. } => Some(*place),
            _ => None,
        }
    }

    /// The shape of all elements as far as it is known.
    pub(crate) fn element_shape(&self) -> Shape {
        match &self.contents {
            Contents::Items(items) => {
                let set = items.iter().flatten();
                set.fold(self.declared.clone(), |shape, it| shape.merged(&it.shape))
            }
            Contents::Stacked(stacked) if stacked.is_sized => {
                let dims = stacked.tensor.shape.0.as_ref();
                let element = dims.and_then(|it| it.get(1..));
                match element {
                    Some(dims) => self.declared.merged(&Shape::dims(dims.iter().copied())),
                    None => self.declared.clone(),
                }
            }
            Contents::Stacked(stacked) => match stacked.tensor.rank() {
                Some(rank) => self
                    .declared
                    .merged(&Shape::of_rank(rank.saturating_sub(1))),
                None => self.declared.clone(),
            },
            Contents::Ragged(ragged) => {
                let rest = ragged.values.shape.0.as_ref().and_then(|it| it.get(1..));
                match rest {
                    Some(dims) => self
                        .declared
                        .merged(&stacked_shape(None, &Shape::dims(dims.iter().copied()))),
                    None => self.declared.clone(),
                }
            }
            Contents::Collected { item, .. } => self.declared.merged(&item.shape),
            Contents::Unset(_) | Contents::Collecting(_) => self.declared.clone(),
        }
    }
}

/// The shape of elements stacked along the first axis.
pub(crate) fn stacked_shape(length: Option<i64>, element: &Shape) -> Shape {
    match &element.0 {
        Some(dims) => Shape::dims(std::iter::once(length).chain(dims.iter().copied())),
        None => Shape::unknown(),
    }
}

/// The facts about the loops that are being translated.
#[derive(Default)]
pub(crate) struct Loops {
    /// Whether the file joins the elements of lists, once it was looked for.
    pub(crate) joins_lists: Option<bool>,
    /// How many loops have got a number.
    count: usize,
    /// Lists that are not only collected, so that their elements have to be at hand in each iteration; with the
    /// shape of the elements as far as it was seen.
    wanted: HashMap<Place, Shape>,
    /// Tensors that count from a number that is not negative, by their names. The number of the loop that they
    /// count the iterations of, if they begin with 0.
    counters: HashMap<Rc<str>, Option<usize>>,
}

impl Loops {
    /// The number of a new loop.
    pub(crate) fn next(&mut self) -> usize {
        self.count += 1;
        self.count
    }

    /// A list in a loop has to be at hand, with elements of this shape. The loop is translated again. The
    /// refusal ends this attempt, and is not reported.
    pub(crate) fn want(&mut self, place: Place, element: &Shape) -> Refusal {
        let known = self.wanted.entry(place).or_insert_with(Shape::unknown);
        *known = known.merged(element);
        Refusal::of_input()
    }

    /// The shape of the elements of a list that has to be at hand; forgets it.
    pub(crate) fn take_wanted(&mut self, place: Place) -> Option<Shape> {
        self.wanted.remove(&place)
    }

    /// Notes a tensor that counts.
    pub(crate) fn add_counter(&mut self, tensor: &Tensor, of_loop: Option<usize>) {
        if let Ok(name) = tensor.name() {
            self.counters.insert(Rc::clone(name), of_loop);
        }
    }

    /// Whether a tensor is the number of the iteration, from 0.
    pub(crate) fn is_iteration(&self, tensor: &Tensor, of_loop: usize) -> bool {
        let known = tensor.name().ok().and_then(|it| self.counters.get(it));
        known == Some(&Some(of_loop))
    }

    /// Whether all elements of a tensor of integers are known not to be negative.
    pub(crate) fn is_natural(&self, tensor: &Tensor) -> bool {
        if let Some(ints) = tensor.ints() {
            return ints.iter().all(|&it| it >= 0);
        }
        tensor.name().is_ok_and(|it| self.counters.contains_key(it))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_loop_whose_iterations_it_counts_has_a_counter() {
        let mut loops = Loops::default();
        let (outer, inner) = (loops.next(), loops.next());
        let counter = Tensor::named("i", DataType::Int32, Shape::scalar());
        let later = Tensor::named("j", DataType::Int32, Shape::scalar());
        loops.add_counter(&counter, Some(outer));
        loops.add_counter(&later, None);
        assert!(loops.is_iteration(&counter, outer));
        assert!(!loops.is_iteration(&counter, inner));
        assert!(!loops.is_iteration(&later, outer));
        assert!(loops.is_natural(&later));
        let other = Tensor::named("k", DataType::Int32, Shape::scalar());
        assert!(!loops.is_natural(&other));
    }

    #[test]
    fn a_wanted_list_is_reported_once_with_the_shape_that_was_seen() {
        let mut loops = Loops::default();
        let place = Place {
            of_loop: loops.next(),
            variable: 2,
        };
        assert_eq!(loops.want(place, &Shape::unknown()).reason(), None);
        loops.want(place, &Shape::of_rank(2));
        assert_eq!(loops.take_wanted(place), Some(Shape::of_rank(2)));
        assert_eq!(loops.take_wanted(place), None);
    }
}
