//! The decimal digits of doubles, rounded as C rounds them: by the exact value, ties to even.
//!
//! A product with a power of ten is kept as the sum of two doubles, which is exact where ties can occur.

use base::tensor::DataType;

use super::digits::{Piece, doubles, power_of_ten};
use super::powers::{MAX_EXPONENT, MIN_EXPONENT, factor};
use super::{Flag, Format, Result, large};
use crate::builder::Builder;
use crate::refusal::Refusal;
use crate::value::Tensor;

/// The most digits after the point, and the most digits of the other notations after the first: the digits have
/// to fit a double.
const MAX_FIXED: u32 = 15;
const MAX_SCIENTIFIC: u32 = 14;
const DEFAULT: u32 = 6;
/// Powers of ten up to this one are doubles.
const MAX_EXACT: i32 = 22;

/// The sum of two doubles, of which the second is small.
struct Sum {
    high: Tensor,
    low: Tensor,
}

fn double(b: &Builder, value: f64) -> Result<Tensor> {
    b.scalar(DataType::Double, value)
}

fn precision(format: &Format, most: u32) -> Result<u32> {
    let precision = format.precision.unwrap_or(DEFAULT);
    match precision <= most {
        true => Ok(precision),
        false => Err(Refusal::new(format!("has a precision above {most}"))),
    }
}

/// C's `f` of numbers that are not negative.
pub(super) fn fixed(b: &mut Builder, format: &Format, x: &Tensor, is_short: bool) -> Result<Piece> {
    let places = precision(format, MAX_FIXED)?;
    // From 2^53 all doubles are whole.
    let limit = double(b, 2f64.powi(53))?;
    let is_large = b.compare("GreaterOrEqual", x, &limit)?;
    let zero = double(b, 0.0)?;
    let small = b.choose(&is_large, &zero, x)?;
    if places == 0 {
        let whole = b.unary("Round", &small)?;
        let whole = b.cast(&whole, DataType::Int64)?;
        let whole = large::whole(b, x, &is_large, &whole, is_short)?;
        return match format.flag {
            Flag::Alternate => {
                let point = Piece::fixed(b, ".")?;
                whole.then(b, &point)
            }
            _ => Ok(whole),
        };
    }
    let whole = b.unary("Floor", &small)?;
    let rest = b.binary("Sub", &small, &whole)?;
    let power = double(b, 10f64.powi(places.cast_signed()))?;
    let product = product(b, &rest, &power)?;
    let fraction = rounded(b, &product)?;
    let whole = b.cast(&whole, DataType::Int64)?;
    let all = b.i64(10i64.pow(places));
    let carry = b.binary("Div", &fraction, &all)?;
    let whole = b.binary("Add", &whole, &carry)?;
    let carried = b.binary("Mul", &carry, &all)?;
    let fraction = b.binary("Sub", &fraction, &carried)?;
    let whole = large::whole(b, x, &is_large, &whole, is_short)?;
    let point = Piece::fixed(b, ".")?;
    let width = b.i64(places.into());
    let fraction = Piece::filled(b, &fraction, &width, places.into())?;
    whole.then(b, &point)?.then(b, &fraction)
}

/// C's `e` of numbers that are not negative.
pub(super) fn scientific(b: &mut Builder, format: &Format, x: &Tensor) -> Result<Piece> {
    let places = precision(format, MAX_SCIENTIFIC)?;
    let Digits { digits, exponent } = significant(b, x, places)?;
    let unit = b.i64(10i64.pow(places));
    let first = b.binary("Div", &digits, &unit)?;
    let mut text = Piece::digits(b, &first)?;
    if places > 0 || format.flag == Flag::Alternate {
        let point = Piece::fixed(b, ".")?;
        text = text.then(b, &point)?;
    }
    if places > 0 {
        let upper = b.binary("Mul", &first, &unit)?;
        let fraction = b.binary("Sub", &digits, &upper)?;
        let width = b.i64(places.into());
        let fraction = Piece::filled(b, &fraction, &width, places.into())?;
        text = text.then(b, &fraction)?;
    }
    let exponent = exponents(b, &exponent)?;
    text.then(b, &exponent)
}

