//! When and where an event happened, as both formats write it.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::Metadata;

use super::CRATES;

/// An event's place: `<crate>/<path below src>:<line>`.
pub(super) struct Source<'a>(pub(super) &'a Metadata<'a>);

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let krate = self.0.target().split("::").next().unwrap_or_default();
        // The crates of the server are parts of one program to the reader of its log.
        let [server, parts @ ..] = CRATES;
        if parts.contains(&krate) {
            write!(f, "{server}/")?;
        }
        let file = self.0.file().unwrap_or_default();
        let file = file.rsplit_once("src/").map_or(file, |(_, file)| file);
        write!(f, "{krate}/{file}:{}", self.0.line().unwrap_or(0))
    }
}

/// A time in UTC, as `2026-01-01 00:00:00.000000` with this character in the middle. Times before 1970
/// are shown as the start of 1970.
pub(super) struct UtcTime(pub(super) SystemTime, pub(super) char);

impl fmt::Display for UtcTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since_epoch = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = since_epoch.as_secs();
        let (year, month, day) = civil_date(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        let (separator, micros) = (self.1, since_epoch.subsec_micros());
        write!(
            f,
            "{year:04}-{month:02}-{day:02}{separator}{hour:02}:{minute:02}:{second:02}.{micros:06}"
        )
    }
}

/// Year, month and day of the Gregorian calendar, from days since 1970-01-01.
pub(super) fn civil_date(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    // Count from 0000-03-01: a leap day is then the last day of its year.
    let days = days + 719_468;
    let (era, day) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    // Months from March on: 153 days in every five.
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, years_later) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + years_later, month, day_of_month)
}
