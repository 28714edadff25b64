//! `StridedSlice` with all its masks.
//!
//! Each entry of the bounds is a range, one index (`shrink_axis_mask`), a new axis, or the ellipsis, which
//! stands for all axes that are left. Axes behind the ellipsis count from the end, so that the rank need not be
//! known. Source: `ValidateStridedSliceOp` (`tensorflow/core/util/strided_slice_op.cc`).

use base::tensor::DataType;

use super::Table;
use crate::builder::Builder;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

pub(super) const TABLE: Table = &[("StridedSlice", Pure(strided_slice))];

/// The most entries that the bounds can have: a mask has a bit for each.
const MAX_ENTRIES: i64 = 32;

/// An end behind all elements. ONNX Runtime takes the largest int64 for the place before the first element if
/// the step is negative, and so it takes the largest int32.
const BEYOND: i64 = i64::MAX - 1;

/// What an entry of the bounds selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Range {
        axis: i64,
        index: i64,
    },
    Index {
        axis: i64,
        index: i64,
    },
    /// A dimension of size 1, at this place of the result.
    NewAxis {
        place: i64,
    },
}

/// The attributes.
#[derive(Clone, Copy, Debug, Default)]
struct Masks {
    begin: i64,
    end: i64,
    ellipsis: i64,
    new_axis: i64,
    shrink: i64,
}

impl Masks {
    fn of(op: &Op<'_>) -> Self {
        let mask = |name| op.attr_int(name).unwrap_or(0);
        Self {
            begin: mask("begin_mask"),
            end: mask("end_mask"),
            ellipsis: mask("ellipsis_mask"),
            new_axis: mask("new_axis_mask"),
            shrink: mask("shrink_axis_mask"),
        }
    }

    /// What each entry selects. Of several ellipses TensorFlow refuses all; the first counts here.
    fn entries(self, count: i64) -> Vec<Entry> {
        let kinds = (0..count).map(|index| self.kind(index));
        let kinds: Vec<Kind> = kinds.collect();
        let ellipsis = kinds.iter().position(|it| *it == Kind::Ellipsis);
        let front = ellipsis.unwrap_or(kinds.len());
        let mut entries = Vec::new();
        let (mut axis, mut place) = (0, 0);
        for (index, kind) in (0i64..).zip(kinds.iter().take(front)) {
            entries.extend(kind.entry(axis, place, index));
            axis += i64::from(kind.reads());
            place += i64::from(kind.gives());
        }
        let (mut axis, mut place) = (0, 0);
        let behind: Vec<_> = (0..count).zip(&kinds).skip(front + 1).collect();
        for (index, kind) in behind.into_iter().rev() {
            axis -= i64::from(kind.reads());
            place -= i64::from(kind.gives());
            entries.extend(kind.entry(axis, place, index));
        }
        entries
    }

    fn kind(self, index: i64) -> Kind {
        if has(self.ellipsis, index) {
            Kind::Ellipsis
        } else if has(self.new_axis, index) {
            Kind::NewAxis
        } else if has(self.shrink, index) {
            Kind::Index
        } else {
            Kind::Range
        }
    }
}

fn has(mask: i64, index: i64) -> bool {
    mask >> index & 1 != 0
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Range,
    Index,
    NewAxis,
    Ellipsis,
}

impl Kind {
    /// Whether it takes an axis of the input.
    fn reads(self) -> bool {
        matches!(self, Self::Range | Self::Index)
    }

    /// Whether it leaves an axis in the result.
    fn gives(self) -> bool {
        matches!(self, Self::Range | Self::NewAxis)
    }

    fn entry(self, axis: i64, place: i64, index: i64) -> Option<Entry> {
        match self {
            Self::Range => Some(Entry::Range { axis, index }),
            Self::Index => Some(Entry::Index { axis, index }),
            Self::NewAxis => Some(Entry::NewAxis { place }),
            Self::Ellipsis => None,
        }
    }
}

fn strided_slice(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let bounds = Bounds {
        begin: b.cast(op.input(1)?, DataType::Int64)?,
        end: b.cast(op.input(2)?, DataType::Int64)?,
        step: b.cast(op.input(3)?, DataType::Int64)?,
    };
    let masks = Masks::of(op);
    let counts = [&bounds.begin, &bounds.end, &bounds.step].map(|it| it.shape.dim(0));
    let Some(count) = counts.into_iter().flatten().next() else {
        return one(of_unknown_length(b, x, &bounds, masks)?);
    };
    if !(0..=MAX_ENTRIES).contains(&count) {
        return Err(Refusal::new(format!("has {count} bounds")));
    }
    let entries = masks.entries(count);
    if let Some(rank) = x.rank() {
        let read = entries
            .iter()
            .filter(|it| !matches!(it, Entry::NewAxis { .. }));
        if read.count() > rank {
            return Err(Refusal::new(
                "has more bounds than its input has dimensions",
            ));
        }
    }
    let mut result = take_indices(b, x, &bounds, &entries)?;
    result = take_ranges(b, &result, &bounds, &entries, masks)?;
    let places = entries.iter().filter_map(|it| match it {
        Entry::NewAxis { place } => Some(*place),
        _ => None,
    });
    let places: Vec<i64> = places.collect();
    match places.is_empty() {
        true => one(result),
        false => one(b.unsqueeze(&result, &places)?),
    }
}

