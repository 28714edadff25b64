//! Reductions along axes.
//!
//! Not here: the places of the largest elements (`arg`, `top_k`), sums so far (`cumulative`).

use base::tensor::DataType;

use super::Table;
use crate::builder::Builder;
use crate::builder::common::axis_of;
use crate::builder::kernels::{is_floating, is_integer};
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor};

type Result<T> = std::result::Result<T, Refusal>;

pub(super) const TABLE: Table = &[
    ("All", Pure(|b, op| logic(b, op, "ReduceMin"))),
    ("Any", Pure(|b, op| logic(b, op, "ReduceMax"))),
    ("EuclideanNorm", Pure(euclidean_norm)),
    ("Max", Pure(|b, op| extreme(b, op, "ReduceMax"))),
    ("Mean", Pure(mean)),
    ("Min", Pure(|b, op| extreme(b, op, "ReduceMin"))),
    ("Prod", Pure(product)),
    ("Sum", Pure(sum)),
];

/// What to reduce.
struct Axes {
    /// A vector of int64.
    tensor: Tensor,
    /// From the start, if they and the rank are known.
    known: Option<Vec<usize>>,
    keep: bool,
    /// Of the result.
    shape: Shape,
}

impl Axes {
    fn of(b: &mut Builder, op: &Op<'_>) -> Result<Self> {
        let (x, axes) = (op.input(0)?, op.input(1)?);
        let keep = op.attr_flag("keep_dims");
        let axes = b.cast(axes, DataType::Int64)?;
        let axes = match axes.rank() {
            Some(1) => axes,
            _ => b.reshape(&axes, &[-1])?,
        };
        let ints = axes.ints();
        let known = match (&ints, x.rank()) {
            (Some(ints), Some(rank)) => {
                let places = ints.iter().map(|&it| axis_of(it, Some(rank)));
                let places = places.collect::<Option<Vec<_>>>();
                Some(places.ok_or_else(|| Refusal::new("reduces an axis that is not there"))?)
            }
            _ => None,
        };
        let has_twice = |it: &[usize]| (1..it.len()).any(|index| it[..index].contains(&it[index]));
        if known.as_deref().is_some_and(has_twice) {
            return Err(Refusal::new("reduces an axis twice"));
        }
        let tensor = match ints {
            Some(ints) => b.i64s(&ints),
            None => without_doubles(b, x, &axes)?,
        };
        let shape = reduced(x, known.as_deref(), &tensor, keep);
        Ok(Self {
            tensor,
            known,
            keep,
            shape,
        })
    }

    /// Whether no axis is reduced.
    fn is_empty(&self) -> bool {
        self.tensor.shape.dim(0) == Some(0)
    }

    /// Whether it is certain that there is an element to reduce, for every request.
    fn has_elements(&self, x: &Tensor) -> bool {
        let known = self.known.as_ref();
        known.is_some_and(|it| {
            it.iter()
                .all(|&axis| matches!(x.shape.dim(axis as i64), Some(1..)))
        })
    }

    /// An ONNX reduction. Without axes nothing is reduced, as in TensorFlow.
    fn reduce(&self, b: &mut Builder, op_type: &str, x: &Tensor) -> Result<Tensor> {
        b.op(op_type, &[x, &self.tensor])
            .int("keepdims", self.keep.into())
            .int("noop_with_empty_axes", 1)
            .one(x.dtype, self.shape.clone())
    }
}

/// Axes that come with the request. TensorFlow refuses one that is there twice; here the `Reshape` does.
fn without_doubles(b: &mut Builder, x: &Tensor, axes: &Tensor) -> Result<Tensor> {
    if axes.shape.dim(0).is_some_and(|it| it < 2) {
        return Ok(axes.clone());
    }
    let sizes = b.shape_of(x)?;
    let rank = b.shape_of(&sizes)?;
    // A tensor without axes has none to reduce; the divisor must not be 0.
    let one = b.i64(1);
    let divisor = b.binary("Max", &rank, &one)?;
    let from_start = b.binary("Mod", axes, &divisor)?;
    let unique = b
        .op("Unique", &[&from_start])
        .one(DataType::Int64, Shape::of_rank(1))?;
    let len = b.shape_of(&unique)?;
    b.reshape_to(axes, &len)
}

/// The shape of the result.
fn reduced(x: &Tensor, known: Option<&[usize]>, axes: &Tensor, keep: bool) -> Shape {
    let Some(dims) = &x.shape.0 else {
        return Shape::unknown();
    };
    match (known, keep) {
        (Some(known), true) => {
            Shape::dims(
                dims.iter()
                    .enumerate()
                    .map(|(index, dim)| match known.contains(&index) {
                        true => Some(1),
                        false => *dim,
                    }),
            )
        }
        (Some(known), false) => {
            let left = dims.iter().enumerate();
            let left = left.filter(|(index, _)| !known.contains(index));
            Shape::dims(left.map(|(_, dim)| *dim))
        }
        (None, true) => Shape::of_rank(dims.len()),
        (None, false) => {
            let count = axes.shape.dim(0).and_then(|it| usize::try_from(it).ok());
            match count.and_then(|it| dims.len().checked_sub(it)) {
                Some(rank) => Shape::of_rank(rank),
                None => Shape::unknown(),
            }
        }
    }
}