/// C's `g` of numbers that are not negative.
pub(super) fn shortest(b: &mut Builder, format: &Format, x: &Tensor) -> Result<Piece> {
    let count = format.precision.unwrap_or(DEFAULT).max(1);
    if count > MAX_SCIENTIFIC + 1 {
        return Err(Refusal::new(format!(
            "has a precision above {}",
            MAX_SCIENTIFIC + 1
        )));
    }
    let places = count - 1;
    let Digits { digits, exponent } = significant(b, x, places)?;
    let keeps_zeros = format.flag == Flag::Alternate;
    let (zero, last) = (b.i64(0), b.i64(places.into()));
    let dropped = match keeps_zeros {
        true => zero.clone(),
        false => trailing_zeros(b, &digits, places)?,
    };
    let power = power_of_ten(b, &dropped)?;
    let kept = b.binary("Div", &digits, &power)?;
    let after_first = b.binary("Sub", &last, &dropped)?;
    // One digit before the point.
    let unit = b.i64(10i64.pow(places));
    let first = b.binary("Div", &digits, &unit)?;
    let first = Piece::digits(b, &first)?;
    let most = i64::from(places);
    let text = with_fraction(b, &first, &kept, &after_first, most, keeps_zeros)?;
    let exponent_text = exponents(b, &exponent)?;
    let scientific = text.then(b, &exponent_text)?;
    // The point in its place.
    let lowest = b.i64(-4);
    let too_low = b.compare("Less", &exponent, &lowest)?;
    let too_high = b.compare("Greater", &exponent, &last)?;
    let is_scientific = b.compare("Or", &too_low, &too_high)?;
    let exponent = b.choose(&is_scientific, &zero, &exponent)?;
    let below = b.binary("Sub", &last, &exponent)?;
    let power = power_of_ten(b, &below)?;
    let whole = b.binary("Div", &digits, &power)?;
    let whole = Piece::digits(b, &whole)?;
    let width = b.binary("Sub", &after_first, &exponent)?;
    let width = b.binary("Max", &width, &zero)?;
    let most = most + 4;
    let fixed = with_fraction(b, &whole, &kept, &width, most, keeps_zeros)?;
    Piece::choose(b, &is_scientific, &scientific, &fixed)
}

/// A whole number, and the last `width` digits of `digits` behind a point.
fn with_fraction(
    b: &mut Builder,
    whole: &Piece,
    digits: &Tensor,
    width: &Tensor,
    most: i64,
    keeps_point: bool,
) -> Result<Piece> {
    let power = power_of_ten(b, width)?;
    let upper = b.binary("Div", digits, &power)?;
    let upper = b.binary("Mul", &upper, &power)?;
    let fraction = b.binary("Sub", digits, &upper)?;
    let fraction = Piece::filled(b, &fraction, width, most)?;
    let point = match keeps_point {
        true => Piece::fixed(b, ".")?,
        false => {
            let zero = b.i64(0);
            let is_any = b.compare("Greater", width, &zero)?;
            Piece::either(b, &is_any, ".", "")?
        }
    };
    whole.then(b, &point)?.then(b, &fraction)
}

/// How many of the last `most` digits are zeros without another digit behind them.
fn trailing_zeros(b: &mut Builder, digits: &Tensor, most: u32) -> Result<Tensor> {
    if most == 0 {
        return Ok(b.i64(0));
    }
    let powers: Vec<i64> = (1..=most).map(|it| 10i64.pow(it)).collect();
    let powers = b.i64s(&powers);
    let digits = b.unsqueeze(digits, &[-1])?;
    let rest = b.binary("Mod", &digits, &powers)?;
    let zero = b.i64(0);
    let is_zero = b.compare("Equal", &rest, &zero)?;
    let is_zero = b.cast(&is_zero, DataType::Int64)?;
    b.reduce("ReduceSum", &is_zero, Some(&[-1]), false)
}

