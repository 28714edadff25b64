//! Open loop: calls come at random times, whether or not earlier ones are answered. Latency counts from
//! the time when a call was due, so a stall of the server counts for all calls of that time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc};

use super::Target;
use super::client::Connection;
use crate::Result;
use crate::stats::Random;

/// The most calls in flight; more have to wait, and that time counts.
const CONNECTIONS: usize = 32;

/// The latencies of calls at random times, `per_second` on average (Poisson arrivals), for this
/// time.
///
/// # Errors
///
/// If a call failed; the other calls are still made.
pub(crate) fn run(target: &Target, per_second: f64, time: Duration) -> Result<Vec<Duration>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (due, arrivals) = mpsc::unbounded_channel();
        let arrivals = Arc::new(Mutex::new(arrivals));
        let mut callers = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            let connection = Connection::open(target).await?;
            callers.push(tokio::spawn(answer(connection, Arc::clone(&arrivals))));
        }
        let pace = std::thread::spawn(move || pace(&due, per_second, time));
        let (mut latencies, mut failures) = (Vec::new(), Vec::new());
        for caller in callers {
            let (mut own, mut failed) = caller.await?;
            latencies.append(&mut own);
            failures.append(&mut failed);
        }
        pace.join().map_err(|_| "the pace was lost")?;
        match failures.first() {
            None => Ok(latencies),
            Some(first) => Err(format!("{} calls failed: {first}", failures.len()).into()),
        }
    })
}

/// Determines when calls are due, on a thread of its own, because the runtime's timers have a
/// resolution of a millisecond.
fn pace(due: &mpsc::UnboundedSender<Instant>, per_second: f64, time: Duration) {
    // SAFETY: has no preconditions; lets this thread wake up on time.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
    let mut random = Random::new();
    let end = Instant::now() + time;
    let mut next = Instant::now();
    while next < end {
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        if due.send(next).is_err() {
            return;
        }
        let gap = -(1.0 - random.next()).ln() / per_second;
        next += Duration::from_secs_f64(gap);
    }
}

/// Makes calls as they become due; returns latencies and failures.
async fn answer(
    mut connection: Connection,
    arrivals: Arc<Mutex<mpsc::UnboundedReceiver<Instant>>>,
) -> (Vec<Duration>, Vec<String>) {
    let (mut latencies, mut failures) = (Vec::new(), Vec::new());
    loop {
        let due = arrivals.lock().await.recv().await;
        let Some(due) = due else {
            return (latencies, failures);
        };
        match connection.call_and_count().await {
            Ok(_) => latencies.push(due.elapsed()),
            Err(error) => failures.push(error.to_string()),
        }
    }
}