/// The inputs that bound the slice, as int64.
struct Bounds {
    begin: Tensor,
    end: Tensor,
    step: Tensor,
}

/// A gather with one index fails outside of the tensor, as TensorFlow does, and counts negative ones from the
/// end.
fn take_indices(
    b: &mut Builder,
    x: &Tensor,
    bounds: &Bounds,
    entries: &[Entry],
) -> Result<Tensor, Refusal> {
    let indices = entries.iter().filter_map(|it| match it {
        Entry::Index { axis, index } => Some((*axis, *index)),
        _ => None,
    });
    let mut indices: Vec<(i64, i64)> = indices.collect();
    // A gathered axis goes: axes from the start are taken from the last, those from the end from the first.
    indices.sort_by_key(|(axis, _)| if *axis < 0 { (1, *axis) } else { (0, -*axis) });
    let mut result = x.clone();
    for (axis, index) in indices {
        if known_at(&bounds.step, index).is_some_and(|it| it <= 0) {
            return Err(Refusal::new("takes one index with a stride that is not 1"));
        }
        let index = match known_at(&bounds.begin, index) {
            Some(known) => b.i64(known),
            None => {
                let place = b.i64(index);
                b.gather(&bounds.begin, &place, 0)?
            }
        };
        result = b.gather(&result, &index, axis)?;
    }
    Ok(result)
}

fn known_at(list: &Tensor, index: i64) -> Option<i64> {
    let index = usize::try_from(index).ok()?;
    *list.elements()?.get(index)?
}

/// An element of a list as a vector of one.
fn part_at(b: &mut Builder, list: &Tensor, index: i64) -> Result<Tensor, Refusal> {
    match known_at(list, index) {
        Some(known) => Ok(b.i64s(&[known])),
        None => {
            let index = b.i64s(&[index]);
            b.gather(list, &index, 0)
        }
    }
}

fn take_ranges(
    b: &mut Builder,
    x: &Tensor,
    bounds: &Bounds,
    entries: &[Entry],
    masks: Masks,
) -> Result<Tensor, Refusal> {
    let mut axes = Vec::new();
    let mut lists = [const { Vec::new() }; 3];
    for entry in entries {
        let Entry::Range { axis, index } = *entry else {
            continue;
        };
        let whole = has(masks.begin, index) && has(masks.end, index);
        let step = known_at(&bounds.step, index);
        let starts = has(masks.begin, index) || known_at(&bounds.begin, index) == Some(0);
        if step == Some(0) {
            return Err(Refusal::new("has a stride of 0"));
        }
        if step == Some(1) && (whole || starts && has(masks.end, index)) {
            continue;
        }
        let axis = left(axis, entries);
        let range = range(b, x, bounds, (axis, index), masks)?;
        axes.push(axis);
        for (list, part) in lists.iter_mut().zip(range) {
            list.push(part);
        }
    }
    if axes.is_empty() {
        return Ok(x.clone());
    }
    let mut joined = Vec::new();
    for list in &lists {
        joined.push(b.concat(&list.iter().collect::<Vec<_>>(), 0)?);
    }
    let [starts, ends, steps] = joined.as_slice() else {
        return Err(Refusal::new("needs three bounds"));
    };
    if let (Some(starts), Some(ends), Some(steps)) = (starts.ints(), ends.ints(), steps.ints()) {
        return b.slice(x, &axes, &starts, &ends, &steps);
    }
    let mut shape = x.shape.clone();
    let places = axes
        .iter()
        .map(|&it| crate::builder::from_start(it, x.rank().unwrap_or(0)));
    let places: Vec<usize> = places.collect();
    if let Some(dims) = &mut shape.0 {
        for place in places {
            if let Some(dim) = dims.get_mut(place) {
                *dim = None;
            }
        }
    }
    let axes = b.i64s(&axes);
    b.op("Slice", &[x, starts, ends, &axes, steps])
        .one(x.dtype, shape)
}

/// The axis in a tensor from which all axes with one index are gone.
fn left(axis: i64, entries: &[Entry]) -> i64 {
    let gone = entries.iter().filter(|it| match it {
        Entry::Index { axis: other, .. } if axis < 0 => *other > axis && *other < 0,
        Entry::Index { axis: other, .. } => *other < axis && *other >= 0,
        _ => false,
    });
    let gone = i64::try_from(gone.count()).unwrap_or(0);
    if axis < 0 { axis + gone } else { axis - gone }
}

