//! Tensors made from few numbers: repeated, filled, counted up.
//!
//! Not here: padding (`pad`).

use base::tensor::DataType;

use super::Table;
use crate::builder::Builder;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::{MAX_ELEMENTS, Shape, Tensor};

pub(super) const TABLE: Table = &[
    ("BroadcastArgs", Pure(broadcast_args)),
    ("BroadcastTo", Pure(broadcast_to)),
    ("Fill", Pure(fill)),
    ("LinSpace", Pure(lin_space)),
    ("Range", Pure(range)),
    ("Tile", Pure(tile)),
];

/// ONNX's `Expand` also takes sizes that are smaller than those of the tensor: then the result has another
/// number of elements than these sizes say.
fn broadcast_to(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let sizes = b.cast(op.input(1)?, DataType::Int64)?;
    if let (Some(own), Some(wanted)) = (x.shape.sizes(), sizes.ints())
        && own.len() > wanted.len()
    {
        return Err(Refusal::new(
            "has an input of a higher rank than its result",
        ));
    }
    let expanded = b.carried(x, &[DataType::BFloat16], |b, x| b.expand(x, &sizes))?;
    let fits = x.shape.sizes().is_some_and(|own| {
        let wanted = sizes.ints();
        wanted.is_some_and(|it| it.iter().rev().zip(own.iter().rev()).all(fits))
    });
    let is_scalar = x.rank() == Some(0);
    match fits || is_scalar {
        true => one(with_filled(expanded, x)),
        false => one(b.reshape_to(&expanded, &sizes)?),
    }
}

fn fits((wanted, own): (&i64, &usize)) -> bool {
    *own == 1 || i64::try_from(*own).is_ok_and(|own| own == *wanted)
}

/// The elements of a small tensor that repeats one integer.
fn with_filled(filled: Tensor, value: &Tensor) -> Tensor {
    let count = filled.shape.count().and_then(|it| usize::try_from(it).ok());
    match (count, value.elements()) {
        (Some(count), Some([only])) if count <= MAX_ELEMENTS => {
            let known = vec![*only; count];
            filled.with_elements(known)
        }
        _ => filled,
    }
}

fn fill(b: &mut Builder, op: &Op<'_>) -> Translated {
    let sizes = b.cast(op.input(0)?, DataType::Int64)?;
    let value = op.input(1)?;
    if let Some(known) = sizes.elements()
        && value.elements().is_some_and(|it| it.len() == 1)
    {
        // A tensor that is known completely needs no node.
        let shape = Shape::dims(known.iter().map(|it| it.filter(|&it| it >= 0)));
        let folded = with_filled(Tensor::named("", value.dtype, shape), value);
        if folded.as_constant().is_some() {
            return one(folded);
        }
    }
    let filled = b.carried(value, &[DataType::BFloat16], |b, it| b.expand(it, &sizes))?;
    one(with_filled(filled, value))
}

fn tile(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let repeats = b.cast(op.input(1)?, DataType::Int64)?;
    let rank = x
        .rank()
        .or_else(|| usize::try_from(repeats.shape.dim(0)?).ok());
    let shape = match (&x.shape.0, repeats.elements()) {
        (Some(dims), Some(repeats)) if dims.len() == repeats.len() => {
            let dims = dims.iter().zip(repeats);
            Shape::dims(dims.map(|(dim, times)| (*dim)?.checked_mul((*times)?)))
        }
        _ => rank.map_or_else(Shape::unknown, Shape::of_rank),
    };
    let known = repeated(x, &repeats);
    if let Some(folded) = Tensor::folded(x.dtype, &shape, known.as_deref()) {
        return one(folded);
    }
    let tiled = b.carried(x, &[DataType::BFloat16], |b, x| {
        b.op("Tile", &[x, &repeats]).one(x.dtype, shape)
    })?;
    one(tiled.with_known(known))
}

/// The elements of a small vector of integers that is repeated.
fn repeated(x: &Tensor, repeats: &Tensor) -> Option<Vec<Option<i64>>> {
    let elements = x.elements().filter(|_| x.rank() == Some(1))?;
    let times = usize::try_from(repeats.int()?).ok()?;
    let count = elements.len().checked_mul(times)?;
    (count <= MAX_ELEMENTS).then(|| elements.repeat(times))
}

/// The shape that two shapes are broadcast to: two vectors of sizes, the shorter of which starts with ones.
fn broadcast_args(b: &mut Builder, op: &Op<'_>) -> Translated {
    let dtype = op.input(0)?.dtype;
    let mut sides = [op.input(0)?.clone(), op.input(1)?.clone()];
    for side in &mut sides {
        *side = b.cast(side, DataType::Int64)?;
    }
    if let (Some(one_side), Some(two)) = (sides[0].elements(), sides[1].elements()) {
        let shapes = [one_side, two].map(|it| Shape::dims(it.iter().copied()));
        let both = shapes[0].broadcast(&shapes[1]);
        if let Some(sizes) = both.sizes() {
            let sizes: Vec<i64> = sizes
                .iter()
                .filter_map(|&it| i64::try_from(it).ok())
                .collect();
            let sizes = b.i64s(&sizes);
            return one(b.cast(&sizes, dtype)?);
        }
    }
    let lengths = [b.count_of(&sides[0])?, b.count_of(&sides[1])?];
    let longest = b.binary("Max", &lengths[0], &lengths[1])?;
    for (side, length) in sides.iter_mut().zip(&lengths) {
        let missing = b.binary("Sub", &longest, length)?;
        let missing = b.as_vector(&missing)?;
        let one = b.i64(1);
        let ones = b.expand(&one, &missing)?;
        *side = b.concat(&[&ones, &*side], 0)?;
    }
    let size_one = b.i64(1);
    let [x, y] = &sides;
    let from_x = b.compare("Equal", y, &size_one)?;
    let from_y = b.compare("Equal", x, &size_one)?;
    let sizes = b.choose(&from_y, y, x)?;
    let check = b.choose(&from_x, x, y)?;
    let same = b.compare("Equal", &sizes, &check)?;
    let other = b.unary("Not", &same)?;
    let sizes = b.guarded(&sizes, &other)?;
    one(b.cast(&sizes, dtype)?)
}

