//! The text of floats in answers: six digits as C's `%g` where these read back as the same value,
//! else `%.9g` for float and `%.17g` for double (`WriteDecimal`, `json_tensor.cc`).
//!
//! Digits come from exact integer arithmetic where 128 bits suffice, else from the standard
//! library. Not here: the doubles in messages (`grisu`).

/// Appends the text of `value`.
#[inline]
pub(super) fn write_f32(value: f32, out: &mut Vec<u8>) {
    write::<Float>(f64::from(value), out);
}

/// Appends the text of `value`.
#[inline]
pub(super) fn write_f64(value: f64, out: &mut Vec<u8>) {
    write::<Double>(value, out);
}

/// What differs between the two types. A value is handled as a double; a float is one, exactly.
trait Precision {
    /// Digits that tell any two values apart.
    const DIGITS: usize;
    /// A value and its six digits that are further apart, in units of the last of `DIGITS` digits,
    /// are certainly not the same: half the distance of two neighbours, and some rounding.
    const APART: u64;

    /// Whether `decimal` reads back as `value`.
    fn reads_back(decimal: Decimal, value: f64) -> bool;
}

struct Float;

impl Precision for Float {
    const DIGITS: usize = 9;
    // 10^9 / 2^24, and one.
    const APART: u64 = 61;

