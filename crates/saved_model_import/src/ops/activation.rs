//! Activation functions.

use base::tensor::DataType;

use super::Table;
use crate::builder::Builder;
use crate::builder::kernels::is_integer;
use crate::op::{Op, Translated, one};
use crate::ops::Rule::Pure;
use crate::refusal::Refusal;
use crate::value::Tensor;

type Result<T> = std::result::Result<T, Refusal>;

pub(super) const TABLE: Table = &[
    ("Elu", Pure(|b, op| float(b, op, "Elu", elu))),
    ("LeakyRelu", Pure(leaky_relu)),
    ("LogSoftmax", Pure(|b, op| softmax(b, op, "LogSoftmax"))),
    ("Relu", Pure(relu)),
    ("Relu6", Pure(relu6)),
    ("Selu", Pure(|b, op| float(b, op, "Selu", selu))),
    ("Sigmoid", Pure(|b, op| unary(b, op, "Sigmoid"))),
    ("Softmax", Pure(|b, op| softmax(b, op, "Softmax"))),
    ("Softplus", Pure(|b, op| float(b, op, "Softplus", softplus))),
    ("Softsign", Pure(|b, op| float(b, op, "Softsign", softsign))),
    ("Tanh", Pure(|b, op| unary(b, op, "Tanh"))),
];

/// The constants of "Self-Normalizing Neural Networks" (Klambauer and others, 2017), the defaults of ONNX too.
const SELU_ALPHA: f64 = 1.673_263_242_354_377_2;
const SELU_SCALE: f64 = 1.050_700_987_355_480_5;

fn unary(b: &mut Builder, op: &Op<'_>, name: &str) -> Translated {
    one(b.unary_any(name, op.input(0)?)?)
}

/// An operator for which ONNX Runtime has no kernel for doubles; `double` computes those.
fn float(
    b: &mut Builder,
    op: &Op<'_>,
    name: &str,
    double: fn(&mut Builder, &Tensor) -> Result<Tensor>,
) -> Translated {
    let x = op.input(0)?;
    one(match x.dtype {
        DataType::Double => double(b, x)?,
        _ => b.unary_any(name, x)?,
    })
}

/// Over the last axis.
fn softmax(b: &mut Builder, op: &Op<'_>, name: &str) -> Translated {
    let x = op.input(0)?;
    let wide = b.widened(name, x)?;
    let result = b.op(name, &[&wide]).int("axis", -1).same()?;
    one(b.cast(&result, x.dtype)?)
}

fn relu(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    if !is_integer(x.dtype) {
        return one(b.unary_any("Relu", x)?);
    }
    let zero = b.scalar_for(x, 0.0)?;
    one(b.binary_any("Max", x, &zero)?.with_shape(x.shape.clone()))
}

/// ONNX Runtime adds a `Clip` to the convolution before it.
fn relu6(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let wide = b.widened("Clip", x)?;
    let (low, high) = (b.scalar_for(&wide, 0.0)?, b.scalar_for(&wide, 6.0)?);
    let result = b.op("Clip", &[&wide, &low, &high]).same()?;
    one(b.cast(&result, x.dtype)?)
}

fn leaky_relu(b: &mut Builder, op: &Op<'_>) -> Translated {
    let x = op.input(0)?;
    let alpha = op.attr_float("alpha").unwrap_or(0.2);
    if x.dtype == DataType::Double {
        let slope = b.scalar_for(x, alpha.into())?;
        let below = b.binary("Mul", x, &slope)?;
        return one(positive_or(b, x, x, &below)?);
    }
    let wide = b.widened("LeakyRelu", x)?;
    let result = b.op("LeakyRelu", &[&wide]).float("alpha", alpha).same()?;
    one(b.cast(&result, x.dtype)?)
}

/// `above` where `x` is greater than 0, else `below`.
fn positive_or(b: &mut Builder, x: &Tensor, above: &Tensor, below: &Tensor) -> Result<Tensor> {
    let zero = b.scalar_for(x, 0.0)?;
    let is_positive = b.compare("Greater", x, &zero)?;
    b.choose(&is_positive, above, below)
}

fn exp_minus_one(b: &mut Builder, x: &Tensor, scale: f64) -> Result<Tensor> {
    let power = b.unary("Exp", x)?;
    let one = b.scalar_for(x, 1.0)?;
    let below = b.binary("Sub", &power, &one)?;
    let scale = b.scalar_for(x, scale)?;
    b.binary("Mul", &below, &scale)
}

fn elu(b: &mut Builder, x: &Tensor) -> Result<Tensor> {
    let below = exp_minus_one(b, x, 1.0)?;
    positive_or(b, x, x, &below)
}

fn selu(b: &mut Builder, x: &Tensor) -> Result<Tensor> {
    let below = exp_minus_one(b, x, SELU_ALPHA * SELU_SCALE)?;
    let scale = b.scalar_for(x, SELU_SCALE)?;
    let above = b.binary("Mul", x, &scale)?;
    positive_or(b, x, &above, &below)
}

/// `max(x, 0) + log(1 + exp(-|x|))`, which does not overflow.
fn softplus(b: &mut Builder, x: &Tensor) -> Result<Tensor> {
    let (zero, one) = (b.scalar_for(x, 0.0)?, b.scalar_for(x, 1.0)?);
    let above = b.binary("Max", x, &zero)?;
    let size = b.unary("Abs", x)?;
    let small = b.unary("Neg", &size)?;
    let small = b.unary("Exp", &small)?;
    let small = b.binary("Add", &small, &one)?;
    let small = b.unary("Log", &small)?;
    b.binary("Add", &above, &small)
}

fn softsign(b: &mut Builder, x: &Tensor) -> Result<Tensor> {
    let one = b.scalar_for(x, 1.0)?;
    let size = b.unary("Abs", x)?;
    let size = b.binary("Add", &size, &one)?;
    b.binary("Div", x, &size)
}
