//! Reads JSON numbers into the elements of tensors, fast and correctly rounded.
//!
//! `Number::read` serves texts that were checked before. The `scan_*` functions serve the fast
//! path: they check while they read, and return `None` for anything but a plain number of the
//! wanted type, which leaves the decision to the exact path.

use super::nearest::nearest;
use super::text::{byte_at, digit_at};

/// A number as RapidJSON types it: an integer if it has neither point nor exponent and fits 64 bits,
/// else a double.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Below zero.
    Negative(i64),
    /// Zero or above.
    Unsigned(u64),
    /// Has a point or an exponent, is not finite, or does not fit the others.
    Double(f64),
}

impl Number {
    /// Reads a number whose text was checked before.
    pub(super) fn read(text: &[u8]) -> Self {
        let text = str::from_utf8(text).unwrap_or_default();
        if let Ok(value) = text.parse::<u64>() {
            return Self::Unsigned(value);
        }
        if let Ok(value) = text.parse::<i64>() {
            // Only `-0` is not below zero.
            return u64::try_from(value).map_or(Self::Negative(value), Self::Unsigned);
        }
        if text.ends_with(['N', 'f', 'y']) {
            return Self::Double(non_finite(text));
        }
        // Rust's grammar contains JSON's; the text was checked.
        Self::Double(text.parse().unwrap_or_default())
    }

    /// The value as a double, rounded to the nearest.
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Negative(value) => value as f64,
            Self::Unsigned(value) => value as f64,
            Self::Double(value) => value,
        }
    }

    /// The value, if it was written as an integer.
    pub fn as_integer(self) -> Option<i128> {
        match self {
            Self::Negative(value) => Some(value.into()),
            Self::Unsigned(value) => Some(value.into()),
            Self::Double(_) => None,
        }
    }
}

/// The value of `NaN` or an infinity, in any of the forms that `syntax` accepts.
fn non_finite(text: &str) -> f64 {
    if text.ends_with('N') {
        f64::NAN
    } else if text.starts_with('-') {
        f64::NEG_INFINITY
    } else {
        f64::INFINITY
    }
}

/// A finite number as its text gives it: `±significand × 10^exponent`.
#[derive(Clone, Copy)]
struct ScannedNumber {
    negative: bool,
    /// Wrong (wrapped) if there are more than 19 digits.
    significand: u64,
    digits: usize,
    exponent: i32,
    /// Has neither point nor exponent.
    integer: bool,
    end: usize,
}

/// Beyond these limits RapidJSON has special rules for numbers that are too big.
const MANY_DIGITS: usize = 300;
const LARGE_EXPONENT: i32 = 308;

/// Powers of ten that a double holds exactly.
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

#[inline(always)]
fn scan_number(text: &[u8], start: usize) -> Option<ScannedNumber> {
    let negative = byte_at(text, start) == b'-';
    let first = start + usize::from(negative);
    let mut significand = u64::from(digit_at(text, first)?);
    let mut end = first + 1;
    if significand != 0 && byte_at(text, end) != b'.' {
        (significand, end) = scan_digits(text, end, significand);
    }
    let mut digits = end - first;
    let mut exponent = 0;
    let mut integer = true;
    if byte_at(text, end) == b'.' {
        let point = end;
        (significand, end) = scan_digits(text, point + 1, significand);
        let fraction = end - point - 1;
        if fraction == 0 {
            return None;
        }
        digits += fraction;
        if digits >= MANY_DIGITS {
            return None;
        }
        exponent = -(fraction as i32);
        integer = false;
    }
    if byte_at(text, end) | 0x20 == b'e' {
        let (shift, behind) = scan_exponent(text, end + 1)?;
        exponent += shift;
        end = behind;
        integer = false;
    }
    (digits < MANY_DIGITS).then_some(ScannedNumber {
        negative,
        significand,
        digits,
        exponent,
        integer,
        end,
    })
}