/// `e+00` and so on.
fn exponents(b: &mut Builder, exponent: &Tensor) -> Result<Piece> {
    let text = |it: i32| {
        let sign = if it < 0 { '-' } else { '+' };
        format!("e{sign}{:02}", it.unsigned_abs())
    };
    let texts: Vec<String> = (MIN_EXPONENT..=MAX_EXPONENT).map(text).collect();
    let lens: Vec<i64> = texts
        .iter()
        .map(|it| if it.len() > 4 { 5 } else { 4 })
        .collect();
    let (texts, lens) = (b.texts(&texts)?, b.i64s(&lens));
    let first = b.i64((-MIN_EXPONENT).into());
    let row = b.binary("Add", exponent, &first)?;
    Ok(Piece {
        text: b.gather(&texts, &row, 0)?,
        len: b.gather(&lens, &row, 0)?,
    })
}

/// The first digits of numbers as an integer, and the decimal exponent of the first digit.
struct Digits {
    digits: Tensor,
    exponent: Tensor,
}

/// The first `places + 1` digits. Those of 0 are 0.
fn significant(b: &mut Builder, x: &Tensor, places: u32) -> Result<Digits> {
    let unit = double(b, 1.0)?;
    let nothing = double(b, 0.0)?;
    let is_zero = b.compare("Equal", x, &nothing)?;
    let x = b.choose(&is_zero, &unit, x)?;
    let row = exponent_row(b, &x)?;
    let scaled = scaled(b, &x, &row, places.cast_signed())?;
    let digits = rounded(b, &scaled)?;
    // 9.99 can become 10.0.
    let full = b.i64(10i64.pow(places + 1));
    let is_full = b.compare("GreaterOrEqual", &digits, &full)?;
    let lower = b.i64(10i64.pow(places));
    let digits = b.choose(&is_full, &lower, &digits)?;
    let carry = b.cast(&is_full, DataType::Int64)?;
    let first = b.i64(MIN_EXPONENT.into());
    let exponent = b.binary("Add", &row, &first)?;
    let exponent = b.binary("Add", &exponent, &carry)?;
    let zero = b.i64(0);
    Ok(Digits {
        digits: b.choose(&is_zero, &zero, &digits)?,
        exponent: b.choose(&is_zero, &zero, &exponent)?,
    })
}

/// The decimal exponent of positive numbers, counted from the smallest.
fn exponent_row(b: &mut Builder, x: &Tensor) -> Result<Tensor> {
    let logarithm = b.unary("Log", x)?;
    let ln = double(b, std::f64::consts::LN_10)?;
    let estimate = b.binary("Div", &logarithm, &ln)?;
    let estimate = b.unary("Floor", &estimate)?;
    let estimate = b.cast(&estimate, DataType::Int64)?;
    let first = b.i64((-MIN_EXPONENT).into());
    let row = b.binary("Add", &estimate, &first)?;
    let (zero, one) = (b.i64(0), b.i64(1));
    let last = b.i64((MAX_EXPONENT - MIN_EXPONENT).into());
    let row = b.binary("Max", &row, &zero)?;
    let row = b.binary("Min", &row, &last)?;
    // The estimate can be one off.
    let powers = (MIN_EXPONENT..=MAX_EXPONENT + 1).map(power);
    let powers = doubles(powers.collect())?;
    let here = b.gather(&powers, &row, 0)?;
    let next = b.binary("Add", &row, &one)?;
    let next = b.gather(&powers, &next, 0)?;
    let is_above = b.compare("GreaterOrEqual", x, &next)?;
    let is_below = b.compare("Less", x, &here)?;
    let up = b.cast(&is_above, DataType::Int64)?;
    let down = b.cast(&is_below, DataType::Int64)?;
    let row = b.binary("Add", &row, &up)?;
    let row = b.binary("Sub", &row, &down)?;
    let row = b.binary("Max", &row, &zero)?;
    b.binary("Min", &row, &last)
}

fn power(exponent: i32) -> f64 {
    format!("1e{exponent}").parse().unwrap_or(f64::INFINITY)
}