/// The result for a vector of known integers.
fn folded(op_type: &str, x: &Tensor, axes: &Axes) -> Option<Tensor> {
    let elements = x.elements()?;
    if x.rank() != Some(1) || axes.known.as_deref() != Some(&[0]) {
        return None;
    }
    let all: Option<Vec<i64>> = elements.iter().copied().collect();
    let all = all?;
    let result = match op_type {
        "ReduceSum" => all.iter().try_fold(0i64, |sum, &it| sum.checked_add(it)),
        "ReduceProd" => all
            .iter()
            .try_fold(1i64, |product, &it| product.checked_mul(it)),
        "ReduceMax" => all.iter().copied().max(),
        "ReduceMin" => all.iter().copied().min(),
        _ => None,
    }?;
    let constant = Tensor::named("", x.dtype, axes.shape.clone()).with_elements(vec![Some(result)]);
    constant.as_constant().is_some().then_some(constant)
}

fn sum(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let axes = Axes::of(b, op)?;
    if axes.is_empty() {
        return one(x.clone());
    }
    if let Some(folded) = folded("ReduceSum", x, &axes) {
        return one(folded);
    }
    let result = match is_integer(x.dtype) {
        true => sum_of_integers(b, x, &axes)?,
        false => {
            let wide = b.widened("ReduceSum", x)?;
            axes.reduce(b, "ReduceSum", &wide)?
        }
    };
    one(b.cast(&result, x.dtype)?)
}

/// As int64, which wraps around. ONNX Runtime adds int64 as doubles, which are exact up to 2^53: numbers of 64 bits
/// are added in halves.
fn sum_of_integers(b: &mut Builder, x: &Tensor, axes: &Axes) -> Result<Tensor> {
    let wide = b.cast(x, DataType::Int64)?;
    if !matches!(x.dtype, DataType::Int64 | DataType::UInt64) {
        return axes.reduce(b, "ReduceSum", &wide);
    }
    let (mask, base) = (b.i64(0xffff_ffff), b.i64(1 << 32));
    let low = b.binary("BitwiseAnd", &wide, &mask)?;
    let high = b.binary("Sub", &wide, &low)?;
    let high = b.binary("Div", &high, &base)?;
    let (low, high) = (
        axes.reduce(b, "ReduceSum", &low)?,
        axes.reduce(b, "ReduceSum", &high)?,
    );
    let high = b.binary("Mul", &high, &base)?;
    b.binary("Add", &high, &low)
}

/// ONNX Runtime computes products of integers as doubles, which are exact up to 2^53: the request fails beyond. Sizes
/// of tensors do not come near.
fn product(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let axes = Axes::of(b, op)?;
    if axes.is_empty() {
        return one(x.clone());
    }
    if let Some(folded) = folded("ReduceProd", x, &axes) {
        return one(folded);
    }
    let wide = match is_integer(x.dtype) {
        true => b.cast(x, DataType::Int64)?,
        false => b.widened("ReduceProd", x)?,
    };
    let mut result = axes.reduce(b, "ReduceProd", &wide)?;
    if is_integer(x.dtype) && x.elements().is_none() {
        let (most, least) = (b.i64(1 << 53), b.i64(-(1 << 53)));
        let is_above = b.compare("Greater", &result, &most)?;
        let is_below = b.compare("Less", &result, &least)?;
        let is_rounded = b.compare("Or", &is_above, &is_below)?;
        result = b.guarded(&result, &is_rounded)?;
    }
    one(b.cast(&result, x.dtype)?)
}

/// A float that is not a number makes the result one, which ONNX Runtime's kernel passes over.
fn extreme(b: &mut Builder, op: &Op<'_>, op_type: &str) -> Translated {
    let x = op.input(0)?;
    let axes = Axes::of(b, op)?;
    if axes.is_empty() {
        return one(x.clone());
    }
    if let Some(folded) = folded(op_type, x, &axes) {
        return one(folded);
    }
    let wide = b.ordered(op_type, x)?;
    let mut result = axes.reduce(b, op_type, &wide)?;
    if x.dtype == DataType::Int16 {
        // Of no numbers: the limit of int32.
        let (name, limit) = match op_type {
            "ReduceMax" => ("Max", i16::MIN),
            _ => ("Min", i16::MAX),
        };
        let limit = b.scalar_for(&result, limit.into())?;
        result = b.binary(name, &result, &limit)?;
    }
    if is_floating(x.dtype) {
        let is_nan = b
            .op("IsNaN", &[&wide])
            .one(DataType::Bool, x.shape.clone())?;
        let has_nan = any(b, &is_nan, &axes)?;
        let nan = b.scalar_for(&wide, f64::NAN)?;
        result = b.choose(&has_nan, &nan, &result)?;
    }
    one(b.unordered(&result, x.dtype)?)
}

