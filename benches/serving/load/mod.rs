//! Load: calls to a server, either as many as it answers or at a given rate.
//!
//! `tools` runs h2load and wrk, if they are installed; `closed` and `open` are generators of our own,
//! for measurements that those two do not support.

pub(crate) mod client;
pub(crate) mod closed;
pub(crate) mod open;
mod tools;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::Result;
use crate::process::cpu_seconds;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Grpc,
    Rest,
}

impl Protocol {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Rest => "rest",
        }
    }
}

/// One request.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) protocol: Protocol,
    pub(crate) path: String,
    /// The body to send: a JSON text, or a gRPC message with its frame.
    pub(crate) body: Bytes,
}

/// A request to a server.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) call: Call,
    /// The length of the correct answer, without gRPC's frame.
    pub(crate) reply_bytes: usize,
    /// The server, if it is a process of ours whose CPU time counts.
    pub(crate) process: Option<u32>,
}

/// Throughput over some rounds.
pub(crate) struct Series {
    pub(crate) per_second: Vec<f64>,
    /// Seconds of the server's CPU time per 1,000 answers; empty if it is unknown.
    pub(crate) cpu: Vec<f64>,
    pub(crate) tool: &'static str,
}

/// Measures each target in every round, in changing order, with one call at a time on each
/// connection.
pub(crate) fn in_turns(
    targets: &[&Target],
    connections: usize,
    rounds: usize,
    time: Duration,
) -> Result<Vec<Series>> {
    let empty = || Series {
        per_second: Vec::new(),
        cpu: Vec::new(),
        tool: "",
    };
    let mut all: Vec<Series> = targets.iter().map(|_| empty()).collect();
    for round in 0..rounds {
        for turn in 0..targets.len() {
            let index = (round + turn) % targets.len();
            let target = targets[index];
            let series = &mut all[index];
            let before = target.process.and_then(cpu_seconds);
            let load = throughput(target, connections, time)?;
            if let (Some(before), Some(after)) = (before, target.process.and_then(cpu_seconds)) {
                series.cpu.push((after - before) / load.answers * 1000.0);
            }
            series.per_second.push(load.per_second);
            series.tool = load.tool;
        }
    }
    Ok(all)
}

/// The measurements of one generator.
struct Load {
    per_second: f64,
    answers: f64,
    tool: &'static str,
}

fn throughput(target: &Target, connections: usize, time: Duration) -> Result<Load> {
    if let Some(load) = tools::run(target, connections, time)? {
        return Ok(load);
    }
    let latencies = closed::run(target, connections, time)?;
    Ok(Load {
        per_second: latencies.len() as f64 / time.as_secs_f64(),
        answers: latencies.len() as f64,
        tool: "our own generator",
    })
}
