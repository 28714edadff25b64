//! The process around the server: the signals that reach it and its end.
//!
//! Not here: the log (`logging`), the order in which the server stops (`server`).

mod exit;
mod signals;

pub use self::exit::{flush_before_abort, leave};
pub use self::signals::{HeldSignals, Signals, ignore_harmless};
