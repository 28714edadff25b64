//! The process log: TensorFlow's line format on stderr, so that scripts which watch the original's
//! log keep working.
//!
//! `2026-01-01 00:00:00.000000: I onnx_model_server/server.rs:42] message key=value`: UTC, the level's
//! letter, the source file under its crate's name, the message, the event's fields. An event is one
//! line always: control characters that a client or a file put into it are escaped.
//!
//! Not here: what is logged.

use std::env;
use std::fmt::{self, Write};
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// TensorFlow's least severity to log: 0 info, 1 warning, 2 error, 3 fatal.
const TF_LEVEL_VARIABLE: &str = "TF_CPP_MIN_LOG_LEVEL";
/// Filter directives in `RUST_LOG`'s syntax; they take the place of TensorFlow's variable.
const FILTER_VARIABLE: &str = "ONNX_MODEL_SERVER_LOG";

/// Sends all later events to stderr. Only the first call in a process has an effect.
pub fn init() {
    let (filter, complaint) = filter(
        env::var(TF_LEVEL_VARIABLE).ok().as_deref(),
        env::var(FILTER_VARIABLE).ok().as_deref(),
    );
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // The complaint would go to stderr, by a macro that panics once stderr is closed.
        .log_internal_errors(false)
        .event_format(TensorFlowFormat)
        .try_init();
    if let (Ok(()), Some(complaint)) = (started, complaint) {
        tracing::warn!("{complaint}");
    }
}

/// The filter, and what to complain about if `directives` cannot be read.
fn filter(tf_level: Option<&str>, directives: Option<&str>) -> (EnvFilter, Option<String>) {
    // Patterns are matched as text: a regular expression could be made to run for ever.
    let builder = || EnvFilter::builder().with_regex(false);
    let complaint = match directives.filter(|directives| !directives.is_empty()) {
        None => None,
        Some(directives) => match builder().parse(directives) {
            Ok(filter) => return (filter, None),
            Err(error) => Some(format!("{FILTER_VARIABLE} is ignored: {error}")),
        },
    };
    (
        builder().parse_lossy(default_directives(tf_level)),
        complaint,
    )
}

/// Libraries are heard from warnings on. Anything but a number counts as 0, as in TensorFlow.
fn default_directives(tf_level: Option<&str>) -> &'static str {
    match tf_level.and_then(|level| level.trim().parse().ok()) {
        Some(1) => "warn",
        Some(2) => "error",
        Some(level) if level > 2i64 => "off",
        _ => "warn,onnx_model_server=info",
    }
}

/// One event, one line, as `tsl/platform/default/logging.cc` writes it.
struct TensorFlowFormat;

impl<S, N> FormatEvent<S, N> for TensorFlowFormat
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut text = EventText::default();
        event.record(&mut text);

        write_time(&mut writer, SystemTime::now())?;
        write!(writer, ": {} ", level_letter(*metadata.level()))?;
        write_source(&mut writer, metadata)?;
        let mut line = OneLine(writer);
        write!(line, "] {}{}", text.message, text.fields)?;
        line.0.write_char('\n')
    }
}

fn level_letter(level: Level) -> char {
    match level {
        Level::ERROR => 'E',
        Level::WARN => 'W',
        // TensorFlow's verbose levels are printed as info, too.
        Level::INFO | Level::DEBUG | Level::TRACE => 'I',
    }
}

/// `<crate>/<path below src>:<line>`.
fn write_source(writer: &mut impl Write, metadata: &Metadata<'_>) -> fmt::Result {
    let krate = metadata.target().split("::").next().unwrap_or_default();
    let file = metadata.file().unwrap_or_default();
    let file = file.rsplit_once("src/").map_or(file, |(_, file)| file);
    write!(writer, "{krate}/{file}:{}", metadata.line().unwrap_or(0))
}

/// `2026-01-01 00:00:00.000000` in UTC. Times before 1970 are shown as its first moment.
fn write_time(writer: &mut impl Write, time: SystemTime) -> fmt::Result {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since_epoch.as_secs();
    let (year, month, day) = civil_date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let micros = since_epoch.subsec_micros();
    write!(
        writer,
        "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{micros:06}"
    )
}

/// Year, month and day of the Gregorian calendar, from days since 1970-01-01.
fn civil_date(days: u64) -> (u64, u64, u64) {
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

/// An event's message, and its other fields as ` key=value`.
#[derive(Default)]
struct EventText {
    message: String,
    fields: String,
}

impl EventText {
    fn record(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // Writing to a `String` cannot fail.
        let _ = match field.name() {
            "message" => self.message.write_fmt(value),
            name => write!(self.fields, " {name}={value}"),
        };
    }
}

impl Visit for EventText {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record(field, format_args!("{value}"));
    }
}

/// Escapes control characters on their way to the log.
struct OneLine<W>(W);

impl<W: Write> Write for OneLine<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.split_inclusive(char::is_control) {
            match piece.chars().next_back().filter(|last| last.is_control()) {
                None => self.0.write_str(piece)?,
                Some(control) => {
                    self.0
                        .write_str(&piece[..piece.len() - control.len_utf8()])?;
                    write!(self.0, "{}", control.escape_default())?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
