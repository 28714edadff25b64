//! Turns a panic in a handler into an answer, so that it ends one request and nothing else.

use std::panic::AssertUnwindSafe;

use futures_util::{FutureExt, TryFutureExt};

use base::error::{Result, ServingError};
use base::panics;

/// Awaits `work`.
///
/// # Errors
///
/// `INTERNAL` if it panicked; the panic's message is only logged.
//
// Not an `async fn`, because its future would reserve space for `work` twice.
pub fn catch_panic<T>(work: impl Future<Output = T>) -> impl Future<Output = Result<T>> {
    // Nothing that a panic can leave half-done is used again: `work` is dropped, and its state that is
    // shared with other requests is behind locks that expect poisoning.
    AssertUnwindSafe(work).catch_unwind().map_err(|panic| {
        tracing::error!(
            panic = panics::text(&*panic),
            "a request's handler panicked"
        );
        ServingError::internal("internal server error; see the server log")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::error::Code;

    #[tokio::test]
    async fn a_panic_becomes_an_error() {
        let error = catch_panic(async { panic!("at the first poll") })
            .await
            .map(|(): ()| ())
            .unwrap_err();
        assert_eq!(error.code(), Code::Internal);
        assert!(!error.to_string().contains("first poll"), "{error}");
    }

    #[tokio::test]
    async fn work_without_a_panic_is_untouched() {
        let work = async {
            tokio::task::yield_now().await;
            7
        };
        assert_eq!(catch_panic(work).await.unwrap(), 7);
    }
}
