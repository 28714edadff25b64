//! Reads a secret from stdin: as an argument it would show in the list of processes.

use std::io::Read;

use base::error::{Result, ServingError};

/// More than fits in any header.
const MAX_BYTES: u64 = 64 << 10;

/// The one line of a stream, without its end.
///
/// # Errors
///
/// `INVALID_ARGUMENT` if the stream has no line, several, or one that is too long; `INTERNAL` if it
/// cannot be read.
pub(super) fn read(stream: impl Read) -> Result<Vec<u8>> {
    let mut secret = Vec::new();
    stream
        .take(MAX_BYTES + 1)
        .read_to_end(&mut secret)
        .map_err(|error| ServingError::internal(format!("stdin: {error}")))?;
    let too_long = secret.len() as u64 > MAX_BYTES;
    if secret.ends_with(b"\n") {
        secret.pop();
    }
    if secret.ends_with(b"\r") {
        secret.pop();
    }
    if secret.is_empty() || too_long || secret.contains(&b'\n') {
        return Err(ServingError::invalid_argument(
            "stdin has to hold one line, the secret",
        ));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_read_without_its_end() {
        for stdin in ["a secret", "a secret\n", "a secret\r\n"] {
            assert_eq!(read(stdin.as_bytes()).unwrap(), b"a secret");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let too_long = "x".repeat(MAX_BYTES as usize + 1);
        for stdin in ["", "\n", "two\nlines", &too_long] {
            assert!(read(stdin.as_bytes()).is_err());
        }
    }
}
