//! What becomes of a panic: it ends what it happened in, and nothing else.
//!
//! The log has what it said and where, by the process's panic hook; clients are told neither. What is
//! shared with the rest of the process is behind locks that expect poisoning.
//!
//! Not here: the hook (`logging`), panics in the handlers of requests (`net::isolate`).

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::ServingError;

/// Runs `work`; `Err` with what it said where it panicked.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| text(&*panic).to_owned())
}

/// One round of a thread that has more to do. `None` where it panicked: the round is lost, the
/// thread goes on.
pub fn round<T>(thread: &str, work: impl FnOnce() -> T) -> Option<T> {
    let done = caught(work);
    done.inspect_err(|panic| tracing::error!(panic, "{thread} panicked and goes on"))
        .ok()
}

/// The error for work on another thread that ended without an answer.
pub fn ended_abnormally(what: &str) -> ServingError {
    ServingError::internal(format!(
        "{what} ended abnormally; the server's log says more"
    ))
}

/// What a panic said.
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
            round("a thread", || {
                assert!(!is_broken, "on purpose");
                rounds += 1;
            });
        }
        assert_eq!(rounds, 1);
    }
}
