//! `x * P(X <= x)` for a normal distribution (GELU), exact and with a hyperbolic tangent.
//!
//! Keras 2 and `tf.nn.gelu` write `0.5 * x * (1 + erf(x / sqrt(2)))`, Keras 3 `0.5 * x * erfc(-x * sqrt(0.5))`;
//! both write `0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))`.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI, SQRT_2};

use super::{ADD, argument, is_number, same, terms};
use crate::builder::Builder;
use crate::refusal::Refusal;
use crate::value::Tensor;

/// The result that stands for the product of `x` and `y`, if it is a GELU.
pub(super) fn found(b: &mut Builder, x: &Tensor, y: &Tensor) -> Result<Option<Tensor>, Refusal> {
    for (one, other) in [(x, y), (y, x)] {
        // (0.5 * x) * twice, or x * (0.5 * twice).
        let halves = [(one, other), (other, one)];
        for (half, rest) in halves {
            for (number, inner) in terms(b, half, &["Mul"]) {
                if !is_number(&number, 0.5) {
                    continue;
                }
                for (twice, value) in [(rest, &inner), (&inner, rest)] {
                    if let Some(form) = form(b, twice, value) {
                        let node = b.op("Gelu", &[value]).text("approximate", form);
                        let result = node.same()?;
                        b.note_fused(&result);
                        return Ok(Some(result));
                    }
                }
            }
        }
    }
    Ok(None)
}

/// ONNX's name for the way in which twice the probability of `x` is computed.
fn form(b: &Builder, twice: &Tensor, x: &Tensor) -> Option<&'static str> {
    if let Some(argument) = argument(b, twice, "Erfc") {
        return is_negated(b, &argument, x).then_some("none");
    }
    for (one, rest) in terms(b, twice, ADD) {
        if !is_number(&one, 1.0) {
            continue;
        }
        if let Some(argument) = argument(b, &rest, "Erf")
            && is_scaled(b, &argument, x)
        {
            return Some("none");
        }
        if let Some(argument) = argument(b, &rest, "Tanh")
            && is_cubic(b, &argument, x)
        {
            return Some("tanh");
        }
    }
    None
}

/// Whether `y` is `-x * sqrt(0.5)`.
fn is_negated(b: &Builder, y: &Tensor, x: &Tensor) -> bool {
    let factors = terms(b, y, &["Mul"]);
    factors.iter().any(|(number, rest)| {
        let is_negative = argument(b, rest, "Neg").is_some_and(|it| same(&it, x));
        (is_number(number, FRAC_1_SQRT_2) && is_negative)
            || (is_number(number, -FRAC_1_SQRT_2) && same(rest, x))
    })
}

/// Whether `y` is `x / sqrt(2)`.
fn is_scaled(b: &Builder, y: &Tensor, x: &Tensor) -> bool {
    let factors = terms(b, y, &["Mul"]);
    let is_product = factors
        .iter()
        .any(|(number, rest)| is_number(number, FRAC_1_SQRT_2) && same(rest, x));
    let quotient = b.origin(y, &["RealDiv"]);
    is_product
        || quotient.is_some_and(|it| match it.inputs.as_slice() {
            [value, number] => same(value, x) && is_number(number, SQRT_2),
            _ => false,
        })
}

/// Whether `y` is `sqrt(2 / pi) * (x + 0.044715 * x^3)`.
fn is_cubic(b: &Builder, y: &Tensor, x: &Tensor) -> bool {
    terms(b, y, &["Mul"]).iter().any(|(number, sum)| {
        is_number(number, FRAC_2_PI.sqrt())
            && terms(b, sum, ADD).iter().any(|(value, cubic)| {
                same(value, x)
                    && terms(b, cubic, &["Mul"])
                        .iter()
                        .any(|(number, cube)| is_number(number, 0.044_715) && is_cube(b, cube, x))
            })
    })
}

fn is_cube(b: &Builder, y: &Tensor, x: &Tensor) -> bool {
    b.origin(y, &["Pow"])
        .is_some_and(|it| match it.inputs.as_slice() {
            [value, number] => same(value, x) && is_number(number, 3.0),
            _ => false,
        })
}
