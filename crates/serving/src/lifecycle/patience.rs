//! Calls into a file system that can hang, each on a thread of its own, with a time limit.
//!
//! Not here: looking for versions (`source::poll_threads`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread::Builder;
use std::time::Duration;

use base::error::{Code, Result, ServingError};
use base::panics;

/// The maximum number of simultaneous calls, including those that hang. More are refused.
const MAX_CALLS: usize = 64;

static CALLS: AtomicUsize = AtomicUsize::new(0);

/// Counts a call until it ends.
struct Counted;

impl Counted {
    fn try_new() -> Option<Self> {
        let counted = Self;
        (CALLS.fetch_add(1, Ordering::Relaxed) < MAX_CALLS).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        CALLS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns the result of `call`. If it takes longer than `bound`, it is left running. `what` is the
/// subject of the error.
///
/// # Errors
///
/// `UNAVAILABLE` if it takes longer; `RESOURCE_EXHAUSTED` if too many calls already hang or no thread
/// can be started; `INTERNAL` if it panics.
pub(super) fn within<T: Send + 'static>(
    bound: Duration,
    what: &str,
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let exhausted = |reason: &str| {
        let text = format!("{what} was not asked: {reason}");
        ServingError::new(Code::ResourceExhausted, text)
    };
    let counted =
        Counted::try_new().ok_or_else(|| exhausted("too many such calls do not return"))?;
    let (sender, receiver) = sync_channel(1);
    Builder::new()
        .name("file-system".to_owned())
        .spawn(move || {
            let result = panics::caught(call);
            drop(counted);
            // The caller can have left.
            let _ = sender.send(result);
        })
        .map_err(|error| exhausted(&format!("no thread: {error}")).caused_by(error))?;
    match receiver.recv_timeout(bound) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => Err(panics::ended_abnormally(what)),
        Err(RecvTimeoutError::Timeout) => Err(ServingError::new(
            Code::Unavailable,
            format!("{what} has not answered for {} s", bound.as_secs()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn calls_that_hang_are_not_waited_for() {
        assert_eq!(within(Duration::from_secs(60), "it", || 7).unwrap(), 7);
        let (end, ended) = channel::<()>();
        let hang = move || {
            let _ = ended.recv();
        };
        let error = within(Duration::from_millis(10), "the disk", hang).unwrap_err();
        assert_eq!(error.code(), Code::Unavailable);
        assert!(error.to_string().starts_with("the disk has not answered"));
        drop(end);
        let panicked = within(Duration::from_secs(60), "it", || panic!("on purpose"));
        assert_eq!(panicked.unwrap_err().code(), Code::Internal);
    }
}