fn range(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (start, end, step) = (op.input(0)?, op.input(1)?, op.input(2)?);
    let dtype = start.dtype;
    if matches!(
        dtype,
        DataType::Float | DataType::Double | DataType::Half | DataType::BFloat16
    ) {
        return one(float_range(b, [start, end, step])?);
    }
    if step.int() == Some(0) {
        return Err(Refusal::new("has a step of 0"));
    }
    let mut bounds = [start.clone(), end.clone(), step.clone()];
    for bound in &mut bounds {
        *bound = b.cast(bound, DataType::Int64)?;
        *bound = b.as_scalar(bound)?;
    }
    let [start, end, step] = &mut bounds;
    if start.int().zip(end.int()).zip(step.int()).is_none() {
        // TensorFlow refuses a step away from the end, for which ONNX gives no elements.
        let (from, to) = match step.int() {
            Some(step) if step < 0 => (&*end, &*start),
            _ => (&*start, &*end),
        };
        let mut bad = b.compare("Less", to, from)?;
        if step.int().is_none() {
            let above = b.compare("Less", from, to)?;
            let zero = b.i64(0);
            let down = b.compare("Less", step, &zero)?;
            bad = b.choose_any(&down, &above, &bad)?;
        }
        *end = b.guarded(end, &bad)?;
    }
    let range = b.range(start, end, step)?;
    one(b.cast(&range, dtype)?)
}

/// The number of elements is rounded in the dtype itself, as TensorFlow's kernel does.
fn float_range(b: &mut Builder, bounds: [&Tensor; 3]) -> Result<Tensor, Refusal> {
    let dtype = bounds[0].dtype;
    let wide = match dtype {
        DataType::Half | DataType::BFloat16 => DataType::Float,
        other => other,
    };
    let mut scalars = Vec::new();
    for bound in bounds {
        let bound = b.cast(bound, wide)?;
        scalars.push(b.as_scalar(&bound)?);
    }
    let [start, end, step] = scalars.as_slice() else {
        return Err(Refusal::new("needs three bounds"));
    };
    let distance = b.binary("Sub", end, start)?;
    let steps = b.binary("Div", &distance, step)?;
    let zero = b.scalar(wide, 0.0)?;
    // A step of 0 gives infinity, or no number.
    let fits = b.op("GreaterOrEqual", &[&steps, &zero]);
    let fits = fits.one(DataType::Bool, Shape::scalar())?;
    let is_zero = b.compare("Equal", step, &zero)?;
    let bad = b.unary("Not", &fits)?;
    let bad = b.op("Or", &[&bad, &is_zero]);
    let bad = bad.one(DataType::Bool, Shape::scalar())?;
    let steps = b.unary("Ceil", &steps)?;
    let count = b.cast(&steps, DataType::Int64)?;
    let count = b.guarded(&count, &bad)?;
    let places = b.count_up(&count)?;
    let places = b.cast(&places, wide)?;
    let offsets = b.binary("Mul", &places, step)?;
    let values = b.binary("Add", &offsets, start)?;
    b.cast(&values, dtype)
}

/// `num` evenly spaced numbers; the last is exactly `stop`.
fn lin_space(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (start, stop) = (op.input(0)?, op.input(1)?);
    let dtype = start.dtype;
    let wide = match dtype {
        DataType::Half | DataType::BFloat16 => DataType::Float,
        other => other,
    };
    let start = b.cast(start, wide)?;
    let stop = b.cast(stop, wide)?;
    let count = b.cast(op.input(2)?, DataType::Int64)?;
    let mut count = b.as_scalar(&count)?;
    let one_int = b.i64(1);
    if count.int().is_none_or(|it| it < 1) {
        let bad = b.compare("Less", &count, &one_int)?;
        count = b.guarded(&count, &bad)?;
    }
    let places = b.count_up(&count)?;
    let last = b.binary("Sub", &count, &one_int)?;
    let is_last = b.compare("Equal", &places, &last)?;
    let gaps = b.binary("Max", &last, &one_int)?;
    let gaps = b.cast(&gaps, wide)?;
    let distance = b.binary("Sub", &stop, &start)?;
    let step = b.binary("Div", &distance, &gaps)?;
    let places = b.cast(&places, wide)?;
    let offsets = b.binary("Mul", &places, &step)?;
    let values = b.binary("Add", &start, &offsets)?;
    // With one number, it is `start`.
    let only = b.compare("Equal", &count, &one_int)?;
    let end = b.choose(&only, &start, &stop)?;
    let values = b.choose(&is_last, &end, &values)?;
    one(b.cast(&values, dtype)?)
}
