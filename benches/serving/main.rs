//! The whole server, compared with lower limits for any server, and with another server with the same
//! models if `PEER_GRPC` and `PEER_REST` (host:port) name one.
//!
//! Everything is a ratio of two measurements in turns within this run. Prints a table and writes
//! `target/bench/report.json`.
//!
//! `cargo bench --bench serving` runs all cases; words after `--` choose among them by name.
//! `BENCH_ROUNDS` (5) and `BENCH_SECONDS` (1) make it longer.

mod report;
mod stats;

mod models;
mod process;
mod requests;
mod server;

mod floors;
mod load;

mod cases;

use std::error::Error;
use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match floors::run_role(&arguments) {
        Some(outcome) => outcome,
        None => {
            // Cargo adds options of its own.
            let words = arguments.iter().filter(|it| !it.starts_with('-'));
            cases::run(&words.cloned().collect::<Vec<_>>())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
