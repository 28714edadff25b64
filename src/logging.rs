//! The process log on stderr: TensorFlow's line format, so that scripts which watch the original's
//! log keep working, or JSON.
//!
//! An event is one line always: control characters that a client or a file put into it are escaped.
//!
//! No call here waits for whoever reads stderr or stdout: lines go through bounded queues to threads
//! that write them. What does not fit is dropped, counted ([`dropped_lines`]) and reported once the
//! reader takes lines again. [`flush`] comes before the process's end.
//!
//! Not here: what is logged.

mod direct;
mod json;
mod origin;
mod output;
mod queue;
mod text;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::os::fd::AsFd;
use std::panic::PanicHookInfo;
use std::time::{Duration, Instant};
use std::{env, io, panic, thread};

use tracing_subscriber::EnvFilter;

use self::json::JsonFormat;
use self::output::Output;
use self::queue::Loss;
use self::text::TensorFlowFormat;

/// TensorFlow's least severity to log: 0 info, 1 warning, 2 error, 3 fatal.
const TF_LEVEL_VARIABLE: &str = "TF_CPP_MIN_LOG_LEVEL";
/// Filter directives in `RUST_LOG`'s syntax; they take the place of TensorFlow's variable.
const FILTER_VARIABLE: &str = "ONNX_MODEL_SERVER_LOG";

static STDERR: Output = Output::new(
    || io::stderr().as_fd().try_clone_to_owned(),
    |loss| {
        report("log lines", &loss);
    },
);
static STDOUT: Output = Output::new(
    || io::stdout().as_fd().try_clone_to_owned(),
    |loss| {
        report("lines on stdout", &loss);
    },
);

thread_local! {
    /// Whether this thread reports dropped lines: its line is not dropped.
    static IS_REPORTING: Cell<bool> = const { Cell::new(false) };
}

/// How events are written (`--log_format`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// TensorFlow's lines.
    Text,
    /// JSON objects, panics included.
    Json,
}

impl LogFormat {
    /// The format of this name: `text` or `json`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Sends all later events and panics to stderr. Only the first call in a process has an effect.
pub fn init(format: LogFormat) {
    let (filter, complaint) = filter(
        env::var(TF_LEVEL_VARIABLE).ok().as_deref(),
        env::var(FILTER_VARIABLE).ok().as_deref(),
    );
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Lines)
        // The complaint would go to stderr, by a macro that panics once stderr is closed.
        .log_internal_errors(false);
    let started = match format {
        LogFormat::Text => {
            // The default hook waits for the reader of stderr.
            panic::set_hook(Box::new(|panic| STDERR.push(panic_text(panic).as_bytes())));
            subscriber.event_format(TensorFlowFormat).try_init()
        }
        LogFormat::Json => {
            // The default hook's lines are no JSON.
            panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
            subscriber.event_format(JsonFormat).try_init()
        }
    };
    if started.is_ok() && STDERR.start() {
        // Best effort: it is for the lines of others.
        let _ = direct::never_wait_on_stderr();
    }
    if let (Ok(()), Some(complaint)) = (started, complaint) {
        tracing::warn!("{complaint}");
    }
}

/// Has a text written to stdout, which is not waited for.
pub fn print(text: &str) {
    STDOUT.push(text.as_bytes());
}

/// Has a text written to stderr as it is, which is not waited for.
pub fn print_error(text: &str) {
    STDERR.push(text.as_bytes());
}

/// Waits until all lines are written, if that takes no longer than `time`.
pub fn flush(time: Duration) {
    let deadline = Instant::now() + time;
    // A report on stdout is a line on stderr.
    STDOUT.flush(deadline);
    STDERR.flush(deadline);
}

/// Whether all lines are written. May be called in the handler of a signal.
pub fn is_flushed() -> bool {
    STDERR.queue.is_idle() && STDOUT.queue.is_idle()
}

/// How many lines of the log were dropped so far: there was no room for them, or they could not be
/// written.
pub fn dropped_lines() -> u64 {
    STDERR.queue.dropped()
}

/// Where the subscriber writes one event at a time.
struct Lines;

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match IS_REPORTING.get() {
            true => STDERR.push_report(line),
            false => STDERR.push(line),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Logs that lines were dropped. Called on the threads that write.
fn report(what: &str, loss: &Loss) {
    IS_REPORTING.set(true);
    let lines = loss.lines;
    match &loss.failure {
        None => tracing::warn!(
            "{lines} {what} were dropped because they were not read as fast as they were written"
        ),
        Some(error) => {
            tracing::warn!(
                "{lines} {what} were dropped because they could not be written: {error}"
            );
        }
    }
    IS_REPORTING.set(false);
}

/// What the standard library's hook prints.
fn panic_text(panic: &PanicHookInfo<'_>) -> String {
    let thread = thread::current();
    let name = thread.name().unwrap_or("<unnamed>");
    // As `RUST_BACKTRACE` says.
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => format!("thread '{name}' {panic}\n{backtrace}"),
        _ => format!("thread '{name}' {panic}\n"),
    }
}

/// The crates of this server. A directive for the first is one for each of them.
const CRATES: [&str; 12] = [
    "onnx_model_server",
    "api",
    "base",
    "codec",
    "mapper",
    "net",
    "onnx",
    "proto",
    "runtime",
    "serving",
    "storage",
    "wire",
];

/// The directives, those for the server as a whole written out for each of its crates.
fn for_each_crate(directives: &str) -> String {
    let directives = directives.split(',').flat_map(|directive| {
        let rest = directive.trim_start().strip_prefix(CRATES[0]);
        match rest.filter(|rest| rest.is_empty() || rest.starts_with(['=', '['])) {
            Some(rest) => CRATES.iter().map(|name| format!("{name}{rest}")).collect(),
            None => vec![directive.to_owned()],
        }
    });
    directives.collect::<Vec<_>>().join(",")
}

/// The filter, and what to complain about if `directives` cannot be read.
fn filter(tf_level: Option<&str>, directives: Option<&str>) -> (EnvFilter, Option<String>) {
    // Patterns are matched as text: a regular expression could be made to run for ever.
    let builder = || EnvFilter::builder().with_regex(false);
    let complaint = match directives.filter(|directives| !directives.is_empty()) {
        None => None,
        Some(directives) => match builder().parse(for_each_crate(directives)) {
            Ok(filter) => return (filter, None),
            Err(error) => Some(format!("{FILTER_VARIABLE} is ignored: {error}")),
        },
    };
    (
        builder().parse_lossy(for_each_crate(default_directives(tf_level))),
        complaint,
    )
}

/// Libraries are heard from warnings on; those that read what clients send, whose warnings any client
/// can cause as often as it connects, from errors on. Anything but a number counts as 0, as in TensorFlow.
fn default_directives(tf_level: Option<&str>) -> &'static str {
    match tf_level.and_then(|level| level.trim().parse().ok()) {
        Some(1) => "warn,h2=error,hyper=error",
        Some(2) => "error",
        Some(level) if level > 2i64 => "off",
        _ => "warn,h2=error,hyper=error,onnx_model_server=info",
    }
}

#[cfg(test)]
mod tests;