    #[inline]
    fn reads_back(decimal: Decimal, value: f64) -> bool {
        const BELOW_FLOAT: u64 = (1 << 29) - 1;
        const TIE: u64 = 1 << 28;
        let nearest = decimal.nearest_f64();
        // Rounding twice goes wrong only where the first rounding makes a tie of what is none.
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
    const DIGITS: usize = 17;
    // 10^17 / 2^53, and one.
    const APART: u64 = 13;

    #[inline]
    fn reads_back(decimal: Decimal, value: f64) -> bool {
        decimal.nearest_f64() == value
    }
}

fn write<P: Precision>(value: f64, out: &mut Vec<u8>) {
    if !value.is_finite() {
        out.extend_from_slice(match value {
            f64::INFINITY => b"Infinity",
            f64::NEG_INFINITY => b"-Infinity",
            _ => b"NaN",
        });
        return;
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let value = value.abs();
    if value < 1e6 && value as u64 as f64 == value {
        write_integer(value as u64, out);
        out.extend_from_slice(b".0");
        return;
    }
    match Scaled::new::<P>(value) {
        Some(scaled) => write_scaled::<P>(value, scaled, out),
        None => write_extreme::<P>(value, out),
    }
}

fn write_scaled<P: Precision>(value: f64, scaled: Scaled, out: &mut Vec<u8>) {
    let long = scaled.rounded_to::<P>(P::DIGITS);
    let short = scaled.rounded_to::<P>(6);
    let unit = 10u64.pow(P::DIGITS as u32 - 6);
    let close = long.power == short.power - (P::DIGITS as i32 - 6)
        && long.significand.abs_diff(short.significand * unit) <= P::APART;
    // A carry to the next power of ten leaves equal digits or is not worth a thought.
    let carried = long.power != short.power - (P::DIGITS as i32 - 6);
    if (close || carried) && P::reads_back(short, value) {
        short.write::<6>(out);
    } else if P::DIGITS == 9 {
        long.write::<9>(out);
    } else {
        long.write::<17>(out);
    }
}

/// For values so large or small that 128 bits do not hold what is needed.
#[cold]
fn write_extreme<P: Precision>(value: f64, out: &mut Vec<u8>) {
    let short = Decimal::from_std(value, 6);
    if P::reads_back(short, value) {
        short.write::<6>(out);
    } else if P::DIGITS == 9 {
        Decimal::from_std(value, 9).write::<9>(out);
    } else {
        Decimal::from_std(value, 17).write::<17>(out);
    }
}

/// A value times the power of ten that gives it an integer part of as many digits as its type
/// needs, cut there.
#[derive(Clone, Copy)]
struct Scaled {
    integer: u64,
    /// What was cut off, compared with one half.
    rest: Rest,
    /// The value is about `integer × 10^power`.
    power: i32,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rest {
    Zero,
    Less,
    Half,
    More,
}

impl Scaled {
    /// Of a positive, finite value; `None` where 128 bits do not suffice.
    #[inline]
    fn new<P: Precision>(value: f64) -> Option<Self> {
        let smallest = 10u64.pow(P::DIGITS as u32 - 1);
        let mut exponent = decimal_exponent(value);
        // The estimate may be one too small, or one too large next to a power of ten.
        for _ in 0..3 {
            let scaled = Self::with_power(value, exponent - (P::DIGITS as i32 - 1))?;
            if scaled.integer < smallest {
                exponent -= 1;
            } else if scaled.integer >= 10 * smallest {
                exponent += 1;
            } else {
                return Some(scaled);
            }
        }
        None
    }

    #[inline]
    fn with_power(value: f64, power: i32) -> Option<Self> {
        let bits = value.to_bits();
        let (mut significand, mut binary) = match bits >> 52 {
            0 => return None,
            biased => (bits & ((1 << 52) - 1) | 1 << 52, biased as i32 - 1075),
        };
        let zeros = significand.trailing_zeros();
        significand >>= zeros;
        binary += zeros as i32;
        let (integer, rest) = if power <= 0 {
            multiplied(significand, binary, power.unsigned_abs() as usize)?
        } else {
            divided(significand, binary, power.unsigned_abs() as usize)?
        };
        Some(Self {
            integer,
            rest,
            power,
        })
    }

    /// Rounded half to even, from the exact value.
    #[inline]
    fn rounded_to<P: Precision>(self, digits: usize) -> Decimal {
        let unit = 10u64.pow((P::DIGITS - digits) as u32);
        let (mut significand, cut) = (self.integer / unit, self.integer % unit);
        let rest = if unit == 1 {
            self.rest
        } else {
            match (cut.cmp(&(unit / 2)), self.rest) {
                (std::cmp::Ordering::Equal, Rest::Zero) => Rest::Half,
                (std::cmp::Ordering::Less, _) => Rest::Less,
                _ => Rest::More,
            }
        };
        let up = match rest {
            Rest::Zero | Rest::Less => 0,
            Rest::Half => significand & 1,
            Rest::More => 1,
        };
        significand += up;
        let mut power = self.power + (P::DIGITS - digits) as i32;
        if significand == 10u64.pow(digits as u32) {
            significand /= 10;
            power += 1;
        }
        Decimal { significand, power }
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
    let product = u128::from(significand) * ten;
    if binary >= 0 {
        let fits = product.leading_zeros() as i32 > binary + 64;
        return fits.then(|| ((product << binary) as u64, Rest::Zero));
    }
    let shift = binary.unsigned_abs();
    if shift >= 128 {
        return None;
    }
    let integer = u64::try_from(product >> shift).ok()?;
    let cut = product & ((1 << shift) - 1);
    Some((integer, Rest::of(cut, 1 << (shift - 1))))
}

/// `significand × 2^binary / 10^power`.
fn divided(significand: u64, binary: i32, power: usize) -> Option<(u64, Rest)> {
    let ten = *POWERS.get(power)?;
    let wide = u128::from(significand);
    if binary < 0 || wide.leading_zeros() as i32 <= binary {
        return None;
    }
    let value = wide << binary;
    let integer = u64::try_from(value / ten).ok()?;
    Some((integer, Rest::of(value % ten, ten / 2)))
}

impl Rest {
    #[inline]
    fn of(cut: u128, half: u128) -> Self {
        match cut.cmp(&half) {
            _ if cut == 0 => Self::Zero,
            std::cmp::Ordering::Less => Self::Less,
            std::cmp::Ordering::Equal => Self::Half,
            std::cmp::Ordering::Greater => Self::More,
        }
    }
}

/// The exponent of the first digit: exact but next to powers of ten, or one too small beyond the
/// table.
#[inline]
fn decimal_exponent(value: f64) -> i32 {
    let binary = (value.to_bits() >> 52) as i32 - 1023;
    // floor(binary × log10(2))
    let exponent = (binary * 78_913) >> 18;
    let next = usize::try_from(exponent + 1 - THRESHOLDS_FROM);
    let threshold = next.ok().and_then(|next| THRESHOLDS.get(next));
    exponent + i32::from(threshold.is_some_and(|&threshold| value >= threshold))
}

/// `significand × 10^power`.
#[derive(Clone, Copy)]
struct Decimal {
    significand: u64,
    power: i32,
}

impl Decimal {
    /// A positive, finite value with this many digits.
    fn from_std(value: f64, digits: usize) -> Self {
        let text = format!("{value:.*e}", digits - 1);
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let significand: String = mantissa.chars().filter(|&char| char != '.').collect();
        let exponent: i32 = exponent.parse().unwrap_or_default();
        Self {
            significand: significand.parse().unwrap_or_default(),
            power: exponent - (digits as i32 - 1),
        }
    }

    /// The nearest double; there are at most six digits.
    #[inline]
    fn nearest_f64(self) -> f64 {
        let significand = self.significand as f64;
        match self.power {
            // Exact operands, so one rounding.
            0..=22 => significand * THRESHOLDS[(self.power - THRESHOLDS_FROM) as usize],
            -22..0 => significand / THRESHOLDS[(-self.power - THRESHOLDS_FROM) as usize],
            _ => self.text().parse().unwrap_or(f64::NAN),
        }
    }

    fn text(self) -> String {
        format!("{}e{}", self.significand, self.power)
    }

    /// Appends what `%.{DIGITS}g` gives, and `.0` to what would look like an integer. The
    /// significand has `DIGITS` digits.
    #[inline]
    fn write<const DIGITS: usize>(self, out: &mut Vec<u8>) {
        let mut buffer = [b'0'; DIGITS];
        fill_digits(self.significand, &mut buffer);
        let zeros = buffer.iter().rev().take_while(|&&digit| digit == b'0');
        let digits = &buffer[..(DIGITS - zeros.count()).max(1)];
        let exponent = self.power + DIGITS as i32 - 1;
        match exponent {
            -4..0 => {
                out.extend_from_slice(&b"0.000"[..1 + exponent.unsigned_abs() as usize]);
                out.extend_from_slice(digits);
            }
            _ if exponent >= 0 && exponent < DIGITS as i32 => {
                let before = exponent as usize + 1;
                if let Some((integer, fraction)) = digits.split_at_checked(before)
                    && !fraction.is_empty()
                {
                    out.extend_from_slice(integer);
                    out.push(b'.');
                    out.extend_from_slice(fraction);
                } else {
                    out.extend_from_slice(&buffer[..before]);
                    out.extend_from_slice(b".0");
                }
            }
            _ => write_scientific(digits, exponent, out),
        }
    }
}

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

/// Appends an integer.
#[inline]
pub(super) fn write_integer(value: u64, out: &mut Vec<u8>) {
    if value < 10 {
        out.push(b'0' + value as u8);
        return;
    }
    let mut buffer = [0; 20];
    let mut start = buffer.len();
    let mut rest = value;
    while rest >= 100 {
        start -= 2;
        buffer[start..start + 2].copy_from_slice(pair(rest % 100));
        rest /= 100;
    }
    if rest >= 10 {
        start -= 2;
        buffer[start..start + 2].copy_from_slice(pair(rest));
    } else {
        start -= 1;
        buffer[start] = b'0' + rest as u8;
    }
    out.extend_from_slice(&buffer[start..]);
}

/// Writes the last digits of `value` to all of `buffer`.
#[inline]
fn fill_digits(value: u64, buffer: &mut [u8]) {
    let mut rest = value;
    let mut chunks = buffer.rchunks_exact_mut(2);
    for chunk in &mut chunks {
        chunk.copy_from_slice(pair(rest % 100));
        rest /= 100;
    }
    if let [first] = chunks.into_remainder() {
        *first = b'0' + (rest % 10) as u8;
    }
}

/// The two digits of a number below 100.
#[inline]
fn pair(value: u64) -> &'static [u8] {
    const PAIRS: &[u8; 200] = b"\
        0001020304050607080910111213141516171819\
        2021222324252627282930313233343536373839\
        4041424344454647484950515253545556575859\
        6061626364656667686970717273747576777879\
        8081828384858687888990919293949596979899";
    let start = value as usize * 2;
    &PAIRS[start..start + 2]
}

/// All powers of ten below 2^128.
const POWERS: [u128; 39] = {
    let mut powers = [1; 39];
    let mut index = 1;
    while index < powers.len() {
        powers[index] = powers[index - 1] * 10;
        index += 1;
    }
    powers
};

/// The power of ten that is the first of [`THRESHOLDS`].
const THRESHOLDS_FROM: i32 = -30;

/// The doubles nearest to powers of ten; exact from 1 to 10^22.
#[rustfmt::skip]
const THRESHOLDS: [f64; 69] = [
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

#[cfg(test)]
#[path = "float_text_tests.rs"]
mod tests;
