//! Complex numbers: a last dimension with the real and the imaginary part (see `value::Tensor`).
//!
//! Not here: Fourier transforms (`signal`).

use base::tensor::{DataType, Tensor as Elements};

use super::Table;
use crate::builder::Builder;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::{self, Pure};
use crate::refusal::Refusal;
use crate::value::{Shape, Tensor, Value};

type Result<T> = std::result::Result<T, Refusal>;

/// Operators that read or make nothing but complex numbers.
pub(super) const TABLE: Table = &[
    ("Angle", Pure(angle)),
    ("Complex", Pure(complex)),
    ("ComplexAbs", Pure(magnitude)),
    ("Conj", Pure(conjugate)),
    ("Imag", Pure(|b, op| part(b, op, 1))),
    ("Real", Pure(|b, op| part(b, op, 0))),
];

/// Operators for other dtypes too, in their form for complex numbers.
const GENERAL: Table = &[
    ("Add", Pure(|b, op| both_parts(b, op, "Add"))),
    ("AddV2", Pure(|b, op| both_parts(b, op, "Add"))),
    ("Cast", Pure(cast)),
    ("Exp", Pure(exponential)),
    ("ExpandDims", Pure(expand_dims)),
    ("Mul", Pure(multiply)),
    ("Neg", Pure(negate)),
    ("Reshape", Pure(reshape)),
    ("Shape", Pure(shape)),
    ("Squeeze", Pure(squeeze)),
    ("Sub", Pure(|b, op| both_parts(b, op, "Sub"))),
    ("Transpose", Pure(transpose)),
];

/// Operators that only move elements: they move each part alike.
const MOVING: &[&str] = &[
    "BroadcastTo",
    "Concat",
    "ConcatV2",
    "Fill",
    "Gather",
    "GatherNd",
    "GatherV2",
    "Pack",
    "Pad",
    "PadV2",
    "ReverseSequence",
    "ReverseV2",
    "Roll",
    "Slice",
    "Split",
    "SplitV",
    "StridedSlice",
    "Tile",
    "Unpack",
];

/// Operators that pass tensors on without looking at them.
const PASSING: &[&str] = &[
    "Identity",
    "IdentityN",
    "PartitionedCall",
    "PlaceholderWithDefault",
    "PreventGradient",
    "ReadVariableOp",
    "Snapshot",
    "StatefulPartitionedCall",
    "StopGradient",
];

/// The rule for an operator with complex inputs or a complex result, of this module or of `others`.
pub(super) fn rule(op: &str, others: Table) -> Option<Rule> {
    if PASSING.contains(&op) {
        return super::rule(op);
    }
    if MOVING.contains(&op) {
        return Some(Pure(move_parts));
    }
    let mut rows = GENERAL.iter().chain(TABLE).chain(others);
    rows.find(|(name, _)| *name == op).map(|(_, rule)| *rule)
}

/// Whether a node reads complex numbers, or casts to them.
pub(crate) fn is_complex(op: &Op<'_>) -> bool {
    let is_cast = op.node.op == "Cast" && op.attr_dtype("DstT").is_ok_and(is_complex_dtype);
    is_cast
        || op
            .inputs
            .iter()
            .any(|it| matches!(it, Value::Tensor(it) if is_complex_dtype(it.dtype)))
}

fn is_complex_dtype(dtype: DataType) -> bool {
    part_dtype(dtype).is_some()
}

/// The dtype of the parts of a complex dtype.
fn part_dtype(dtype: DataType) -> Option<DataType> {
    match dtype {
        DataType::Complex64 => Some(DataType::Float),
        DataType::Complex128 => Some(DataType::Double),
        _ => None,
    }
}

