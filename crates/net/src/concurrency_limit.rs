//! Makes calls wait for their turn.
//!
//! Not here: refusing requests beyond the server's limits (`limit`).

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use base::error::{Result, ServingError};

/// Admits a limited or unlimited number of calls at a time. Further calls wait, first come, first served,
/// until their deadline.
#[derive(Clone, Debug)]
pub struct ConcurrencyLimit(Option<Arc<Semaphore>>);

impl ConcurrencyLimit {
    /// A limit that admits this many calls; `None` means unlimited.
    pub fn new(max_calls: Option<usize>) -> Self {
        Self(max_calls.map(|max| Arc::new(Semaphore::new(max.clamp(1, Semaphore::MAX_PERMITS)))))
    }

    /// Waits for a place, which the returned permit holds.
    ///
    /// # Errors
    ///
    /// `DEADLINE_EXCEEDED` if the deadline passes first.
    pub async fn enter(&self, deadline: Option<Instant>) -> Result<Option<OwnedSemaphorePermit>> {
        let Some(semaphore) = &self.0 else {
            return Ok(None);
        };
        let entry = Arc::clone(semaphore).acquire_owned();
        let entered = match deadline {
            None => entry.await,
            Some(deadline) => tokio::time::timeout_at(deadline.into(), entry)
                .await
                .map_err(|_| ServingError::deadline_exceeded())?,
        };
        entered
            .map(Some)
            .map_err(|_| ServingError::internal("the limit was closed"))
    }
}

#[cfg(test)]
mod tests {
    use base::error::Code;

    use super::*;

    #[tokio::test]
    async fn calls_beyond_the_bound_wait_until_their_deadline() {
        let limit = ConcurrencyLimit::new(Some(1));
        let first = limit.enter(None).await.unwrap();
        let error = limit.enter(Some(Instant::now())).await.unwrap_err();
        assert_eq!(error.code(), Code::DeadlineExceeded);
        drop(first);
        assert!(limit.enter(Some(Instant::now())).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn without_a_bound_nobody_waits() {
        let limit = ConcurrencyLimit::new(None);
        assert!(limit.enter(None).await.unwrap().is_none());
    }
}
