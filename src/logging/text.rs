//! TensorFlow's line format (`tsl/platform/default/logging.cc`).
//!
//! `2026-01-01 00:00:00.000000: I onnx_model_server/server.rs:42] message key=value`: UTC, the
//! level's letter, the source file under its crate's name, the message, the event's fields.

use std::fmt::{self, Write};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::origin::{Source, UtcTime};

/// One event, one line.
pub(super) struct TensorFlowFormat;

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

        let time = UtcTime(SystemTime::now(), ' ');
        let letter = level_letter(*metadata.level());
        let source = Source(metadata);
        write!(writer, "{time}: {letter} {source}")?;
        let mut line = OneLine(writer);
        write!(line, "] {}{}", text.message, text.fields)?;
        line.0.write_char('\n')
    }
}

fn level_letter(level: Level) -> char {
    match level {
        Level::ERROR => 'E',
        Level::WARN => 'W',
        // TensorFlow's verbose levels are also printed as info.
        Level::INFO | Level::DEBUG | Level::TRACE => 'I',
    }
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

/// Escapes control characters in log text.
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