/// A complex tensor as the one of its parts, with one more dimension.
pub(super) fn parts(x: &Tensor) -> Result<Tensor> {
    let dtype = part_dtype(x.dtype)
        .ok_or_else(|| Refusal::new(format!("reads {} as complex numbers", x.dtype)))?;
    if let Some(constant) = x.as_constant() {
        let shape: Vec<usize> = constant.shape().iter().copied().chain([2]).collect();
        let bytes = constant.bytes().cloned().unwrap_or_default();
        return Elements::from_bytes(dtype, &shape, bytes)
            .map(Tensor::constant)
            .ok_or_else(|| Refusal::new("has a damaged constant"));
    }
    let dims = x.shape.0.clone().map(|mut dims| {
        dims.push(Some(2));
        dims
    });
    match x.name() {
        Ok(name) => Ok(Tensor::named(name.clone(), dtype, Shape(dims))),
        Err(_) => Err(Refusal::new("has a damaged constant")),
    }
}

/// The complex tensor whose parts these are.
pub(super) fn joined(b: &mut Builder, parts: &Tensor) -> Result<Tensor> {
    let dtype = match parts.dtype {
        DataType::Float => DataType::Complex64,
        DataType::Double => DataType::Complex128,
        other => return Err(Refusal::new(format!("makes complex numbers of {other}"))),
    };
    let shape = Shape(parts.shape.0.clone().map(|mut dims| {
        dims.pop();
        dims
    }));
    let name = match parts.name() {
        Ok(name) => name.clone(),
        // A constant has to have a name.
        Err(_) => {
            let named = b.unary("Identity", parts)?;
            match named.name() {
                Ok(name) => name.clone(),
                Err(_) => return Err(Refusal::new("has a damaged constant")),
            }
        }
    };
    Ok(Tensor::named(name, dtype, shape))
}

/// One of the parts.
pub(super) fn one_part(b: &mut Builder, x: &Tensor, index: i64) -> Result<Tensor> {
    let both = parts(x)?;
    let index = b.i64(index);
    let part = b.gather(&both, &index, -1)?;
    Ok(part.with_shape(x.shape.clone()))
}

/// The complex tensor with this real and imaginary part, which have one shape.
fn of_parts(b: &mut Builder, real: &Tensor, imaginary: &Tensor) -> Result<Tensor> {
    let real = b.unsqueeze(real, &[-1])?;
    let imaginary = b.unsqueeze(imaginary, &[-1])?;
    let both = b.concat(&[&real, &imaginary], -1)?;
    joined(b, &both)
}

/// Translates a node that only moves elements, once for each part.
fn move_parts(b: &mut Builder, op: &Op<'_>) -> Translated {
    let Some(Pure(translate)) = super::rule(&op.node.op) else {
        return Err(Refusal::new("is not run for complex numbers"));
    };
    let mut outputs = Vec::new();
    for index in [0, 1] {
        let mut inputs = op.inputs.to_vec();
        for input in &mut inputs {
            if let Value::Tensor(tensor) = input
                && is_complex_dtype(tensor.dtype)
            {
                *input = Value::Tensor(one_part(b, tensor, index)?);
            }
        }
        let part = Op {
            node: op.node,
            inputs: &inputs,
        };
        outputs.push(translate(b, &part)?);
    }
    let [real, imaginary] = outputs.as_slice() else {
        return Err(Refusal::new("is not run for complex numbers"));
    };
    let pairs = real.iter().zip(imaginary).map(|pair| match pair {
        (Value::Tensor(real), Value::Tensor(imaginary)) => {
            Ok(Value::Tensor(of_parts(b, real, imaginary)?))
        }
        _ => Err(Refusal::new("is not run for complex numbers")),
    });
    pairs.collect()
}

fn part(b: &mut Builder, op: &Op<'_>, index: i64) -> Translated {
    one(one_part(b, op.input(0)?, index)?)
}

fn complex(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (real, imaginary) = (op.input(0)?, op.input(1)?);
    let mut expanded = Vec::new();
    for (x, other) in [(real, imaginary), (imaginary, real)] {
        if x.shape.sizes().is_some() && x.shape == other.shape {
            expanded.push(x.clone());
            continue;
        }
        let sizes = b.shape_of(other)?;
        expanded.push(b.expand(x, &sizes)?);
    }
    one(of_parts(b, &expanded[0], &expanded[1])?)
}