/// Reads an exponent, starting after its `e`.
#[inline(never)]
fn scan_exponent(text: &[u8], start: usize) -> Option<(i32, usize)> {
    let negative = byte_at(text, start) == b'-';
    let mut pos = start + usize::from(negative || byte_at(text, start) == b'+');
    let mut exponent = i32::from(digit_at(text, pos)?);
    pos += 1;
    while let Some(digit) = digit_at(text, pos) {
        exponent = exponent * 10 + i32::from(digit);
        if exponent > if negative { 9_999 } else { LARGE_EXPONENT } {
            return None;
        }
        pos += 1;
    }
    Some((if negative { -exponent } else { exponent }, pos))
}

/// Reads digits from `pos` on after those in `value`, eight at a time. Wraps beyond 19 digits.
#[inline(always)]
fn scan_digits(text: &[u8], mut pos: usize, mut value: u64) -> (u64, usize) {
    const POWERS: [u64; 8] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];
    while let Some((chunk, _)) = text.get(pos..).and_then(<[u8]>::split_first_chunk::<8>) {
        // Digits become 0 to 9, the first one in the lowest byte.
        let word = u64::from_le_bytes(*chunk) ^ 0x3030_3030_3030_3030;
        let others = (word.wrapping_add(0x7676_7676_7676_7676) | word) & 0x8080_8080_8080_8080;
        let count = (others.trailing_zeros() / 8) as usize;
        if count == 0 {
            return (value, pos);
        }
        if count < 8 {
            // Moves the digits to the end of the eight, with zeros in front.
            let tail = eight_digits(word << (64 - 8 * count));
            return (
                value.wrapping_mul(POWERS[count]).wrapping_add(tail),
                pos + count,
            );
        }
        value = value
            .wrapping_mul(100_000_000)
            .wrapping_add(eight_digits(word));
        pos += 8;
    }
    while let Some(digit) = digit_at(text, pos) {
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        pos += 1;
    }
    (value, pos)
}

/// The value of eight digits, the first one in the lowest byte: pairs, then fours, then all.
#[inline(always)]
fn eight_digits(word: u64) -> u64 {
    const PAIRS: u64 = 0x0000_00FF_0000_00FF;
    const HUNDREDS: u64 = 100 + (1_000_000 << 32);
    const ONES: u64 = 1 + (10_000 << 32);
    let pairs = word.wrapping_mul(10).wrapping_add(word >> 8);
    let even = (pairs & PAIRS).wrapping_mul(HUNDREDS);
    let odd = (pairs >> 16 & PAIRS).wrapping_mul(ONES);
    even.wrapping_add(odd) >> 32
}

impl ScannedNumber {
    /// The nearest double, if one multiplication or division of exact doubles gives it.
    #[inline(always)]
    fn exact(self) -> Option<f64> {
        if self.digits > 19 || self.significand > 1 << 53 {
            return None;
        }
        let scaled = self.scaled()?;
        Some(if self.negative { -scaled } else { scaled })
    }

    /// The nearest double, if the first 128 bits of the power of ten determine it.
    #[inline(always)]
    fn nearest(self) -> Option<f64> {
        if self.digits > 19 {
            return None;
        }
        let value = nearest(self.significand, self.exponent)?;
        Some(if self.negative { -value } else { value })
    }

    /// Significand times power of ten in double arithmetic, without the sign.
    #[inline(always)]
    fn scaled(self) -> Option<f64> {
        let power = *EXACT_POWERS.get(self.exponent.unsigned_abs() as usize)?;
        let significand = self.significand as f64;
        Some(if self.exponent < 0 {
            significand / power
        } else {
            significand * power
        })
    }

    /// An integer has no negative zero.
    #[inline(always)]
    fn fix_zero(self, value: f64) -> f64 {
        if self.integer { value + 0.0 } else { value }
    }
}

/// The nearest double by the standard library's parser.
#[inline(never)]
fn parsed(text: &[u8], start: usize, end: usize) -> Option<f64> {
    let text = str::from_utf8(text.get(start..end)?).ok()?;
    text.parse().ok()
}

