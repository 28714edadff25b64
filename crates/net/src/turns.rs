//! Makes the requests of one connection look for room one after the other, so that a connection with very
//! many of them finds no more of it than one with a single request.
//!
//! Not here: finding room (`limit`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Mutex as TurnLock;

use super::peer::ConnectionNumber;

/// The turns, by connection. Connections without a request that looks for room are not kept.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<HashMap<ConnectionNumber, Arc<TurnLock<()>>>>);

/// A request that looks for room, or waits for its turn to do so.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    connection: ConnectionNumber,
    lock: Arc<TurnLock<()>>,
}

impl Turns {
    pub(super) fn of(&self, connection: ConnectionNumber) -> Turn<'_> {
        let lock = Arc::clone(self.lock().entry(connection).or_default());
        Turn {
            turns: self,
            connection,
            lock,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ConnectionNumber, Arc<TurnLock<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// Runs `look` once the earlier ones of the connection are done.
    pub(super) async fn run<F: Future>(&self, look: F) -> F::Output {
        let _turn = self.lock.lock().await;
        look.await
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut turns = self.turns.lock();
        // The references of the map and of this turn.
        if Arc::strong_count(&self.lock) == 2 {
            turns.remove(&self.connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn each_connection_has_its_turns() {
        let turns = Turns::default();
        let [first, second, other] = [1, 1, 2].map(|connection| turns.of(connection));
        let moment = Duration::from_millis(20);
        {
            let looks = first.run(pending::<()>());
            tokio::pin!(looks);
            assert!(timeout(moment, &mut looks).await.is_err());
            assert!(timeout(moment, second.run(async {})).await.is_err());
            other.run(async {}).await;
        }
        second.run(async {}).await;
        drop((first, other));
        assert_eq!(turns.lock().len(), 1);
        drop(second);
        assert!(turns.lock().is_empty());
    }
}
