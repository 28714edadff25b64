//! The program: arguments, the log's format, exit status; nothing else.

#![warn(clippy::print_stderr, clippy::print_stdout)]

use std::io::Write;
use std::panic;
use std::time::Duration;

use base::allocator;
use base::allocator::Allocator;
use base::error::ServingError;
use onnx_model_server::commands::{self, Command, Refusal};
use onnx_model_server::config::{Flags, ParsedFlags};
use onnx_model_server::logging::{self, LogFormat};
use onnx_model_server::process::{self, HeldSignals, leave};
use onnx_model_server::server::{Server, ServerOptions, Stopped};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// TensorFlow Serving returns -1 from `main` for every failure.
const FAILURE: u8 = 255;
/// A panic reached `main`; the standard library uses the same status.
const PANICKED: u8 = 101;
/// How long to wait for a text on stdout to be written, so that one on stderr comes after it.
const BETWEEN_STREAMS: Duration = Duration::from_millis(500);
/// A command found an error.
const COMMAND_FAILURE: u8 = 1;
/// A command got wrong arguments.
const COMMAND_USAGE: u8 = 2;

fn main() {
    forbid_telemetry();
    allocator::bound_what_is_kept();
    let run = || match Command::parse(std::env::args_os()) {
        Some(command) => run_command(command),
        None => run_server(),
    };
    // Not by returning: see `leave`.
    leave(panic::catch_unwind(run).unwrap_or(PANICKED))
}

fn run_command(command: Result<Command, Refusal>) -> u8 {
    let command = match command {
        Ok(command) => command,
        Err(refusal) if refusal.is_error => {
            logging::print_error(&refusal.text);
            return COMMAND_USAGE;
        }
        Err(help) => {
            logging::print(&help.text);
            return 0;
        }
    };
    logging::init(LogFormat::Text);
    match command.run() {
        Ok(report) => {
            // A command waits for its reader. If the reader has closed the pipe, as `head` does, that
            // is not a failure.
            let mut stdout = std::io::stdout();
            let _ = stdout.write_all(report.text.as_bytes());
            let _ = stdout.flush();
            if report.passed { 0 } else { COMMAND_FAILURE }
        }
        Err(error) => {
            logging::print_error(&format!("{}: {error}\n", error.code()));
            COMMAND_FAILURE
        }
    }
}

fn run_server() -> u8 {
    let (flags, unknown, ignored, notes) = match Flags::parse(std::env::args_os()) {
        ParsedFlags::Usage { text, errors } => {
            logging::print(&text);
            logging::print(commands::SUMMARY);
            // Below the usage text, which fills a screen.
            logging::flush(BETWEEN_STREAMS);
            for error in errors {
                logging::print_error(&format!("{error}\n"));
            }
            return FAILURE;
        }
        ParsedFlags::Version(flags) => {
            logging::print(&onnx_model_server::server::version_text(&flags));
            return 0;
        }
        ParsedFlags::Run {
            flags,
            unknown,
            ignored,
            notes,
        } => (flags, unknown, ignored, notes),
    };
    // Before the log's thread starts.
    let signals = HeldSignals::hold();
    reap_orphans();
    process::ignore_harmless();
    process::flush_before_abort();
    allow_many_descriptors();
    // An unknown name is refused when the flags are checked.
    let format = LogFormat::from_name(&flags.log_format);
    logging::init(format.unwrap_or(LogFormat::Text));
    if let Some(unknown) = unknown {
        logging::print(&unknown);
        logging::flush(BETWEEN_STREAMS);
    }
    for ignored in ignored {
        tracing::warn!("{ignored}");
    }
    for note in notes {
        tracing::warn!("{note}");
    }
    serve(&flags, signals).unwrap_or_else(|error| {
        // Below the log's lines.
        logging::flush(BETWEEN_STREAMS);
        logging::print(&format!(
            "Failed to start server. Error: {}: {error}\n",
            error.code()
        ));
        FAILURE
    })
}

/// Serves until a signal stops it; returns the exit status.
fn serve(flags: &Flags, signals: HeldSignals) -> Result<u8, ServingError> {
    let drain_seconds = flags.drain_timeout_seconds;
    let drain_timeout = Duration::from_secs(u64::try_from(drain_seconds).unwrap_or(0));
    let signals = signals
        .watch(drain_timeout)
        .map_err(|error| ServingError::internal(format!("no signals: {error}")).caused_by(error))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| ServingError::internal(error.to_string()).caused_by(error))?;
    // On this thread, which is allowed to block on files that the flags name and on host names.
    let started =
        runtime.block_on(async { Server::start(ServerOptions::from_flags(flags)?).await });
    let status = started.map(|server| {
        signals.start_serving();
        tracing::info!("Entering the event loop ...");
        signals.wait();
        tracing::info!("Stopping after the requests in flight are answered");
        if let Stopped::CutOff { requests } = runtime.block_on(server.stop()) {
            tracing::error!(requests, "requests were cut off after {drain_seconds} s");
        }
        0
    });
    // A run that does not end must not keep the process alive.
    runtime.shutdown_background();
    status
}

/// Official builds of ONNX Runtime send telemetry unless this is set when they are loaded. A value that
/// the environment already has stays.
fn forbid_telemetry() {
    const VARIABLE: &str = "ORT_DISABLE_TELEMETRY";
    if std::env::var_os(VARIABLE).is_none() {
        // SAFETY: the first thing that the program does, so no other thread reads the environment.
        unsafe { std::env::set_var(VARIABLE, "1") };
    }
}

/// The first process of a container becomes the parent of orphaned processes. It waits for none of
/// them: with `SIG_IGN` the kernel reaps them.
fn reap_orphans() {
    if std::process::id() == 1 {
        // SAFETY: sets a disposition and no handler. This program starts no processes whose status
        // it would need.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    }
}

/// Every connection needs a descriptor, and the usual soft limit of 1024 is for programs that call
/// `select`.
fn allow_many_descriptors() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls get a valid limit of this process; if one fails, the limit is unchanged.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}
