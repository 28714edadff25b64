//! The process log on stderr: TensorFlow's line format, so that scripts which watch the original's
//! log keep working, or JSON.
//!
//! An event is one line always: control characters that a client or a file put into it are escaped.
//!
//! Not here: what is logged.

mod json;
mod origin;
mod text;

use std::{env, io, panic};

use tracing_subscriber::EnvFilter;

use self::json::JsonFormat;
use self::text::TensorFlowFormat;

/// TensorFlow's least severity to log: 0 info, 1 warning, 2 error, 3 fatal.
const TF_LEVEL_VARIABLE: &str = "TF_CPP_MIN_LOG_LEVEL";
/// Filter directives in `RUST_LOG`'s syntax; they take the place of TensorFlow's variable.
const FILTER_VARIABLE: &str = "ONNX_MODEL_SERVER_LOG";

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

/// Sends all later events to stderr. Only the first call in a process has an effect.
pub fn init(format: LogFormat) {
    let (filter, complaint) = filter(
        env::var(TF_LEVEL_VARIABLE).ok().as_deref(),
        env::var(FILTER_VARIABLE).ok().as_deref(),
    );
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // The complaint would go to stderr, by a macro that panics once stderr is closed.
        .log_internal_errors(false);
    let started = match format {
        LogFormat::Text => subscriber.event_format(TensorFlowFormat).try_init(),
        LogFormat::Json => {
            // The default hook's lines are no JSON.
            panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
            subscriber.event_format(JsonFormat).try_init()
        }
    };
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

#[cfg(test)]
mod tests;
