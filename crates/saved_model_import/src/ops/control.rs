//! Conditions and loops.
//!
//! Sources: `tensorflow/core/ops/functional_ops.cc` and `tensorflow/core/kernels/functional_ops.cc`.
//!
//! Not here: control flow of TensorFlow 1 (`Switch`, `Merge`), which is not supported; lists (`list`).

mod condition;
mod counted;
mod loops;
mod resolve;
mod role;

use base::tensor::DataType;
use proto::tensorflow::attr_value;

use super::Table;
use crate::builder::Builder;
use crate::op::Op;
use crate::ops::Rule::Whole;
use crate::refusal::Refusal;
use crate::translation::Translation;
use crate::value::{Shape, Tensor, Value};

pub(super) const TABLE: Table = &[
    ("Case", Whole(condition::case)),
    ("If", Whole(condition::condition)),
    ("StatelessCase", Whole(condition::case)),
    ("StatelessIf", Whole(condition::condition)),
    ("StatelessWhile", Whole(loops::translate)),
    ("While", Whole(loops::translate)),
];

/// The function that an attribute names. It does not write variables: a write that happens or not, or happens
/// several times, has no counterpart in ONNX.
fn function<'a>(t: &Translation<'_>, op: &'a Op<'_>, name: &str) -> Result<&'a str, Refusal> {
    let Some(attr_value::Value::Func(function)) = op.attr(name) else {
        return Err(Refusal::new(format!("names no function '{name}'")));
    };
    writes_nothing(t, &function.name)?;
    Ok(&function.name)
}

fn writes_nothing(t: &Translation<'_>, function: &str) -> Result<(), Refusal> {
    match t.effects().of_function(function) {
        true => Err(Refusal::new(
            "writes a variable in a function that is not always called once",
        )),
        false => Ok(()),
    }
}

/// Reads variables of TensorFlow 1, so that all arguments are the values at this point.
fn arguments(t: &mut Translation<'_>, values: &[Value]) -> Result<Vec<Value>, Refusal> {
    let read = |value: &Value| match value {
        Value::Reference(name) => t.read(name).map(Value::Tensor),
        Value::Nothing => Err(Refusal::of_input()),
        other => Ok(other.clone()),
    };
    values.iter().map(read).collect()
}

/// A condition as TensorFlow reads it, a scalar of bool: a scalar is true if it is not zero, or not the empty
/// string; any other tensor is true if it has elements.
fn truth(b: &mut Builder, x: &Tensor) -> Result<Tensor, Refusal> {
    match x.rank() {
        Some(0) => is_not_zero(b, x),
        Some(_) => has_elements(b, x),
        None => {
            let sizes = b.shape_of(x)?;
            let rank = b
                .op("Size", &[&sizes])
                .one(DataType::Int64, Shape::scalar())?;
            let zero = b.i64(0);
            let is_scalar = b.compare("Equal", &rank, &zero)?;
            b.either(
                &is_scalar,
                |b| {
                    let sizes = b.i64s(&[]);
                    let x = b.reshape_to(x, &sizes)?;
                    is_not_zero(b, &x)
                },
                |b| has_elements(b, x),
            )
        }
    }
}

fn is_not_zero(b: &mut Builder, x: &Tensor) -> Result<Tensor, Refusal> {
    match x.dtype {
        DataType::Bool => Ok(x.clone()),
        DataType::String => {
            let zero = b.zero(x.dtype)?;
            let is_zero = b.compare("Equal", x, &zero)?;
            b.unary("Not", &is_zero)
        }
        _ => match x.int() {
            Some(value) => b.scalar(DataType::Bool, if value == 0 { 0.0 } else { 1.0 }),
            None => b.cast(x, DataType::Bool),
        },
    }
}

fn has_elements(b: &mut Builder, x: &Tensor) -> Result<Tensor, Refusal> {
    let count = match x.shape.count() {
        Some(count) => b.i64(count),
        None => b.op("Size", &[x]).one(DataType::Int64, Shape::scalar())?,
    };
    is_not_zero(b, &count)
}

/// Whether a condition is constant.
fn known_truth(condition: &Tensor) -> Option<bool> {
    let elements = condition
        .as_constant()
        .filter(|_| condition.dtype == DataType::Bool)?;
    match elements.bytes()?.as_ref() {
        [only] => Some(*only != 0),
        _ => None,
    }
}