/// The numbers times the power of ten that leaves `places + 1` digits before the point.
fn scaled(b: &mut Builder, x: &Tensor, row: &Tensor, places: i32) -> Result<Sum> {
    let factors: Vec<_> = (MIN_EXPONENT..=MAX_EXPONENT)
        .map(|it| factor(it, places))
        .collect();
    let table = |of: &dyn Fn(usize) -> f64| doubles((0..factors.len()).map(of).collect());
    let scales = table(&|it| factors[it].scale)?;
    let highs = table(&|it| factors[it].high)?;
    let lows = table(&|it| factors[it].low)?;
    let scale = b.gather(&scales, row, 0)?;
    let x = b.binary("Mul", x, &scale)?;
    let high = b.gather(&highs, row, 0)?;
    let low = b.gather(&lows, row, 0)?;
    let product = product(b, &x, &high)?;
    let more = b.binary("Mul", &x, &low)?;
    let low = b.binary("Add", &product.low, &more)?;
    let multiplied = normalised(b, &product.high, &low)?;
    // Where the inverse of the power is a double, a division is exact for ties.
    let divisor = |it: usize| {
        let exponent = i32::try_from(it).map_or(0, |it| it + MIN_EXPONENT - places);
        match (1..=MAX_EXACT).contains(&exponent) {
            true => 10f64.powi(exponent),
            false => 1.0,
        }
    };
    let divisors = table(&divisor)?;
    let divisor = b.gather(&divisors, row, 0)?;
    let quotient = b.binary("Div", &x, &divisor)?;
    let back = self::product(b, &quotient, &divisor)?;
    let rest = b.binary("Sub", &x, &back.high)?;
    let rest = b.binary("Sub", &rest, &back.low)?;
    let rest = b.binary("Div", &rest, &divisor)?;
    let one = double(b, 1.0)?;
    let is_divided = b.compare("Greater", &divisor, &one)?;
    Ok(Sum {
        high: b.choose(&is_divided, &quotient, &multiplied.high)?,
        low: b.choose(&is_divided, &rest, &multiplied.low)?,
    })
}

/// The exact product of two doubles (Dekker).
fn product(b: &mut Builder, x: &Tensor, y: &Tensor) -> Result<Sum> {
    let high = b.binary("Mul", x, y)?;
    let (x, y) = (halves(b, x)?, halves(b, y)?);
    let mut low = b.binary("Mul", &x.high, &y.high)?;
    low = b.binary("Sub", &low, &high)?;
    for (one, two) in [(&x.high, &y.low), (&x.low, &y.high), (&x.low, &y.low)] {
        let part = b.binary("Mul", one, two)?;
        low = b.binary("Add", &low, &part)?;
    }
    Ok(Sum { high, low })
}

/// A double as the sum of two with half as many bits (Veltkamp).
fn halves(b: &mut Builder, x: &Tensor) -> Result<Sum> {
    let splitter = double(b, 2f64.powi(27) + 1.0)?;
    let wide = b.binary("Mul", x, &splitter)?;
    let high = b.binary("Sub", &wide, x)?;
    let high = b.binary("Sub", &wide, &high)?;
    let low = b.binary("Sub", x, &high)?;
    Ok(Sum { high, low })
}

fn normalised(b: &mut Builder, high: &Tensor, low: &Tensor) -> Result<Sum> {
    let sum = b.binary("Add", high, low)?;
    let change = b.binary("Sub", &sum, high)?;
    let low = b.binary("Sub", low, &change)?;
    Ok(Sum { high: sum, low })
}

/// The nearest integers, of two the even one.
fn rounded(b: &mut Builder, x: &Sum) -> Result<Tensor> {
    let floor = b.unary("Floor", &x.high)?;
    let rest = b.binary("Sub", &x.high, &floor)?;
    let (half, zero) = (double(b, 0.5)?, double(b, 0.0)?);
    let is_above = b.compare("Greater", &rest, &half)?;
    let is_half = b.compare("Equal", &rest, &half)?;
    let is_more = b.compare("Greater", &x.low, &zero)?;
    let is_tie = b.compare("Equal", &x.low, &zero)?;
    let floor = b.cast(&floor, DataType::Int64)?;
    let two = b.i64(2);
    let parity = b.binary("Mod", &floor, &two)?;
    let is_odd = b.cast(&parity, DataType::Bool)?;
    let is_tie = b.compare("And", &is_tie, &is_odd)?;
    let is_more = b.compare("Or", &is_more, &is_tie)?;
    let is_up = b.compare("And", &is_half, &is_more)?;
    let is_up = b.compare("Or", &is_above, &is_up)?;
    let up = b.cast(&is_up, DataType::Int64)?;
    b.binary("Add", &floor, &up)
}
