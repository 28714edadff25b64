//! Numbers as the pages print them.

use std::fmt;

/// Six significant digits, at most.
const DIGITS: i32 = 6;

/// Prints a number as C's `%g` does: six significant digits without trailing zeros, with an
/// exponent where that is shorter (`1.27482e+06`).
pub(super) struct General(pub(super) f64);

impl fmt::Display for General {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounding to six digits decides the exponent, so it comes first: "9.99999e5".
        let rounded = format!("{:.*e}", (DIGITS - 1) as usize, self.0);
        let Some((mantissa, exponent)) = rounded.split_once('e') else {
            return f.write_str(&rounded); // Not a finite number.
        };
        let exponent: i32 = exponent.parse().map_err(|_| fmt::Error)?;
        if (-4..DIGITS).contains(&exponent) {
            let decimals = (DIGITS - 1 - exponent) as usize;
            f.write_str(without_trailing_zeros(&format!("{:.decimals$}", self.0)))
        } else {
            let sign = if exponent < 0 { '-' } else { '+' };
            let mantissa = without_trailing_zeros(mantissa);
            write!(f, "{mantissa}e{sign}{:02}", exponent.abs())
        }
    }
}

/// Nanoseconds as decimal seconds, with as many digits as necessary.
pub(super) fn seconds(nanoseconds: f64) -> String {
    (nanoseconds / 1e9).to_string()
}

fn without_trailing_zeros(decimal: &str) -> &str {
    if decimal.contains('.') {
        decimal.trim_end_matches('0').trim_end_matches('.')
    } else {
        decimal
    }
}
