//! Catching panics: a panic ends the work it happened in, and nothing else.
//!
//! The process's panic hook logs the message and the location; clients see neither. State that is
//! shared with the rest of the process is behind locks that handle poisoning.
//!
//! Not here: the hook (`logging`), panics in request handlers (`net::catch_panic`).

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::ServingError;

/// Runs `work`; `Err` with the panic's message if it panicked.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| text(&*panic).to_owned())
}

/// One round of a thread that has more to do. `None` if it panicked: the round is lost, and the thread
/// continues.
pub fn catch_panic<T>(thread: &str, work: impl FnOnce() -> T) -> Option<T> {
    let done = caught(work);
    done.inspect_err(|panic| tracing::error!(panic, "{thread} panicked and goes on"))
        .ok()
}

/// The error for work on another thread that ended without an answer.
pub fn ended_abnormally(work: &str) -> ServingError {
    ServingError::internal(format!("{work} ended abnormally; see the server log"))
}

/// The message of a panic.
pub fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_end_their_round_only() {
        assert_eq!(caught(|| 7), Ok(7));
        let number = 7;
        assert_eq!(
            caught(|| panic!("at {number}")),
            Err::<(), _>("at 7".into())
        );
        assert_eq!(caught(|| panic!("plain")), Err::<(), _>("plain".into()));
        let mut rounds = 0;
        for is_broken in [true, false] {
            catch_panic("a thread", || {
                assert!(!is_broken, "on purpose");
                rounds += 1;
            });
        }
        assert_eq!(rounds, 1);
    }
}
