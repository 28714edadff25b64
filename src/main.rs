//! The process: arguments, log, signals, exit status; nothing else.

use std::io::Write;
use std::process::ExitCode;

use onnx_model_server::allocator::Allocator;
use onnx_model_server::commands::{self, Command};
use onnx_model_server::config::{Flags, Outcome};
use onnx_model_server::error::ServingError;
use onnx_model_server::logging::{self, LogFormat};
use onnx_model_server::server::{Server, ServerOptions, Stopped};
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// The original returns -1 from `main` for every failure.
const FAILURE: u8 = 255;
/// A command found something that is not right.
const COMMAND_FAILURE: u8 = 1;
/// A command was given arguments that it does not take.
const COMMAND_USAGE: u8 = 2;

fn main() -> ExitCode {
    forbid_telemetry();
    if let Some(command) = Command::parse(std::env::args_os()) {
        return run_command(command);
    }
    match Flags::parse(std::env::args_os()) {
        Outcome::Usage { text, errors } => {
            for error in errors {
                eprintln!("{error}");
            }
            print!("{text}");
            ExitCode::from(FAILURE)
        }
        Outcome::Version(flags) => {
            print!("{}", onnx_model_server::server::version_text(&flags));
            ExitCode::SUCCESS
        }
        Outcome::Run {
            flags,
            unknown,
            notes,
        } => {
            reap_orphans();
            survive_file_size_limit();
            allow_many_descriptors();
            // An unknown name is refused once the flags are checked.
            let format = LogFormat::from_name(&flags.log_format);
            logging::init(format.unwrap_or(LogFormat::Text));
            if let Some(unknown) = unknown {
                print!("{unknown}");
            }
            for note in notes {
                tracing::warn!("{note}");
            }
            run(&flags)
        }
    }
}

fn run_command(command: Result<Command, String>) -> ExitCode {
    let command = match command {
        Ok(command) => command,
        Err(error) => {
            eprintln!("{error}\n{}", commands::USAGE);
            return ExitCode::from(COMMAND_USAGE);
        }
    };
    logging::init(LogFormat::Text);
    match command.run() {
        Ok(report) => {
            // A reader that has seen enough, such as `head`, is no failure.
            let _ = std::io::stdout().write_all(report.text.as_bytes());
            ExitCode::from(if report.passed { 0 } else { COMMAND_FAILURE })
        }
        Err(error) => {
            eprintln!("{}: {error}", error.code());
            ExitCode::from(COMMAND_FAILURE)
        }
    }
}

fn run(flags: &Flags) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            println!("Failed to start server. Error: INTERNAL: {error}");
            return ExitCode::from(FAILURE);
        }
    };
    let code = runtime.block_on(async {
        match serve(flags).await {
            Ok(code) => code,
            Err(error) => {
                println!("Failed to start server. Error: {}: {error}", error.code());
                ExitCode::from(FAILURE)
            }
        }
    });
    // A run that does not end must not keep the process.
    runtime.shutdown_background();
    code
}

async fn serve(flags: &Flags) -> Result<ExitCode, ServingError> {
    let on_signal =
        |kind| signal(kind).map_err(|error| ServingError::internal(format!("no signals: {error}")));
    let mut terminate = on_signal(SignalKind::terminate())?;
    let mut interrupt = on_signal(SignalKind::interrupt())?;
    let mut next_signal = async || {
        tokio::select! {
            _ = terminate.recv() => SignalKind::terminate(),
            _ = interrupt.recv() => SignalKind::interrupt(),
        }
    };

    let server = tokio::select! {
        started = Server::start(ServerOptions::from_flags(flags)?) => started?,
        // Nothing is served yet: there is nothing to finish.
        kind = next_signal() => return Ok(exit_code_of(kind)),
    };
    tracing::info!("Entering the event loop ...");
    next_signal().await;
    tracing::info!("Stopping: requests under way are answered first");
    Ok(tokio::select! {
        stopped = server.stop() => {
            if let Stopped::CutOff { requests } = stopped {
                let seconds = flags.drain_timeout_seconds;
                tracing::error!(requests, "requests were cut off after {seconds} s");
            }
            ExitCode::SUCCESS
        }
        kind = next_signal() => exit_code_of(kind),
    })
}

/// Official builds of ONNX Runtime send events home unless this is set when they are loaded. What the
/// environment says already stays.
fn forbid_telemetry() {
    const VARIABLE: &str = "ORT_DISABLE_TELEMETRY";
    if std::env::var_os(VARIABLE).is_none() {
        // SAFETY: the first thing that the program does, so no other thread reads the environment.
        unsafe { std::env::set_var(VARIABLE, "1") };
    }
}

/// The first process of a container inherits the children of those that end before theirs. None is
/// waited for here: the kernel is told to forget them.
fn reap_orphans() {
    if std::process::id() == 1 {
        // SAFETY: sets a disposition and no handler. This program starts no processes whose status
        // it would need.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    }
}

/// A request log that reaches the limit on the size of files (`ulimit -f`) has a write that fails,
/// as on a full disk; by default a signal would end the process.
fn survive_file_size_limit() {
    // SAFETY: sets a disposition and no handler.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Every connection takes a descriptor, and the usual soft limit of 1024 is for programs that call
/// `select`.
fn allow_many_descriptors() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls are given a valid limit of this process; where one fails, what was stays.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

/// The shell's convention for a process that a signal ended.
fn exit_code_of(kind: SignalKind) -> ExitCode {
    ExitCode::from(u8::try_from(128 + kind.as_raw_value()).unwrap_or(FAILURE))
}
