//! Floats in decimal: rounded to a number of digits, exactly as C's `printf` rounds.
//!
//! Uses integer arithmetic if 128 bits suffice, as they do for all common numbers, else the standard
//! library. Not here: the notation of the digits (`float_text`).

use std::cmp::Ordering;

/// `significand × 10^power`.
#[derive(Clone, Copy)]
pub(super) struct RoundedDecimal {
    pub(super) significand: u64,
    pub(super) power: i32,
}

impl RoundedDecimal {
    /// A positive, finite value in this many digits, from the standard library.
    pub(super) fn from_std(value: f64, digits: usize) -> Self {
        let text = format!("{value:.*e}", digits - 1);
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let significand: String = mantissa.chars().filter(|&char| char != '.').collect();
        let exponent: i32 = exponent.parse().unwrap_or_default();
        Self {
            significand: significand.parse().unwrap_or_default(),
            power: exponent - (digits as i32 - 1),
        }
    }

    /// The nearest double, for a significand below 2^53.
    #[inline]
    pub(super) fn nearest_f64(self) -> f64 {
        let significand = self.significand as f64;
        match self.power {
            // Both operands are exact, so there is one rounding.
            0..=22 => significand * THRESHOLDS[(self.power - THRESHOLDS_FROM) as usize],
            -22..0 => significand / THRESHOLDS[(-self.power - THRESHOLDS_FROM) as usize],
            _ => self.text().parse().unwrap_or(f64::NAN),
        }
    }

    pub(super) fn text(self) -> String {
        format!("{}e{}", self.significand, self.power)
    }
}

/// A positive value cut to a number of digits, and the part that was cut off.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    integer: u64,
    rest: Rest,
    /// The value is `integer × 10^power`, plus the rest.
    power: i32,
}

/// The part that was cut off, in units of 2^-64 of the last digit. It is zero or one half only if
/// that is exact.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rest(u64);

impl Rest {
    const HALF: Self = Self(1 << 63);

    /// The lowest `bits` bits of `product`.
    #[inline]
    fn of_bits(product: u128, bits: u32) -> Self {
        let fraction = product << (128 - bits);
        Self((fraction >> 64) as u64 | u64::from(fraction as u64 != 0))
    }

    /// `rest / divisor`.
    fn of_division(rest: u128, divisor: u128) -> Self {
        let below_half = match rest.cmp(&(divisor / 2)) {
            Ordering::Less => u64::from(rest != 0),
            Ordering::Equal => Self::HALF.0,
            Ordering::Greater => Self::HALF.0 + 1,
        };
        Self(below_half)
    }
}

impl Cut {
    /// Cuts a normal value, whose lowest `ZEROS` bits are zero, to `DIGITS` digits. `None` if 128
    /// bits do not suffice.
    #[inline]
    pub(super) fn new<const DIGITS: u32, const ZEROS: u32>(value: f64) -> Option<Self> {
        let smallest = const { 10u64.pow(DIGITS - 1) };
        let bits = value.to_bits();
        let biased = (bits >> 52) as i32;
        if biased == 0 {
            return None;
        }
        let significand = (bits & ((1 << 52) - 1) | 1 << 52) >> ZEROS;
        let binary = biased - 1075 + ZEROS as i32;
        let mut power = decimal_exponent(value) - (DIGITS as i32 - 1);
        // The estimate can be off by one next to a power of ten, or beyond the table.
        for _ in 0..3 {
            let (integer, rest) = if power <= 0 {
                multiplied(significand, binary, power.unsigned_abs() as usize)?
            } else {
                divided(significand, binary, power.unsigned_abs() as usize)?
            };
            if integer < smallest {
                power -= 1;
            } else if integer >= 10 * smallest {
                power += 1;
            } else {
                return Some(Self {
                    integer,
                    rest,
                    power,
                });
            }
        }
        None
    }

    /// The value in all digits, rounded half to even.
    #[inline]
    pub(super) fn rounded<const DIGITS: u32>(self) -> RoundedDecimal {
        let tie = u64::from(self.rest == Rest::HALF);
        let up = u64::from(self.rest > Rest::HALF) | (tie & self.integer);
        carried::<DIGITS>(self.integer + up, self.power)
    }

