//! The server's settings: command-line flags and the files they name.
//!
//! This module reads and checks them; each setting's meaning is documented where it is used, and
//! `server` fills the other modules' settings from here.
//!
//! Not here: the text format itself (`proto_text`), applying a model config (`lifecycle`).

mod batching;
mod files;
mod flags;
mod watch;

pub use self::batching::{batching_options, version_batching_options};
#[cfg(any(test, fuzzing))]
pub(crate) use self::files::tls_config;
pub use self::files::{
    check_platform_config, model_server_config, read_auth_config, read_batching_parameters,
    read_model_server_config, read_monitoring_config, read_tls_config, session_threads,
};
pub use self::flags::{Flags, Note, ParsedFlags, SessionThreads};
pub use self::watch::{FileWatcher, WatchedFile, check_regular};
