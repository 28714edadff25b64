//! The errors of the file system for directories that are looked at, not loaded.
//!
//! Not here: files that a load cannot read (`version_directory`).

use std::io;
use std::path::Path;

use base::error::{Code, ServingError};

/// The error for a path that cannot be looked at, with the code and the text of TensorFlow's file system.
pub(crate) fn describe(path: &Path, error: io::Error) -> ServingError {
    let path = path.display();
    let described = match error.kind() {
        io::ErrorKind::NotFound => ServingError::not_found(format!("{path} not found")),
        io::ErrorKind::PermissionDenied => {
            ServingError::new(Code::PermissionDenied, format!("{path}; {error}"))
        }
        io::ErrorKind::NotADirectory => ServingError::new(
            Code::Unknown,
            format!("{path}; {error}: a base path is the directory that holds version directories"),
        ),
        _ => ServingError::new(Code::Unknown, format!("{path}; {error}")),
    };
    described.caused_by(error)
}