/// The start, end and step of a range, as ONNX's `Slice` takes them.
fn range(
    b: &mut Builder,
    x: &Tensor,
    bounds: &Bounds,
    (axis, index): (i64, i64),
    masks: Masks,
) -> Result<[Tensor; 3], Refusal> {
    let step = part_at(b, &bounds.step, index)?;
    let zero = b.i64s(&[0]);
    // For a step that only a request gives.
    let by_sign = |b: &mut Builder, down: i64, up: i64| match step.int() {
        Some(step) => Ok(b.i64s(&[if step < 0 { down } else { up }])),
        None => {
            let is_down = b.compare("Less", &step, &zero)?;
            let (down, up) = (b.i64s(&[down]), b.i64s(&[up]));
            b.choose(&is_down, &down, &up)
        }
    };
    let start = match has(masks.begin, index) {
        true => by_sign(b, i64::MAX, 0)?,
        false => part_at(b, &bounds.begin, index)?,
    };
    let mut end = match has(masks.end, index) {
        true => by_sign(b, i64::MIN, i64::MAX)?,
        false => match known_at(&bounds.end, index) {
            Some(known) if known >= i64::from(i32::MAX) => b.i64s(&[BEYOND]),
            Some(known) => b.i64s(&[known]),
            None => part_at(b, &bounds.end, index)?,
        },
    };
    let goes_down = step.int().is_none_or(|it| it < 0);
    if goes_down && !has(masks.begin, index) && start.int().is_none_or(|it| it < -1) {
        // A start before the first element gives no elements; ONNX would start at the first.
        let size = b.size_at(x, axis)?;
        if let (Some(size), Some(start), Some(_)) = (size.int(), start.int(), step.int()) {
            let end = if size.saturating_add(start) < 0 {
                b.i64s(&[BEYOND])
            } else {
                end
            };
            return Ok([b.i64s(&[start]), end, step]);
        }
        let from = b.binary("Add", &size, &start)?;
        let is_before = b.compare("Less", &from, &zero)?;
        let is_before = match step.int() {
            Some(_) => is_before,
            None => {
                let is_down = b.compare("Less", &step, &zero)?;
                b.op("And", &[&is_before, &is_down])
                    .one(DataType::Bool, Shape::dims([Some(1)]))?
            }
        };
        let nothing = b.i64s(&[BEYOND]);
        end = b.choose(&is_before, &nothing, &end)?;
    }
    Ok([start, end, step])
}

/// Bounds of which not even the number is known: only ranges, from the first axis on.
fn of_unknown_length(
    b: &mut Builder,
    x: &Tensor,
    bounds: &Bounds,
    masks: Masks,
) -> Result<Tensor, Refusal> {
    let others = [
        masks.begin,
        masks.end,
        masks.ellipsis,
        masks.new_axis,
        masks.shrink,
    ];
    if others.iter().any(|it| *it != 0) {
        return Err(Refusal::new("has masks and an unknown number of bounds"));
    }
    let count = b.count_of(&bounds.begin)?;
    let axes = b.count_up(&count)?;
    let sizes = b.shape_of(x)?;
    let sizes = b.gather(&sizes, &axes, 0)?;
    let zero = b.i64(0);
    let from = b.binary("Add", &sizes, &bounds.begin)?;
    let is_before = b.compare("Less", &from, &zero)?;
    let is_down = b.compare("Less", &bounds.step, &zero)?;
    let is_empty = b.op("And", &[&is_before, &is_down]);
    let is_empty = is_empty.one(DataType::Bool, Shape::of_rank(1))?;
    let nothing = b.i64(BEYOND);
    let end = b.choose(&is_empty, &nothing, &bounds.end)?;
    let shape = x.rank().map_or_else(Shape::unknown, Shape::of_rank);
    b.op("Slice", &[x, &bounds.begin, &end, &axes, &bounds.step])
        .one(x.dtype, shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_behind_an_ellipsis_count_from_the_end() {
        // x[1, tf.newaxis, ..., :2, 0]
        let masks = Masks {
            ellipsis: 0b00100,
            new_axis: 0b00010,
            shrink: 0b10001,
            ..Masks::default()
        };
        let entries = masks.entries(5);
        assert_eq!(
            entries,
            [
                Entry::Index { axis: 0, index: 0 },
                Entry::NewAxis { place: 0 },
                Entry::Index { axis: -1, index: 4 },
                Entry::Range { axis: -2, index: 3 },
            ]
        );
        assert_eq!(left(-2, &entries), -1);
        assert_eq!(left(1, &entries), 0);
    }
}