fn conjugate(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    if !is_complex_dtype(x.dtype) {
        return one(x.clone());
    }
    let both = parts(x)?;
    let signs = signs(b, both.dtype)?;
    let both = b.binary("Mul", &both, &signs)?;
    one(joined(b, &both)?)
}

/// The vector `[1, -1]`, which turns a number into its conjugate.
pub(super) fn signs(b: &mut Builder, dtype: DataType) -> Result<Tensor> {
    let (plus, minus) = (b.scalar(dtype, 1.0)?, b.scalar(dtype, -1.0)?);
    let (plus, minus) = (b.reshape(&plus, &[1])?, b.reshape(&minus, &[1])?);
    b.concat(&[&plus, &minus], 0)
}

fn magnitude(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let both = parts(x)?;
    let squares = b.reduce("ReduceSumSquare", &both, Some(&[-1]), false)?;
    let root = b.unary("Sqrt", &squares)?;
    one(root.with_shape(x.shape.clone()))
}

/// The angle to the positive real axis: the arc tangent of the parts, in the right quadrant.
fn angle(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let dtype = part_dtype(x.dtype).unwrap_or(DataType::Float);
    let (real, imaginary) = (one_part(b, x, 0)?, one_part(b, x, 1)?);
    let (real, imaginary) = (
        b.cast(&real, DataType::Float)?,
        b.cast(&imaginary, DataType::Float)?,
    );
    let float = |b: &Builder, value: f64| b.scalar(DataType::Float, value);
    let (zero, one_) = (float(b, 0.0)?, float(b, 1.0)?);
    let quotient = b.binary("Div", &imaginary, &real)?;
    let arc = b.unary("Atan", &quotient)?;
    // A negative zero counts as negative, so the sign is that of the inverse.
    let inverse = b.binary("Div", &one_, &imaginary)?;
    let is_below = b.compare("Less", &inverse, &zero)?;
    let half = float(b, std::f64::consts::PI)?;
    let minus_half = float(b, -std::f64::consts::PI)?;
    let turn = b.choose(&is_below, &minus_half, &half)?;
    let inverse = b.binary("Div", &one_, &real)?;
    let is_left = b.compare("Less", &inverse, &zero)?;
    let turn = b.choose(&is_left, &turn, &zero)?;
    let is_zero = b.compare("Equal", &imaginary, &zero)?;
    // Without an imaginary part the quotient can be 0 / 0.
    let arc = b.choose(&is_zero, &imaginary, &arc)?;
    let turned = b.binary("Add", &arc, &turn)?;
    let is_turned = b.choose(&is_left, &turned, &arc)?;
    one(b.cast(&is_turned, dtype)?)
}

fn both_parts(b: &mut Builder, op: &Op<'_>, op_type: &str) -> Translated {
    // Each dimension lines up from the end, also the one of the parts.
    let (x, y) = (parts(op.input(0)?)?, parts(op.input(1)?)?);
    let both = b.binary(op_type, &x, &y)?;
    one(joined(b, &both)?)
}

fn multiply(b: &mut Builder, op: &Op<'_>) -> Translated {
    let (x, y) = (op.input(0)?, op.input(1)?);
    let (a, c) = (one_part(b, x, 0)?, one_part(b, y, 0)?);
    let (bi, d) = (one_part(b, x, 1)?, one_part(b, y, 1)?);
    let (ac, bd) = (b.binary("Mul", &a, &c)?, b.binary("Mul", &bi, &d)?);
    let (ad, bc) = (b.binary("Mul", &a, &d)?, b.binary("Mul", &bi, &c)?);
    let (real, imaginary) = (b.binary("Sub", &ac, &bd)?, b.binary("Add", &ad, &bc)?);
    one(of_parts(b, &real, &imaginary)?)
}

