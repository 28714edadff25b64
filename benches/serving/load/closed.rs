//! Closed loop: each connection calls again as soon as it has its answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Target;
use super::client::Connection;
use crate::Result;

/// The latency of every call within `time`.
///
/// # Errors
///
/// The first call that fails, or whose answer has another length.
pub(crate) fn run(target: &Target, connections: usize, time: Duration) -> Result<Vec<Duration>> {
    calls(target, connections, time, usize::MAX)
}

/// The latencies of this many calls, one after another on one connection.
pub(crate) fn repeat(target: &Target, count: usize) -> Result<Vec<Duration>> {
    calls(target, 1, Duration::MAX, count)
}

fn calls(
    target: &Target,
    connections: usize,
    time: Duration,
    count: usize,
) -> Result<Vec<Duration>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let target = Arc::new(target.clone());
        let mut opened = Vec::with_capacity(connections);
        for _ in 0..connections {
            opened.push(Connection::open(&target).await?);
        }
        let start = Instant::now();
        let loops: Vec<_> = opened
            .into_iter()
            .map(|connection| {
                let target = Arc::clone(&target);
                tokio::spawn(call_in_loop(connection, target, start, time, count))
            })
            .collect();
        let mut latencies = Vec::new();
        for one in loops {
            latencies.append(&mut one.await??);
        }
        Ok(latencies)
    })
}

async fn call_in_loop(
    mut connection: Connection,
    target: Arc<Target>,
    start: Instant,
    time: Duration,
    count: usize,
) -> std::result::Result<Vec<Duration>, String> {
    let mut latencies = Vec::new();
    while latencies.len() < count && start.elapsed() < time {
        let sent = Instant::now();
        let len = connection.call_and_count().await;
        let len = len.map_err(|error| error.to_string())?;
        latencies.push(sent.elapsed());
        if len != target.reply_bytes {
            return Err(format!("an answer of {len} bytes"));
        }
    }
    Ok(latencies)
}
