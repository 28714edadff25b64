//! Operators without arithmetic: constants, identities, calls, variables, and those that only have effects.
//!
//! Not here: which value a checkpoint gives a variable (`restore`), control flow (`control`).

use std::rc::Rc;

use base::tensor::DataType;
use proto::tensorflow::attr_value;

use crate::builder::Builder;
use crate::graph::resource_name;
use crate::op::{Op, Translated, many, one};
use crate::refusal::Refusal;
use crate::translation::Rule::{self, Pure, Whole};
use crate::translation::Translation;
use crate::value::{Tensor, Value};

/// The rows of the table.
pub(crate) const TABLE: &[(&str, Rule)] = &[
    ("Assert", Whole(nothing)),
    ("Assign", Whole(assign_reference)),
    ("AssignVariableOp", Whole(assign)),
    ("CheckNumerics", Pure(identity)),
    ("Const", Whole(constant)),
    ("EnsureShape", Pure(ensure_shape)),
    ("Identity", Whole(pass_on)),
    ("IdentityN", Whole(pass_all_on)),
    ("IsVariableInitialized", Whole(is_initialized)),
    ("NoOp", Whole(nothing)),
    ("PartitionedCall", Whole(call)),
    ("Placeholder", Pure(placeholder)),
    ("PlaceholderV2", Pure(placeholder)),
    ("PlaceholderWithDefault", Pure(identity)),
    ("PreventGradient", Pure(identity)),
    ("Print", Pure(identity)),
    ("PrintV2", Whole(nothing)),
    ("ReadVariableOp", Whole(read)),
    ("Snapshot", Pure(identity)),
    ("StatefulPartitionedCall", Whole(call)),
    ("StopGradient", Pure(identity)),
    ("VarHandleOp", Whole(handle)),
    ("VarIsInitializedOp", Whole(is_initialized)),
    ("Variable", Whole(reference)),
    ("VariableV2", Whole(reference)),
];

fn nothing(_: &mut Translation<'_>, _: &Op<'_>) -> Translated {
    Ok(Vec::new())
}

fn constant(translation: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    let elements = translation.resources().constants.get(op.node)?;
    one(Tensor::constant(elements))
}

fn identity(_: &mut Builder, op: &Op<'_>) -> Translated {
    one(op.input(0)?.clone())
}

fn ensure_shape(b: &mut Builder, op: &Op<'_>) -> Translated {
    one(b.ensured(op.input(0)?, &op.attr_shape("shape"))?)
}

/// Passes on a value of any kind: a resource, a list or a tensor. A variable of TensorFlow 1 is read.
fn pass_on(translation: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    match op.inputs.first() {
        Some(Value::Reference(name)) => one(translation.read(name)?),
        Some(Value::Nothing) | None => Err(Refusal::of_input()),
        Some(value) => Ok(vec![value.clone()]),
    }
}

fn pass_all_on(translation: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    let values = op.inputs.iter().map(|value| match value {
        Value::Reference(name) => translation.read(name).map(Value::Tensor),
        value => Ok(value.clone()),
    });
    values.collect()
}

fn placeholder(_: &mut Builder, _: &Op<'_>) -> Translated {
    Err(Refusal::new("is not an input of the signature"))
}

/// A call of the function in the attribute `f`.
fn call(translation: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    let Some(attr_value::Value::Func(function)) = op.attr("f") else {
        return Err(Refusal::new("names no function"));
    };
    translation.call(&function.name, op.inputs)
}

fn handle(_: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    Ok(vec![Value::Variable(resource_name(op.node))])
}

fn reference(_: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    Ok(vec![Value::Reference(resource_name(op.node))])
}

/// The name of the variable that an input refers to.
pub(crate) fn variable<'a>(op: &'a Op<'_>, index: usize) -> Result<&'a Rc<str>, Refusal> {
    match op.inputs.get(index) {
        Some(Value::Variable(name) | Value::Reference(name)) => Ok(name),
        Some(Value::Nothing) | None => Err(Refusal::of_input()),
        Some(_) => Err(Refusal::new("reads a variable from another value")),
    }
}

fn read(translation: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    one(translation.read(variable(op, 0)?)?)
}

fn assign(translation: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    let name = variable(op, 0)?;
    let value = assigned(translation, op, name, op.input(1)?)?;
    translation.write(name, value);
    Ok(Vec::new())
}

/// The value that is assigned to a variable: of the variable's shape, if the operator checks it.
fn assigned(
    translation: &mut Translation<'_>,
    op: &Op<'_>,
    name: &str,
    value: &Tensor,
) -> Result<Tensor, Refusal> {
    let variables = &translation.resources().variables;
    let expected = variables.declared_shape(name);
    if !op.attr_flag("validate_shape") || value.shape == expected {
        return Ok(value.clone());
    }
    translation.builder.ensured(value, &expected)
}

/// Returns the variable, for the nodes after it.
fn assign_reference(translation: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    let name = variable(op, 0)?;
    let value = match op.inputs.get(1) {
        Some(Value::Reference(other)) => translation.read(other)?,
        _ => op.input(1)?.clone(),
    };
    let value = assigned(translation, op, name, &value)?;
    translation.write(name, value);
    Ok(vec![Value::Reference(Rc::clone(name))])
}

/// Variables are restored before the first request, unless nothing sets them.
fn is_initialized(translation: &mut Translation<'_>, op: &Op<'_>) -> Translated {
    let is_set = translation.is_set(variable(op, 0)?);
    let is_set = f64::from(u8::from(is_set));
    many([translation.builder.scalar(DataType::Bool, is_set)?])
}