/// The exponential of the real part is the magnitude, the imaginary part the angle.
fn exponential(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let (real, angle) = (one_part(b, x, 0)?, one_part(b, x, 1)?);
    let magnitude = b.unary_any("Exp", &real)?;
    let cosine = b.unary_any("Cos", &angle)?;
    let sine = b.unary_any("Sin", &angle)?;
    let real = b.binary("Mul", &magnitude, &cosine)?;
    let imaginary = b.binary("Mul", &magnitude, &sine)?;
    one(of_parts(b, &real, &imaginary)?)
}

fn negate(b: &mut Builder, op: &Op<'_>) -> Translated {
    let both = parts(op.input(0)?)?;
    let both = b.unary("Neg", &both)?;
    one(joined(b, &both)?)
}

/// From complex to real numbers the imaginary part is left out.
fn cast(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let to = op.attr_dtype("DstT")?;
    match (part_dtype(x.dtype), part_dtype(to)) {
        (Some(_), Some(dtype)) => {
            let both = parts(x)?;
            let both = b.cast(&both, dtype)?;
            one(joined(b, &both)?)
        }
        (Some(_), None) if matches!(to, DataType::Float | DataType::Double) => {
            let real = one_part(b, x, 0)?;
            one(b.cast(&real, to)?)
        }
        (None, Some(dtype)) if x.dtype != DataType::String => {
            let real = b.cast(x, dtype)?;
            let zero = b.scalar(dtype, 0.0)?;
            // NaN or infinite times 0 is not 0.
            let is_equal = b.compare("Equal", &real, &real)?;
            let imaginary = b.choose(&is_equal, &zero, &zero)?;
            one(of_parts(b, &real, &imaginary)?)
        }
        _ => Err(Refusal::new(format!("casts {} to {to}", x.dtype))),
    }
}

/// An axis that counts from the end, in the tensor of parts.
fn inner_axis(axis: i64) -> i64 {
    if axis < 0 { axis - 1 } else { axis }
}

fn expand_dims(b: &mut Builder, op: &Op<'_>) -> Translated {
    let axis = op.int(1, "axis")?;
    let both = parts(op.input(0)?)?;
    let both = b.unsqueeze(&both, &[inner_axis(axis)])?;
    one(joined(b, &both)?)
}

fn squeeze(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let axes = op.attr_ints("squeeze_dims");
    let axes: Vec<i64> = match (axes, x.shape.sizes()) {
        ([], Some(sizes)) => (0i64..)
            .zip(sizes)
            .filter(|(_, size)| *size == 1)
            .map(|(axis, _)| axis)
            .collect(),
        ([], None) => return Err(Refusal::new("names no dimensions")),
        (axes, _) => axes.iter().map(|&it| inner_axis(it)).collect(),
    };
    let both = parts(x)?;
    let both = b.squeeze(&both, &axes)?;
    one(joined(b, &both)?)
}

fn reshape(b: &mut Builder, op: &Op<'_>) -> Translated {
    let sizes = b.cast(op.input(1)?, DataType::Int64)?;
    let sizes = b.concat(&[&sizes, &b.i64s(&[2])], 0)?;
    let both = parts(op.input(0)?)?;
    let both = b.reshape_to(&both, &sizes)?;
    one(joined(b, &both)?)
}

fn transpose(b: &mut Builder, op: &Op<'_>) -> Translated {
    let mut order = op.ints(1, "order")?;
    let rank = order.len() as i64;
    for axis in &mut order {
        if *axis < 0 {
            *axis += rank;
        }
    }
    order.push(rank);
    let both = parts(op.input(0)?)?;
    let both = b.transpose(&both, &order)?;
    one(joined(b, &both)?)
}

fn shape(b: &mut Builder, op: &Op<'_>) -> Translated {
    let both = parts(op.input(0)?)?;
    let sizes = b.shape_of(&both)?;
    let sizes = b.slice(&sizes, &[0], &[0], &[-1], &[1])?;
    one(b.cast(&sizes, op.attr_dtype("out_type").unwrap_or(DataType::Int32))?)
}