    /// The value in `FEWER` of its `DIGITS` digits, rounded half to even from the exact value.
    #[inline]
    pub(super) fn rounded_to<const DIGITS: u32, const FEWER: u32>(self) -> RoundedDecimal {
        let unit = const { 10u64.pow(DIGITS - FEWER) };
        let (integer, cut) = (self.integer / unit, self.integer % unit);
        let up = match (cut.cmp(&(unit / 2)), self.rest) {
            (Ordering::Less, _) => 0,
            (Ordering::Equal, Rest(0)) => integer & 1,
            _ => 1,
        };
        carried::<FEWER>(integer + up, self.power + (DIGITS - FEWER) as i32)
    }
}

/// Corrects a significand that rounding up has made one digit too long.
#[inline]
fn carried<const DIGITS: u32>(significand: u64, power: i32) -> RoundedDecimal {
    if significand == const { 10u64.pow(DIGITS) } {
        RoundedDecimal {
            significand: significand / 10,
            power: power + 1,
        }
    } else {
        RoundedDecimal { significand, power }
    }
}

/// `significand × 2^binary × 10^power`.
#[inline]
fn multiplied(significand: u64, binary: i32, power: usize) -> Option<(u64, Rest)> {
    let ten = *POWERS.get(power)?;
    let bits = (64 - significand.leading_zeros()) + (128 - ten.leading_zeros());
    if bits > 128 {
        return None;
    }
    if bits <= 64 && (-63..0).contains(&binary) {
        let product = significand * ten as u64;
        let shift = binary.unsigned_abs();
        return Some((product >> shift, Rest(product << (64 - shift))));
    }
    let product = u128::from(significand) * ten;
    if binary >= 0 {
        let fits = product.leading_zeros() as i32 > binary + 64;
        return fits.then(|| ((product << binary) as u64, Rest(0)));
    }
    let shift = binary.unsigned_abs();
    if shift >= 128 {
        return None;
    }
    let integer = u64::try_from(product >> shift).ok()?;
    Some((integer, Rest::of_bits(product, shift)))
}

/// `significand × 2^binary / 10^power`.
fn divided(significand: u64, binary: i32, power: usize) -> Option<(u64, Rest)> {
    let ten = *POWERS.get(power)?;
    let zeros = significand.trailing_zeros();
    let (wide, binary) = (u128::from(significand >> zeros), binary + zeros as i32);
    if binary < 0 || wide.leading_zeros() as i32 <= binary {
        return None;
    }
    let value = wide << binary;
    let integer = u64::try_from(value / ten).ok()?;
    Some((integer, Rest::of_division(value % ten, ten)))
}

/// The exponent of the first digit. Exact, except next to powers of ten, or one too small beyond
/// the table.
#[inline]
fn decimal_exponent(value: f64) -> i32 {
    let binary = (value.to_bits() >> 52) as i32 - 1023;
    // floor(binary × log10(2))
    let exponent = (binary * 78_913) >> 18;
    let next = usize::try_from(exponent + 1 - THRESHOLDS_FROM);
    let threshold = next.ok().and_then(|next| THRESHOLDS.get(next));
    exponent + i32::from(threshold.is_some_and(|&threshold| value >= threshold))
}

/// All powers of ten below 2^128.
static POWERS: [u128; 39] = {
    let mut powers = [1; 39];
    let mut index = 1;
    while index < powers.len() {
        powers[index] = powers[index - 1] * 10;
        index += 1;
    }
    powers
};

/// The exponent of the first power of ten in [`THRESHOLDS`].
const THRESHOLDS_FROM: i32 = -30;

/// The doubles nearest to powers of ten; exact from 1 to 10^22.
#[rustfmt::skip]
static THRESHOLDS: [f64; 69] = [
    1e-30, 1e-29, 1e-28, 1e-27, 1e-26, 1e-25, 1e-24, 1e-23,
    1e-22, 1e-21, 1e-20, 1e-19, 1e-18, 1e-17, 1e-16, 1e-15,
    1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-7,
    1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1e0, 1e1,
    1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9,
    1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17,
    1e18, 1e19, 1e20, 1e21, 1e22, 1e23, 1e24, 1e25,
    1e26, 1e27, 1e28, 1e29, 1e30, 1e31, 1e32, 1e33,
    1e34, 1e35, 1e36, 1e37, 1e38,
];
