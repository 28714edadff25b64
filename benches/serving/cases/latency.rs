//! Latency: the time that the server adds to a bare run for a single client, and the tail if requests
//! come at random times at half of the server's capacity.

use super::Bench;
use crate::Result;
use crate::floors::Floor;
use crate::floors::bare::BareRun;
use crate::load::{Protocol, Target, closed, in_turns, open};
use crate::report::Bound::AtMost;
use crate::report::Figure;
use crate::requests::Input;
use crate::server::Server;
use crate::stats::{percentile, ratios, sorted_micros};

/// Connections for measuring the server's capacity.
const CONNECTIONS: usize = 8;
/// Duration of the open-loop load, in units of the measurement's time.
const OPEN_LOOP: u32 = 4;

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    let server = bench.models.start(&[])?;
    added(bench, &server)?;
    for input in [Input::half_plus_two(), Input::images(1)] {
        for protocol in [Protocol::Grpc, Protocol::Rest] {
            let target = server.target(&input, protocol)?;
            tail(bench, input.model, &target)?;
        }
    }
    Ok(())
}

/// The median of one client's calls, compared with that of bare runs and that of an empty server.
fn added(bench: &mut Bench, server: &Server) -> Result<()> {
    let target = server.target(&Input::images(1), Protocol::Grpc)?;
    let floor = Floor::grpc(target.reply_bytes)?;
    let empty = Target {
        address: floor.address,
        process: None,
        ..target.clone()
    };
    let bare = BareRun {
        model: &bench.models.mnist,
        batch: 1,
        threads: bench.cores,
        concurrency: 1,
        time: bench.time / 2,
    };
    let median = |target| -> Result<f64> {
        let latencies = closed::run(target, 1, bench.time)?;
        Ok(percentile(&sorted_micros(&latencies), 0.5))
    };
    let (mut ours, mut runs, mut empties) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        ours.push(median(&target)?);
        runs.push(bare.measure()?.p50_micros);
        empties.push(median(&empty)?);
    }
    let added: Vec<f64> = ours.iter().zip(&runs).map(|(a, b)| a - b).collect();
    bench.report.add(
        Figure::new(
            "mnist, grpc, lone client: added to a bare run",
            "µs",
            &added,
        )
        .must_be(AtMost(150.0))
        .with_note("call µs", percentile(&sorted(&ours), 0.5))
        .with_note("bare run µs", percentile(&sorted(&runs), 0.5))
        .with_note(
            "call of an empty tonic µs",
            percentile(&sorted(&empties), 0.5),
        )
        .with_note("with", "our own generator"),
    );
    bench.report.add(
        Figure::new("mnist, grpc, lone client: p50", "µs", &ours).against(
            "bare + empty tonic",
            &sums(&runs, &empties),
            &ratios(&ours, &sums(&runs, &empties)),
        ),
    );
    Ok(())
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn sums(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn tail(bench: &mut Bench, what: &str, target: &Target) -> Result<()> {
    let capacity = in_turns(&[target], CONNECTIONS, 1, bench.time)?[0].per_second[0];
    // The client in Rust costs more than the tools that measured the capacity.
    let rate = capacity / 4.0;
    let latencies = open::run(target, rate, bench.time * OPEN_LOOP)?;
    let micros = sorted_micros(&latencies);
    let name = format!(
        "{what}, {}, random arrivals: p99",
        target.call.protocol.name()
    );
    bench.report.add(
        Figure::new(name, "µs", &[percentile(&micros, 0.99)])
            .with_note("calls/s", rate.round())
            .with_note("p50 µs", percentile(&micros, 0.5))
            .with_note("p99.9 µs", percentile(&micros, 0.999)),
    );
    Ok(())
}
