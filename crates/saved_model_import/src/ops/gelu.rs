//! Recognition of GELU, which graphs write with smaller operators: exact, or with the hyperbolic tangent.

use base::tensor::DataType;

use crate::builder::Builder;
use crate::refusal::Refusal;
use crate::value::Tensor;

/// How far a constant can be from the one of the definition, as a share of it.
const TOLERANCE: f64 = 1e-5;
/// How many factors are followed.
const MAX_FACTORS: usize = 4;
/// The factor of the cube in the approximation.
const CUBE: f64 = 0.044_715;

/// `left * right` as one node if it is the last product of GELU.
pub(super) fn recognized(
    b: &mut Builder,
    left: &Tensor,
    right: &Tensor,
) -> Result<Option<Tensor>, Refusal> {
    if left.dtype != DataType::Float {
        return Ok(None);
    }
    let found = found(b, left, right, 1.0).or_else(|| {
        // A constant factor comes last.
        let (inner, factor) = match (left.as_scalar::<f32>(), right.as_scalar::<f32>()) {
            (Some(factor), _) => (right, factor),
            (_, Some(factor)) => (left, factor),
            _ => return None,
        };
        let made = b.made(inner).filter(|it| it.op_type == "Mul")?;
        match &made.inputs[..] {
            [one, two] => found(b, one, two, factor.into()),
            _ => None,
        }
    });
    let Some((x, approximate)) = found else {
        return Ok(None);
    };
    let node = b.op("Gelu", &[&x]).text("approximate", approximate);
    node.same().map(Some)
}

fn found(b: &Builder, one: &Tensor, two: &Tensor, factor: f64) -> Option<(Tensor, &'static str)> {
    for (plain, curved) in [(one, two), (two, one)] {
        let (x, first) = scaled(b, plain);
        let (curve, second) = scaled(b, curved);
        if is_near(first * second * factor, 0.5)
            && let Some(approximate) = curve_of(b, &curve, &x)
        {
            return Some((x, approximate));
        }
    }
    None
}

/// Which of the two curves of `x` a tensor is.
fn curve_of(b: &Builder, curve: &Tensor, x: &Tensor) -> Option<&'static str> {
    let root = std::f64::consts::FRAC_1_SQRT_2;
    if let Some(argument) = b.noted(curve, "Erfc") {
        return is_multiple(b, argument, x, -root).then_some("none");
    }
    let made = b.made(curve).filter(|it| it.op_type == "Add")?;
    let [one, two] = &made.inputs[..] else {
        return None;
    };
    let inner = match (one.as_scalar::<f32>(), two.as_scalar::<f32>()) {
        (Some(1.0), _) => two,
        (_, Some(1.0)) => one,
        _ => return None,
    };
    let inner = b.made(inner)?;
    let argument = inner.inputs.first()?;
    match inner.op_type.as_str() {
        "Erf" => is_multiple(b, argument, x, root).then_some("none"),
        "Tanh" => is_approximation(b, argument, x).then_some("tanh"),
        _ => None,
    }
}

/// Whether a tensor is `sqrt(2 / pi) * (x + 0.044715 * x³)`.
fn is_approximation(b: &Builder, argument: &Tensor, x: &Tensor) -> bool {
    let (sum, factor) = scaled(b, argument);
    let root = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
    let Some(made) = b.made(&sum).filter(|it| it.op_type == "Add") else {
        return false;
    };
    let [one, two] = &made.inputs[..] else {
        return false;
    };
    let is_sum = |plain: &Tensor, cubic: &Tensor| {
        let (cube, factor) = scaled(b, cubic);
        is_same(plain, x) && is_near(factor, CUBE) && is_cube(b, &cube, x)
    };
    is_near(factor, root) && (is_sum(one, two) || is_sum(two, one))
}

fn is_cube(b: &Builder, cube: &Tensor, x: &Tensor) -> bool {
    let Some(made) = b.made(cube) else {
        return false;
    };
    let [one, two] = &made.inputs[..] else {
        return false;
    };
    let is_square = |it: &Tensor| {
        let made = b.made(it).filter(|it| it.op_type == "Mul");
        made.is_some_and(|it| it.inputs.iter().all(|it| is_same(it, x)))
    };
    match made.op_type.as_str() {
        "Pow" => is_same(one, x) && two.as_scalar::<f32>() == Some(3.0),
        "Mul" => is_same(one, x) && is_square(two) || is_same(two, x) && is_square(one),
        _ => false,
    }
}

fn is_multiple(b: &Builder, tensor: &Tensor, x: &Tensor, expected: f64) -> bool {
    let (base, factor) = scaled(b, tensor);
    is_same(&base, x) && is_near(factor, expected)
}

fn is_same(one: &Tensor, two: &Tensor) -> bool {
    matches!((one.name(), two.name()), (Ok(one), Ok(two)) if one == two)
}

fn is_near(value: f64, expected: f64) -> bool {
    (value - expected).abs() <= TOLERANCE * expected.abs()
}

/// A tensor without its constant factors, and their product.
fn scaled(b: &Builder, tensor: &Tensor) -> (Tensor, f64) {
    let mut base = tensor.clone();
    let mut factor = 1.0;
    for _ in 0..MAX_FACTORS {
        let Some(made) = b.made(&base) else {
            break;
        };
        let constant = |index: usize| {
            let input = made.inputs.get(index)?;
            input.as_scalar::<f32>().map(f64::from)
        };
        let (place, next) = match (made.op_type.as_str(), constant(0), constant(1)) {
            ("Neg", ..) => (0, -1.0),
            ("Mul", Some(constant), _) => (1, constant),
            ("Mul", _, Some(constant)) => (0, constant),
            ("Div", _, Some(constant)) if constant != 0.0 => (0, constant.recip()),
            _ => break,
        };
        let Some(inner) = made.inputs.get(place) else {
            break;
        };
        factor *= next;
        base = inner.clone();
    }
    (base, factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Shape;

    fn input() -> Tensor {
        Tensor::named("x", DataType::Float, Shape::of_rank(2))
    }

    fn half_of(b: &mut Builder, x: &Tensor) -> Tensor {
        let half = b.scalar(DataType::Float, 0.5).unwrap();
        b.binary("Mul", &half, x).unwrap()
    }

    /// `1 + erf(x / divisor)`.
    fn curve(b: &mut Builder, x: &Tensor, divisor: f64) -> Tensor {
        let divisor = b.scalar(DataType::Float, divisor).unwrap();
        let quotient = b.binary("Div", x, &divisor).unwrap();
        let erf = b.unary("Erf", &quotient).unwrap();
        let one = b.scalar(DataType::Float, 1.0).unwrap();
        b.binary("Add", &one, &erf).unwrap()
    }

    #[test]
    fn the_exact_form_becomes_one_node() {
        let mut b = Builder::new();
        let x = input();
        let (half, curve) = (half_of(&mut b, &x), curve(&mut b, &x, 2f64.sqrt()));
        let gelu = recognized(&mut b, &half, &curve).unwrap().unwrap();
        assert_eq!(b.made(&gelu).unwrap().op_type, "Gelu");
    }

    #[test]
    fn another_divisor_or_another_tensor_is_not_gelu() {
        let mut b = Builder::new();
        let x = input();
        let half = half_of(&mut b, &x);
        let wide = curve(&mut b, &x, 1.5);
        assert!(recognized(&mut b, &half, &wide).unwrap().is_none());
        let other = Tensor::named("y", DataType::Float, Shape::of_rank(2));
        let curve = curve(&mut b, &other, 2f64.sqrt());
        assert!(recognized(&mut b, &half, &curve).unwrap().is_none());
    }
}
