//! The process log on stderr: TensorFlow's line format, so that scripts that watch TensorFlow Serving's
//! log keep working, or JSON.
//!
//! An event is always one line: control characters that a client or a file put into it are escaped.
//!
//! No call here waits for the reader of stderr or stdout: lines go through bounded queues to threads
//! that write them. Lines that do not fit are dropped, counted ([`dropped_lines`]) and reported once
//! the reader takes lines again. The process calls [`flush`] before it ends.
//!
//! Not here: the events.

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

/// TensorFlow's minimum severity to log: 0 info, 1 warning, 2 error, 3 fatal.
const TF_LEVEL_VARIABLE: &str = "TF_CPP_MIN_LOG_LEVEL";
/// Filter directives in `RUST_LOG`'s syntax; they replace TensorFlow's variable.
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
    /// The kind of this thread's lines.
    static LINES_ARE: Cell<LineKind> = const { Cell::new(LineKind::Ordinary) };
}

#[derive(Clone, Copy)]
enum LineKind {
    Ordinary,
    /// The report of dropped lines, which is not dropped.
    Report,
    /// Written nowhere: see [`prepare_thread`].
    Rehearsal,
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
        // The subscriber would print internal errors to stderr with a macro that panics once stderr is
        // closed.
        .log_internal_errors(false);
    let started = match format {
        LogFormat::Text => {
            // The default hook blocks on the reader of stderr.
            panic::set_hook(Box::new(|panic| STDERR.push(panic_text(panic).as_bytes())));
            subscriber.event_format(TensorFlowFormat).try_init()
        }
        LogFormat::Json => {
            // The default hook's lines are not JSON.
            panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
            subscriber.event_format(JsonFormat).try_init()
        }
    };
    if started.is_ok() && STDERR.start() {
        // Best effort, because it only concerns the lines of others.
        let _ = direct::never_wait_on_stderr();
    }
    if let (Ok(()), Some(complaint)) = (started, complaint) {
        tracing::warn!("{complaint}");
    }
}

/// Sets up the thread-locals of this thread that events use, by an event that is written nowhere. To do
/// so can block while a library is loaded; later events of this thread do not.
pub fn prepare_thread() {
    LINES_ARE.set(LineKind::Rehearsal);
    tracing::error!("an event");
    LINES_ARE.set(LineKind::Ordinary);
}

/// Queues a text for stdout, without waiting until it is written.
pub fn print(text: &str) {
    STDOUT.push(text.as_bytes());
}

/// Queues a text for stderr as it is, without waiting until it is written.
pub fn print_error(text: &str) {
    STDERR.push(text.as_bytes());
}

/// Waits until all lines are written, for `time` at most.
pub fn flush(time: Duration) {
    let deadline = Instant::now() + time;
    // Dropped lines of stdout are reported on stderr.
    STDOUT.flush(deadline);
    STDERR.flush(deadline);
}

/// Whether all lines are written. Can be called in a signal handler.
pub fn is_flushed() -> bool {
    STDERR.queue.is_idle() && STDOUT.queue.is_idle()
}

/// The number of log lines dropped up to now, because the queue was full or they could not be written.
pub fn dropped_lines() -> u64 {
    STDERR.queue.dropped()
}

/// The target to which the subscriber writes one event at a time.
struct Lines;

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match LINES_ARE.get() {
            LineKind::Ordinary => STDERR.push(line),
            LineKind::Report => STDERR.push_report(line),
            LineKind::Rehearsal => {}
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Logs that lines were dropped. Called on the threads that write.
fn report(what: &str, loss: &Loss) {
    LINES_ARE.set(LineKind::Report);
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
    LINES_ARE.set(LineKind::Ordinary);
}

/// The same text as the standard library's hook prints.
fn panic_text(panic: &PanicHookInfo<'_>) -> String {
    let thread = thread::current();
    let name = thread.name().unwrap_or("<unnamed>");
    // Depends on `RUST_BACKTRACE`.
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => format!("thread '{name}' {panic}\n{backtrace}"),
        _ => format!("thread '{name}' {panic}\n"),
    }
}

/// The crates of this server. A directive for the first applies to each of them.
const CRATES: [&str; 13] = [
    "onnx_model_server",
    "api",
    "base",
    "codec",
    "mapper",
    "net",
    "onnx",
    "proto",
    "runtime",
    "saved_model_import",
    "serving",
    "storage",
    "wire",
];

/// The directives, with those for the server as a whole repeated for each of its crates.
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

/// The filter, and a complaint if `directives` cannot be read.
fn filter(tf_level: Option<&str>, directives: Option<&str>) -> (EnvFilter, Option<String>) {
    // Patterns are matched as text, because a regular expression can be made to run for ever.
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

/// Libraries log from warnings on. Those that read client data log from errors on, because any client
/// can cause their warnings as often as it connects. Anything but a number counts as 0, as in
/// TensorFlow.
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
