//! The text of numbers in responses.
//!
//! A float is written with six digits as by C's `%g` if these read back as the same value, else with
//! `%.9g` for float and `%.17g` for double (`WriteDecimal`, `json_tensor.cc`). Not here: the doubles
//! in messages (`debug_text`).

use super::decimal::{Cut, RoundedDecimal};

/// Appends the text of `value`.
#[inline]
pub fn write_f32(value: f32, out: &mut Vec<u8>) {
    write::<Float>(f64::from(value), out);
}

/// Appends the text of `value`.
#[inline]
pub fn write_f64(value: f64, out: &mut Vec<u8>) {
    write::<Double>(value, out);
}

/// The differences between the two types. Values are handled as doubles, which hold any float exactly.
trait Precision {
    /// If a value and its six digits differ by more than this, in units of the last of all digits,
    /// they are certainly different: half the distance of two neighbours, plus some rounding.
    const APART: u64;
    /// One in the last of six digits, in units of the last of all digits.
    const UNIT: u64;
    /// The number of digits that distinguishes any two values.
    const DIGITS: usize;

    /// The value in exact arithmetic, if that is possible.
    fn cut(value: f64) -> Option<Cut>;
    /// Rounds to all digits.
    fn long(cut: Cut) -> RoundedDecimal;
    /// Rounds to six digits.
    fn short(cut: Cut) -> RoundedDecimal;
    /// Whether `decimal` reads back as `value`.
    fn reads_back(decimal: RoundedDecimal, value: f64) -> bool;
}

struct Float;

impl Precision for Float {
    // 10^9 / 2^24, plus one.
    const APART: u64 = 61;
    const UNIT: u64 = 1_000;
    const DIGITS: usize = 9;

    #[inline]
    fn cut(value: f64) -> Option<Cut> {
        Cut::new::<9, 29>(value)
    }

    #[inline]
    fn long(cut: Cut) -> RoundedDecimal {
        cut.rounded::<9>()
    }

    #[inline]
    fn short(cut: Cut) -> RoundedDecimal {
        cut.rounded_to::<9, 6>()
    }

    #[inline]
    fn reads_back(decimal: RoundedDecimal, value: f64) -> bool {
        const BELOW_FLOAT: u64 = (1 << 29) - 1;
        const TIE: u64 = 1 << 28;
        let nearest = decimal.nearest_f64();
        // Rounding twice goes wrong only if the first rounding produces a tie that was not one.
        let normal = value >= f64::from(f32::MIN_POSITIVE);
        if normal && nearest.to_bits() & BELOW_FLOAT != TIE {
            return f64::from(nearest as f32) == value;
        }
        let nearest: Option<f32> = decimal.text().parse().ok();
        nearest.map(f64::from) == Some(value)
    }
}

struct Double;

impl Precision for Double {
    // 10^17 / 2^53, plus one.
    const APART: u64 = 13;
    const UNIT: u64 = 100_000_000_000;
    const DIGITS: usize = 17;

    #[inline]
    fn cut(value: f64) -> Option<Cut> {
        Cut::new::<17, 0>(value)
    }

    #[inline]
    fn long(cut: Cut) -> RoundedDecimal {
        cut.rounded::<17>()
    }

    #[inline]
    fn short(cut: Cut) -> RoundedDecimal {
        cut.rounded_to::<17, 6>()
    }

    #[inline]
    fn reads_back(decimal: RoundedDecimal, value: f64) -> bool {
        decimal.nearest_f64() == value
    }
}

#[inline]
fn write<P: Precision>(value: f64, out: &mut Vec<u8>) {
    if !value.is_finite() {
        return write_non_finite(value, out);
    }
    let negative = value.is_sign_negative();
    let value = value.abs();
    if value < 1e6 && value as u32 as f64 == value {
        out.extend_from_slice(&b"-"[..usize::from(negative)]);
        write_up_to_eight(value as u64, out);
        out.extend_from_slice(b".0");
        return;
    }
    let Some(cut) = P::cut(value) else {
        return write_extreme::<P>(value, negative, out);
    };
    let long = P::long(cut);
    let beyond = long.significand % P::UNIT;
    if beyond <= P::APART || beyond >= P::UNIT - P::APART {
        let short = P::short(cut);
        if P::reads_back(short, value) {
            return write_decimal(negative, short, 6, out);
        }
    }
    write_decimal(negative, long, P::DIGITS, out);
}

#[cold]
fn write_non_finite(value: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(match value {
        f64::INFINITY => b"Infinity",
        f64::NEG_INFINITY => b"-Infinity",
        _ => b"NaN",
    });
}

/// Writes values that are too large or too small for exact arithmetic.
#[cold]
fn write_extreme<P: Precision>(value: f64, negative: bool, out: &mut Vec<u8>) {
    let short = RoundedDecimal::from_std(value, 6);
    if P::reads_back(short, value) {
        write_decimal(negative, short, 6, out);
    } else {
        let long = RoundedDecimal::from_std(value, P::DIGITS);
        write_decimal(negative, long, P::DIGITS, out);
    }
}