/// Reads any number as the nearest double.
#[inline(always)]
pub fn scan_f64(text: &[u8], start: usize) -> Option<(f64, usize)> {
    let Some(number) = scan_number(text, start) else {
        return scan_non_finite(text, start);
    };
    let value = match number.exact().or_else(|| number.nearest()) {
        Some(value) => value,
        None => parsed(text, start, number.end)?,
    };
    Some((number.fix_zero(value), number.end))
}

/// Reads the nearest double and rounds it once more, as TensorFlow Serving does.
#[inline(always)]
pub fn scan_f32(text: &[u8], start: usize) -> Option<(f32, usize)> {
    let Some(number) = scan_number(text, start) else {
        let (value, end) = scan_non_finite(text, start)?;
        return Some((value as f32, end));
    };
    let value = match number.exact() {
        Some(value) => value as f32,
        None => match number.nearly() {
            Some(value) => value,
            None => parsed(text, start, number.end)? as f32,
        },
    };
    let value = if number.integer { value + 0.0 } else { value };
    Some((value, number.end))
}

impl ScannedNumber {
    /// The float that the nearest double rounds to, found without that double.
    ///
    /// Two roundings (of the significand and of the quotient) put the scaled double within two
    /// units in the last place of the nearest one. Unless a tie between two floats is that close,
    /// both round to the same float.
    #[inline(always)]
    fn nearly(self) -> Option<f32> {
        const BELOW_FLOAT: u64 = (1 << 29) - 1;
        const TIE: u64 = 1 << 28;
        if self.digits > 19 {
            return None;
        }
        let scaled = self.scaled()?;
        let normal = (f64::from(f32::MIN_POSITIVE)..1e38).contains(&scaled);
        let from_tie = (scaled.to_bits() & BELOW_FLOAT).abs_diff(TIE);
        if !normal || from_tie <= 4 {
            return None;
        }
        let value = scaled as f32;
        Some(if self.negative { -value } else { value })
    }
}

#[cold]
fn scan_non_finite(text: &[u8], start: usize) -> Option<(f64, usize)> {
    let negative = byte_at(text, start) == b'-';
    let first = start + usize::from(negative);
    let rest = text.get(first..)?;
    let infinity = if negative {
        f64::NEG_INFINITY
    } else {
        f64::INFINITY
    };
    if rest.starts_with(b"NaN") {
        Some((f64::NAN, first + 3))
    } else if rest.starts_with(b"Infinity") {
        Some((infinity, first + 8))
    } else if rest.starts_with(b"Inf") && byte_at(rest, 3) != b'i' {
        Some((infinity, first + 3))
    } else {
        None
    }
}

/// Reads an integer of at most 64 bits: its sign, and its absolute value.
#[inline(always)]
fn scan_integer(text: &[u8], start: usize) -> Option<(bool, u64, usize)> {
    let negative = byte_at(text, start) == b'-';
    let first = start + usize::from(negative);
    let mut value = u64::from(digit_at(text, first)?);
    let mut end = first + 1;
    if value != 0 {
        (value, end) = scan_digits(text, end, value);
    }
    if matches!(byte_at(text, end), b'.' | b'e' | b'E') {
        return None;
    }
    if end - first > 19 {
        value = str::from_utf8(text.get(first..end)?).ok()?.parse().ok()?;
    }
    Some((negative, value, end))
}

/// Reads an integer that an `i64` holds.
#[inline(always)]
pub fn scan_i64(text: &[u8], start: usize) -> Option<(i64, usize)> {
    let (negative, value, end) = scan_integer(text, start)?;
    let largest = i64::MAX as u64 + u64::from(negative);
    let signed = if negative {
        value.wrapping_neg()
    } else {
        value
    };
    (value <= largest).then_some((signed as i64, end))
}

/// Reads an integer that a `u64` holds; `-0` is one.
#[inline(always)]
pub fn scan_u64(text: &[u8], start: usize) -> Option<(u64, usize)> {
    let (negative, value, end) = scan_integer(text, start)?;
    (!negative || value == 0).then_some((value, end))
}
