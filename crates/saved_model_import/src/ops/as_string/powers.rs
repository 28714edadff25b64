//! Powers of ten as the sum of two doubles, computed exactly in decimal.

/// The smallest and the largest exponent of a double in decimal.
pub(super) const MIN_EXPONENT: i32 = -324;
pub(super) const MAX_EXPONENT: i32 = 308;

/// A double of decimal exponent `k` and this scale times `high + low` is `10^(digits - k)` times the double.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Factor {
    /// A power of two, which keeps products away from the limits of doubles.
    pub(super) scale: f64,
    pub(super) high: f64,
    pub(super) low: f64,
}

/// The factor for `digits` digits after the first one.
pub(super) fn factor(k: i32, digits: i32) -> Factor {
    let (scale, inverse) = match k {
        150.. => (2f64.powi(-512), format!("{:.0}", 2f64.powi(512))),
        ..=-150 => (2f64.powi(512), format!("{:.512}", 2f64.powi(-512))),
        _ => (1.0, "1".to_owned()),
    };
    let (digits_of_inverse, places) = match inverse.split_once('.') {
        Some((_, fraction)) => (fraction.to_owned(), 512),
        None => (inverse, 0),
    };
    let digits_of_inverse = digits_of_inverse.trim_start_matches('0');
    let exponent = digits - k - places;
    let text = format!("{digits_of_inverse}e{exponent}");
    let high: f64 = text.parse().unwrap_or(f64::NAN);
    let low = Decimal::of_text(digits_of_inverse, exponent).minus(&Decimal::of(high));
    Factor { scale, high, low }
}

/// The places before and after the point that are computed with.
const BEFORE: usize = 400;
const AFTER: usize = 1200;

/// A number that is not negative: digits, of which `BEFORE` stand before the point.
struct Decimal(Vec<i8>);

impl Decimal {
    fn of_text(digits: &str, exponent: i32) -> Self {
        let mut all = vec![0; BEFORE + AFTER];
        // The place of the last digit.
        let last = i64::try_from(BEFORE).unwrap_or(0) - 1 - i64::from(exponent);
        for (index, digit) in (0i64..).zip(digits.bytes().rev()) {
            let place = usize::try_from(last - index).ok();
            if let Some(place) = place.and_then(|it| all.get_mut(it)) {
                *place = i8::try_from(digit - b'0').unwrap_or(0);
            }
        }
        Self(all)
    }

    /// Exactly this number.
    fn of(number: f64) -> Self {
        let text = format!("{number:.1100}");
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let digits = [whole, fraction].concat();
        let exponent = i32::try_from(fraction.len()).map_or(0, |it| -it);
        Self::of_text(&digits, exponent)
    }

    /// The difference, rounded.
    fn minus(&self, other: &Self) -> f64 {
        if self.0 < other.0 {
            return -other.minus(self);
        }
        let mut digits = self.0.clone();
        let mut borrow = 0;
        for (digit, less) in digits.iter_mut().zip(&other.0).rev() {
            *digit -= less + borrow;
            borrow = i8::from(*digit < 0);
            *digit += 10 * borrow;
        }
        let text: String = digits
            .iter()
            .map(|it| char::from(b'0' + it.unsigned_abs()))
            .collect();
        let (whole, fraction) = text.split_at(BEFORE);
        format!("{whole}.{fraction}").parse().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_that_are_doubles_have_no_low_part() {
        let expected = Factor {
            scale: 1.0,
            high: 1e6,
            low: 0.0,
        };
        assert_eq!(factor(0, 6), expected);
        assert_eq!(factor(-16, 6).high, 1e22);
        assert_eq!(factor(-16, 6).low, 0.0);
    }

    /// 0.1 is 0.1000000000000000055511151231257827... as a double.
    #[test]
    fn low_parts_are_what_the_high_part_lacks() {
        let tenth = factor(7, 6);
        assert_eq!(tenth.high, 0.1);
        assert!((tenth.low + 5.551_115_123_125_783e-18).abs() < 1e-32);
        // 10^23 lies above the double next to it.
        assert_eq!(factor(-17, 6).low, 8_388_608.0);
    }

    #[test]
    fn the_ends_of_the_range_are_scaled() {
        for k in [MIN_EXPONENT, -150, 150, MAX_EXPONENT] {
            let factor = factor(k, 6);
            assert!(
                factor.high.is_normal() && factor.low.abs() < factor.high * 1e-15,
                "{k}"
            );
        }
        let expected = 2f64.powi(512) * 1e-294;
        assert!((factor(300, 6).high / expected - 1.0).abs() < 1e-15);
    }
}
