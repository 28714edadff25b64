//! Powers of ten as the sum of two doubles.

/// The smallest and the largest exponent of a double in decimal.
pub(super) const MIN_EXPONENT: i32 = -324;
pub(super) const MAX_EXPONENT: i32 = 308;

/// A double of decimal exponent `k`, times this scale and times `high + low`, is `10^(digits - k)` times the
/// double.
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
        150.. => (2f64.powi(-512), 2f64.powi(512)),
        ..=-150 => (2f64.powi(512), 2f64.powi(-512)),
        _ => (1.0, 1.0),
    };
    let exponent = digits - k;
    let mut result = Sum::of(inverse);
    let mut power = Sum::of(10.0);
    let mut left = exponent.unsigned_abs();
    while left > 0 {
        if left & 1 == 1 {
            result = match exponent > 0 {
                true => result.times(power),
                false => result.times(power.inverse()),
            };
        }
        left >>= 1;
        if left > 0 {
            power = power.times(power);
        }
    }
    Factor {
        scale,
        high: result.high,
        low: result.low,
    }
}

/// A number with twice the digits of a double.
#[derive(Clone, Copy)]
struct Sum {
    high: f64,
    low: f64,
}

impl Sum {
    fn of(high: f64) -> Self {
        Self { high, low: 0.0 }
    }

    fn times(self, other: Self) -> Self {
        let high = self.high * other.high;
        let rest = self.high.mul_add(other.high, -high);
        let low = self
            .high
            .mul_add(other.low, self.low.mul_add(other.high, rest));
        Self::normalised(high, low)
    }

    fn inverse(self) -> Self {
        let high = 1.0 / self.high;
        let rest = (-high).mul_add(self.high, 1.0);
        let rest = (-high).mul_add(self.low, rest);
        Self::normalised(high, rest / self.high)
    }

    fn normalised(high: f64, low: f64) -> Self {
        let sum = high + low;
        Self {
            high: sum,
            low: low - (sum - high),
        }
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
