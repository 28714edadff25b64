//! Where version directories are and how their files are opened: the trait, and the local file system
//! behind it.
//!
//! Every file of a version is opened through [`VersionDirectory`]. Not here: which names are versions
//! (`serving::lifecycle::source`), the meaning of the files (`mapper`).

pub mod confines;
mod file_error;
pub mod files;
pub mod foreign;
pub mod local;
pub mod version_directory;

pub use self::files::{Files, Fingerprint};
pub use self::local::{LocalStorage, Storage};
pub use self::version_directory::VersionDirectory;