/// Appends a decimal of `precision` digits as `%.{precision}g` would write it, plus `.0` if it would
/// look like an integer.
///
/// The digits stay in registers until they are written to their place; surplus digits are
/// overwritten or cut off.
#[inline(always)]
fn write_decimal(negative: bool, decimal: RoundedDecimal, precision: usize, out: &mut Vec<u8>) {
    let RoundedDecimal { significand, power } = decimal;
    // Exponent of the first digit.
    let exponent = power + precision as i32 - 1;
    let (digits, last) = seventeen_digits(significand, precision);
    let count = match last {
        b'0' => 16 - ((digits ^ ZEROS).leading_zeros() / 8) as usize,
        _ => 17,
    };
    if exponent < -4 || exponent >= precision as i32 {
        let mut text = [last; 17];
        put(&mut text, 0, digits);
        out.extend_from_slice(&b"-"[..usize::from(negative)]);
        return write_scientific(&text[..count], exponent, out);
    }
    // After the sign, if there is one.
    let start = out.len() + usize::from(negative);
    out.extend_from_slice(b"-0.00000000000000000000000000000000000000");
    let text = &mut out[start..start + 38];
    let length = if exponent < 0 {
        let zeros = exponent.unsigned_abs() as usize;
        text[..8].copy_from_slice(b"0.000000");
        put(text, zeros + 1, digits);
        text[zeros + 17] = last;
        zeros + 1 + count
    } else {
        let point = exponent as usize + 1;
        put(text, 0, digits);
        if point <= 16 {
            let fraction = digits.checked_shr(8 * point as u32).unwrap_or_default();
            put(text, point + 1, fraction);
        }
        text[17] = last;
        // An integer has a zero after its point.
        if count <= point {
            text[point + 1] = b'0';
        }
        // The seventeenth digit, if it is before the point.
        if point == 17 {
            text[16] = last;
        }
        text[point] = b'.';
        (point + 2).max(count + 1)
    };
    out.truncate(start + length);
}

/// A number of `precision` digits as text: sixteen digits, the first one in the lowest byte, and a
/// seventeenth.
#[inline(always)]
fn seventeen_digits(significand: u64, precision: usize) -> (u128, u8) {
    match precision {
        6 => (
            ZEROS << 64 | u128::from(eight_digits(significand * 100)),
            b'0',
        ),
        9 => {
            let first = u128::from(b'0') + u128::from(significand / 100_000_000);
            let others = u128::from(eight_digits(significand % 100_000_000));
            (ZEROS << 72 | others << 8 | first, b'0')
        }
        _ => {
            let (sixteen, last) = (significand / 10, significand % 10);
            let high = u128::from(eight_digits(sixteen / 100_000_000));
            let low = u128::from(eight_digits(sixteen % 100_000_000));
            (low << 64 | high, b'0' + last as u8)
        }
    }
}

/// Sixteen zeros as text.
const ZEROS: u128 = 0x3030_3030_3030_3030_3030_3030_3030_3030;

#[inline(always)]
fn put(text: &mut [u8], start: usize, sixteen: u128) {
    text[start..start + 16].copy_from_slice(&sixteen.to_le_bytes());
}

#[cold]
fn write_scientific(digits: &[u8], exponent: i32, out: &mut Vec<u8>) {
    let (first, fraction) = digits.split_at(1);
    out.extend_from_slice(first);
    if !fraction.is_empty() {
        out.push(b'.');
        out.extend_from_slice(fraction);
    }
    out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
    if exponent.unsigned_abs() < 10 {
        out.push(b'0');
    }
    write_integer(exponent.unsigned_abs().into(), out);
}

/// The digits of a number below 10^8 as text, the first one in the lowest byte: halves, then
/// pairs, then digits. Each step handles all parts together.
#[inline(always)]
fn eight_digits(value: u64) -> u64 {
    let fours = (value / 10_000) | (value % 10_000) << 32;
    // Divides numbers below 10^4 by 100, and numbers below 100 by 10.
    let hundreds = ((fours * 10_486) >> 20) & 0x7F_0000_007F;
    let pairs = hundreds | (fours - 100 * hundreds) << 16;
    let tens = ((pairs * 103) >> 10) & 0x000F_000F_000F_000F;
    let digits = tens | (pairs - 10 * tens) << 8;
    digits | 0x3030_3030_3030_3030
}

/// Appends an integer.
#[inline]
pub fn write_integer(value: u64, out: &mut Vec<u8>) {
    const EIGHT: u64 = 100_000_000;
    const SIXTEEN: u64 = EIGHT * EIGHT;
    if value < EIGHT {
        write_up_to_eight(value, out);
    } else if value < SIXTEEN {
        write_up_to_eight(value / EIGHT, out);
        out.extend_from_slice(&eight_digits(value % EIGHT).to_le_bytes());
    } else {
        write_up_to_eight(value / SIXTEEN, out);
        out.extend_from_slice(&eight_digits(value / EIGHT % EIGHT).to_le_bytes());
        out.extend_from_slice(&eight_digits(value % EIGHT).to_le_bytes());
    }
}

#[inline(always)]
fn write_up_to_eight(value: u64, out: &mut Vec<u8>) {
    let digits = eight_digits(value);
    // At least the last digit stays.
    let zeros = ((digits ^ ZEROS as u64) | 1 << 56).trailing_zeros() / 8;
    let end = out.len() + 8 - zeros as usize;
    out.extend_from_slice(&(digits >> (8 * zeros)).to_le_bytes());
    out.truncate(end);
}

#[cfg(test)]
mod tests;
