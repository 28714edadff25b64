//! Recognizes patterns of several operators for which ONNX has one.
//!
//! A pattern is looked for at its last node, whose inputs are translated already. It holds for all values, or it
//! is not taken: shapes and constants that it depends on have to be known. The nodes that stood for its parts are
//! dropped if nothing else reads them.
//!
//! Not here: which TensorFlow node a tensor is the result of (`builder::origin`).

mod gelu;
mod norm;
#[cfg(test)]
mod tests;

use std::rc::Rc;

use base::tensor::DataType;

use crate::builder::{Builder, Origin};
use crate::op::Op;
use crate::refusal::Refusal;
use crate::value::{Tensor, Value};

/// The outputs of a node, or those of the operator that stands for the whole pattern that ends with it.
pub(crate) fn improved(
    b: &mut Builder,
    op: &Op<'_>,
    outputs: Vec<Value>,
) -> Result<Vec<Value>, Refusal> {
    let [Value::Tensor(whole)] = outputs.as_slice() else {
        return Ok(outputs);
    };
    if whole.dtype != DataType::Float || whole.as_constant().is_some() {
        return Ok(outputs);
    }
    let (Ok(x), Ok(y)) = (op.input(0), op.input(1)) else {
        return Ok(outputs);
    };
    let found = match op.node.op.as_str() {
        "Add" | "AddV2" => norm::found(b, x, y)?,
        "Mul" => gelu::found(b, x, y)?,
        _ => None,
    };
    Ok(match found {
        Some(tensor) => vec![Value::Tensor(tensor.with_shape(whole.shape.clone()))],
        None => outputs,
    })
}

const ADD: &[&str] = &["Add", "AddV2"];

/// Whether both are the same tensor.
fn same(x: &Tensor, y: &Tensor) -> bool {
    match (x.as_constant(), y.as_constant()) {
        (Some(x), Some(y)) => {
            let place = |it: &base::tensor::Tensor| it.bytes().map(|it| (it.as_ptr(), it.len()));
            x.shape() == y.shape() && place(x).is_some() && place(x) == place(y)
        }
        (None, None) => x.name().ok() == y.name().ok(),
        _ => false,
    }
}

/// The inputs of a node with two, in both orders.
fn both_orders(origin: &Origin) -> Vec<(Tensor, Tensor)> {
    match origin.inputs.as_slice() {
        [x, y] => vec![(x.clone(), y.clone()), (y.clone(), x.clone())],
        _ => Vec::new(),
    }
}

/// The inputs of a sum or a product, in both orders.
fn terms(b: &Builder, x: &Tensor, ops: &[&str]) -> Vec<(Tensor, Tensor)> {
    b.origin(x, ops)
        .map_or_else(Vec::new, |it| both_orders(&it))
}

/// The only input of a node of this operator.
fn argument(b: &Builder, x: &Tensor, op: &str) -> Option<Tensor> {
    let origin: Rc<Origin> = b.origin(x, &[op])?;
    match origin.inputs.as_slice() {
        [only] => Some(only.clone()),
        _ => None,
    }
}

/// Whether a tensor is a constant with one element, of this value as far as float goes.
fn is_number(x: &Tensor, value: f64) -> bool {
    x.as_scalar::<f32>()
        .is_some_and(|it| (f64::from(it) - value).abs() <= value.abs() * 1e-6)
}
