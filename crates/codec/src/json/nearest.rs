//! The double nearest to a decimal of at most 19 digits, by one or two multiplications.
//!
//! The method of Michael Eisel and Daniel Lemire ("Number parsing at a gigabyte per second", 2021):
//! the significand times a power of ten, cut to 128 bits, gives the nearest double unless the part
//! that was cut off could decide the rounding. That case is detected and left to the caller. Not
//! here: reading digits (`number`).

/// The range of decimal exponents in the table. It covers all common numbers.
const SMALLEST: i32 = -64;
const LARGEST: i32 = 54;

/// The highest 128 bits, truncated, of 10^[`SMALLEST`] and the following powers of ten. The power of
/// two in each of them is left to the exponent.
static POWERS: [u128; (LARGEST - SMALLEST + 1) as usize] = {
    let mut powers = [0; (LARGEST - SMALLEST + 1) as usize];
    let mut exponent = SMALLEST;
    while exponent <= LARGEST {
        powers[(exponent - SMALLEST) as usize] = if exponent < 0 {
            reciprocal(-exponent as u32)
        } else {
            let power = 5u128.pow(exponent as u32);
            power << power.leading_zeros()
        };
        exponent += 1;
    }
    powers
};

/// The highest 128 bits of 5^-`exponent`, by long division.
const fn reciprocal(exponent: u32) -> u128 {
    let divisor = wide_power(exponent);
    let mut rest = (0u128, 1u128);
    let mut quotient = 0u128;
    while quotient >> 127 == 0 {
        rest = (rest.0 << 1 | rest.1 >> 127, rest.1 << 1);
        quotient <<= 1;
        if rest.0 > divisor.0 || (rest.0 == divisor.0 && rest.1 >= divisor.1) {
            let (low, borrow) = rest.1.overflowing_sub(divisor.1);
            rest = (rest.0 - divisor.0 - borrow as u128, low);
            quotient |= 1;
        }
    }
    quotient
}

/// 5^`exponent` in 256 bits, the higher half first.
const fn wide_power(exponent: u32) -> (u128, u128) {
    let (mut high, mut low) = (0u128, 1u128);
    let mut times = 0;
    while times < exponent {
        // 5 x = 4 x + x
        let (sum, carry) = (low << 2).overflowing_add(low);
        high = (high << 2 | low >> 126) + high + carry as u128;
        low = sum;
        times += 1;
    }
    (high, low)
}

/// The double nearest to `significand × 10^exponent`, half to even; `None` if this method cannot
/// decide, or if the result is not a normal number.
#[inline]
pub(super) fn nearest(significand: u64, exponent: i32) -> Option<f64> {
    let power = *POWERS.get(usize::try_from(exponent - SMALLEST).ok()?)?;
    if significand == 0 {
        return Some(0.0);
    }
    let shift = significand.leading_zeros();
    let normalized = significand << shift;
    let (mut high, mut low) = product(normalized, (power >> 64) as u64);
    // The lower half of the power can carry into the significant bits only if all of these are set.
    if high & 0x1FF == 0x1FF && low.checked_add(normalized).is_none() {
        let (middle, lowest) = product(normalized, power as u64);
        let (sum, carry) = low.overflowing_add(middle);
        let wide = high + u64::from(carry);
        // Likewise the part that was cut off can carry only if all of these are set.
        if wide & 0x1FF == 0x1FF && sum == u64::MAX && lowest.checked_add(normalized).is_none() {
            return None;
        }
        (high, low) = (wide, sum);
    }
    // One bit more than a significand has, for rounding.
    let upper = (high >> 63) as u32;
    let mantissa = high >> (upper + 9);
    // Half way, as far as these bits show.
    if low == 0 && high & 0x1FF == 0 && mantissa & 3 == 1 {
        return None;
    }
    let mantissa = (mantissa + (mantissa & 1)) >> 1;
    let carried = (mantissa >> 53) as u32;
    // floor(exponent × log2(10)), and the distance of the highest bits from the point.
    let binary = ((217_706 * exponent) >> 16) + 1087 - shift as i32;
    let biased = binary - (1 - upper as i32) + carried as i32;
    if !(1..2047).contains(&biased) {
        return None;
    }
    let fraction = (mantissa >> carried) & ((1 << 52) - 1);
    Some(f64::from_bits((biased as u64) << 52 | fraction))
}

/// The product's higher and lower word.
#[inline]
fn product(a: u64, b: u64) -> (u64, u64) {
    let product = u128::from(a) * u128::from(b);
    ((product >> 64) as u64, product as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expected(significand: u64, exponent: i32) -> f64 {
        format!("{significand}e{exponent}").parse().unwrap()
    }

    #[track_caller]
    fn check(significand: u64, exponent: i32) -> bool {
        let found = nearest(significand, exponent);
        if let Some(found) = found {
            let expected = expected(significand, exponent);
            assert_eq!(
                found.to_bits(),
                expected.to_bits(),
                "{significand}e{exponent}"
            );
        }
        found.is_some()
    }

    #[test]
    fn nearest_finds_nearly_all_of_many_numbers() {
        let mut bits: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut found = 0;
        for round in 0..400_000 {
            bits ^= bits << 13;
            bits ^= bits >> 7;
            bits ^= bits << 17;
            let exponent = SMALLEST + (round % (LARGEST - SMALLEST + 1));
            found += u32::from(check(bits >> (bits % 50), exponent));
        }
        // Numbers that end half way, as short ones do, are left out.
        assert!(found > 396_000, "{found}");
    }

    #[test]
    fn nearest_rounds_what_is_next_to_a_half() {
        for exponent in SMALLEST..=LARGEST {
            for power in 50..64 {
                for neighbour in -3i64..=3 {
                    check((1u64 << power).wrapping_add_signed(neighbour), exponent);
                    let half = (1u64 << power) | (1 << (power - 53).max(0));
                    check(half.wrapping_add_signed(neighbour), exponent);
                }
            }
            for digits in 1..19 {
                let ten = 10u64.pow(digits);
                check(ten - 1, exponent);
                check(ten, exponent);
                check(ten + 1, exponent);
            }
            check(u64::MAX, exponent);
            check(1, exponent);
            check(0, exponent);
        }
    }

    #[test]
    fn nearest_leaves_what_it_has_no_power_for() {
        assert_eq!(nearest(1, LARGEST + 1), None);
        assert_eq!(nearest(1, SMALLEST - 1), None);
        assert_eq!(nearest(1, i32::MAX / 2), None);
        assert_eq!(nearest(1, i32::MIN / 2), None);
    }

    proptest! {
        #[test]
        fn printed_doubles_are_read_back(value in 1e-40f64..1e40) {
            let text = format!("{value:.16e}");
            let (mantissa, exponent) = text.split_once('e').unwrap();
            let significand: u64 = mantissa.replace('.', "").parse().unwrap();
            let exponent: i32 = exponent.parse::<i32>().unwrap() - 16;
            if let Some(found) = nearest(significand, exponent) {
                prop_assert_eq!(found.to_bits(), value.to_bits());
            }
        }
    }
}