/// Whether one is true; false where there are none. ONNX Runtime reduces bools only where there are some.
fn any(b: &mut Builder, x: &Tensor, axes: &Axes) -> Result<Tensor> {
    let wide = b.cast(x, DataType::UInt8)?;
    let result = axes.reduce(b, "ReduceMax", &wide)?;
    b.cast(&result, DataType::Bool)
}

/// The least of no numbers is the greatest number, which is true; the greatest of none is 0.
fn logic(b: &mut Builder, op: &Op<'_>, op_type: &str) -> Translated {
    let x = op.input(0)?;
    let axes = Axes::of(b, op)?;
    if axes.is_empty() {
        return one(x.clone());
    }
    let wide = b.cast(x, DataType::UInt8)?;
    let result = axes.reduce(b, op_type, &wide)?;
    one(b.cast(&result, DataType::Bool)?)
}

/// TensorFlow divides the sum by the number of elements: the mean of none is not a number. Integers are added in
/// 64 bits, and the quotient is rounded towards 0; the mean of none is 0.
fn mean(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let axes = Axes::of(b, op)?;
    if axes.is_empty() {
        return one(x.clone());
    }
    if is_integer(x.dtype) {
        let sum = sum_of_integers(b, x, &axes)?;
        let mut count = count(b, x, &axes)?;
        if !axes.has_elements(x) {
            let one = b.i64(1);
            count = b.binary("Max", &count, &one)?;
        }
        let result = b.binary("Div", &sum, &count)?;
        return one(b.cast(&result, x.dtype)?);
    }
    let wide = b.widened("ReduceMean", x)?;
    let mut result = axes.reduce(b, "ReduceMean", &wide)?;
    if !axes.has_elements(x) {
        // 1, or not a number if there are no elements.
        let count = count(b, x, &axes)?;
        let count = b.cast(&count, wide.dtype)?;
        let factor = b.binary("Div", &count, &count)?;
        result = b.binary("Mul", &result, &factor)?;
    }
    one(b.cast(&result, x.dtype)?)
}

/// How many elements become one: a scalar.
fn count(b: &mut Builder, x: &Tensor, axes: &Axes) -> Result<Tensor> {
    let sizes = b.shape_of(x)?;
    let reduced = b.gather(&sizes, &axes.tensor, 0)?;
    let known = reduced.ints();
    let known = known.and_then(|it| it.iter().try_fold(1i64, |all, &it| all.checked_mul(it)));
    match known {
        Some(known) => Ok(b.i64(known)),
        None => b.reduce("ReduceProd", &reduced, None, false),
    }
}

/// Squares of integers wrap around; the root is cut off.
fn euclidean_norm(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let axes = Axes::of(b, op)?;
    if is_integer(x.dtype) {
        let squares = b.binary_any("Mul", x, x)?;
        let sum = sum_of_integers(b, &squares, &axes)?;
        let sum = b.cast(&sum, x.dtype)?;
        let sum = b.cast(&sum, DataType::Double)?;
        let result = b.unary("Sqrt", &sum)?;
        return one(b.cast(&result, x.dtype)?);
    }
    let wide = b.widened("ReduceL2", x)?;
    let result = match axes.is_empty() {
        true => b.unary("Abs", &wide)?,
        false => axes.reduce(b, "ReduceL2", &wide)?,
    };
    one(b.cast(&result, x.dtype)?)
}

#[cfg(test)]
mod tests {
    use proto::tensorflow::NodeDef;

    use super::*;
    use crate::value::Value;

    fn mean_of(dims: &[Option<i64>]) -> Vec<String> {
        let mut b = Builder::new();
        let x = b.input("x", DataType::Int64, Shape::dims(dims.iter().copied()));
        let axes = b.i64s(&[0]);
        let inputs = [Value::Tensor(x.unwrap()), Value::Tensor(axes)];
        let node = NodeDef::default();
        let op = Op {
            node: &node,
            inputs: &inputs,
        };
        let results = mean(&mut b, &op).unwrap();
        let [Value::Tensor(result)] = &results[..] else {
            panic!("no tensor");
        };
        b.output("y", result).unwrap();
        let graph = b.finish("").graph.unwrap();
        let types = graph.node.iter().map(|it| it.op_type().to_owned());
        types.collect()
    }

    /// TensorFlow's mean of no integers is 0; a division by their number would fail.
    #[test]
    fn a_mean_of_integers_does_not_divide_by_zero() {
        let is_guarded = |dims: &[Option<i64>]| mean_of(dims).contains(&"Max".to_owned());
        assert!(is_guarded(&[None, Some(3)]));
        assert!(!is_guarded(&[Some(2), Some(3)]));
    }
}
