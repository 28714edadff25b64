//! A command's work on a thread of its own, with a time limit: a model might load for ever, and a file
//! system might hang. In that case the process ends while the thread is still running.
//!
//! Not here: loads of the server (`serving::lifecycle::manager`).

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread::Builder;
use std::time::Duration;

use base::error::{Code, Result, ServingError};

/// The flag that sets the limit, as in the server.
const FLAG: &str = "--model_load_timeout_seconds";

/// Runs `work` on `directory` and returns its result.
///
/// # Errors
///
/// Those of `work`; `DEADLINE_EXCEEDED` if it takes longer than `bound`.
pub(super) fn within<T: Send + 'static>(
    bound: Option<Duration>,
    directory: &Path,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let Some(bound) = bound else {
        return work();
    };
    let (sender, receiver) = sync_channel(1);
    let thread = Builder::new()
        .name("load".to_owned())
        .spawn(move || {
            // The receiver is gone if it has stopped waiting.
            let _ = sender.send(work());
        })
        .map_err(|error| {
            let text = format!("no thread for a load: {error}");
            ServingError::new(Code::ResourceExhausted, text)
        })?;
    match receiver.recv_timeout(bound) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => Err(ServingError::new(
            Code::DeadlineExceeded,
            format!(
                "{} was not loaded and run within {} s ({FLAG}): the server would give it up, too",
                directory.display(),
                bound.as_secs()
            ),
        )),
        // The work panicked, and so does this function.
        Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Ok(()) => Err(ServingError::internal("the load ended without a result")),
            Err(panic) => std::panic::resume_unwind(panic),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn work_that_does_not_end_is_not_waited_for() {
        let directory = Path::new("m/1");
        let minute = Some(Duration::from_secs(60));
        assert_eq!(within(minute, directory, || Ok(7)).unwrap(), 7);
        assert_eq!(within(None, directory, || Ok(7)).unwrap(), 7);
        let (end, ended) = channel::<()>();
        let hang = move || {
            let _ = ended.recv();
            Ok(())
        };
        let error = within(Some(Duration::from_millis(10)), directory, hang).unwrap_err();
        assert_eq!(error.code(), Code::DeadlineExceeded);
        assert!(
            error.to_string().starts_with("m/1 was not loaded"),
            "{error}"
        );
        drop(end);
    }
}
