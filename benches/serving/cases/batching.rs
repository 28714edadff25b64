//! Single images that are run in batches, compared with runs of full batches and an empty server, and
//! with and without waiting for more.

use super::Bench;
use crate::Result;
use crate::floors::Floor;
use crate::floors::bare::BareRun;
use crate::load::{Protocol, Target, in_turns};
use crate::report::Bound::AtLeast;
use crate::report::Figure;
use crate::requests::Input;
use crate::server::Server;
use crate::stats::{Summary, ratios};

const BATCH: usize = 32;
const CONNECTIONS: [usize; 3] = [1, 8, 64];
/// How long a batch waits for more, in the second comparison.
const WAIT_MICROS: u32 = 1000;

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    let input = Input::images(1);
    against_floors(bench, &input)?;
    for wait in [0, WAIT_MICROS] {
        let plain = batching(bench, wait, false)?;
        let adaptive = batching(bench, wait, true)?;
        let unbatched = bench.models.start(&[])?;
        let servers = [&adaptive, &plain, &unbatched];
        for connections in CONNECTIONS {
            let targets: Vec<Target> = servers
                .iter()
                .map(|server| server.target(&input, Protocol::Grpc))
                .collect::<Result<_>>()?;
            let targets: Vec<&Target> = targets.iter().collect();
            let series = in_turns(&targets, connections, bench.rounds, bench.time)?;
            let [adaptive, plain, unbatched] = [&series[0], &series[1], &series[2]];
            let name = format!("adaptive, wait {wait} µs, {connections} connections");
            let ratio = ratios(&adaptive.per_second, &plain.per_second);
            bench.report.add(
                Figure::new(name, "/s", &adaptive.per_second)
                    .against("not adaptive", &plain.per_second, &ratio)
                    .with_note("unbatched /s", Summary::of(&unbatched.per_second).median),
            );
        }
    }
    Ok(())
}

/// The limit on batching: 64 connections, compared with the rate that the floors allow.
fn against_floors(bench: &mut Bench, input: &Input) -> Result<()> {
    const CONNECTIONS: usize = 64;
    let server = batching(bench, 0, true)?;
    let target = server.target(input, Protocol::Grpc)?;
    let floor = Floor::grpc(target.reply_bytes)?;
    let empty = Target {
        address: floor.address,
        process: None,
        ..target.clone()
    };
    let (mut ours, mut possible, mut images, mut echo) = (vec![], vec![], vec![], vec![]);
    for _ in 0..bench.rounds {
        let series = in_turns(&[&target, &empty], CONNECTIONS, 1, bench.time)?;
        let bare = bare_images(bench)?;
        ours.push(series[0].per_second[0]);
        echo.push(series[1].per_second[0]);
        images.push(bare);
        possible.push(1.0 / (1.0 / bare + 1.0 / series[1].per_second[0]));
    }
    bench.report.add(
        Figure::new("mnist, grpc, batches, 64 connections", "/s", &ours)
            .against("1/(1/bare+1/echo)", &possible, &ratios(&ours, &possible))
            .must_be(AtLeast(0.8))
            .with_note("bare images/s", Summary::of(&images).median)
            .with_note("empty tonic /s", Summary::of(&echo).median),
    );
    Ok(())
}

/// Images per second of bare runs of full batches on all cores, the better of two ways: a run on each
/// core, or one run on all cores.
fn bare_images(bench: &Bench) -> Result<f64> {
    let ways = [(1, bench.cores), (bench.cores, 1)];
    let mut best = 0.0_f64;
    for (threads, concurrency) in ways {
        let bare = BareRun {
            model: &bench.models.mnist,
            batch: BATCH,
            threads,
            concurrency,
            time: bench.time / 2,
        };
        best = best.max(bare.measure()?.runs_per_second * BATCH as f64);
    }
    Ok(best)
}

fn batching(bench: &Bench, wait_micros: u32, adaptive: bool) -> Result<Server> {
    let file = bench
        .models
        .folder()
        .join(format!("batching_{wait_micros}"));
    let text = format!(
        "max_batch_size {{ value: {BATCH} }} batch_timeout_micros {{ value: {wait_micros} }} \
         max_enqueued_batches {{ value: 100 }}"
    );
    std::fs::write(&file, text)?;
    bench.models.start(&[
        "--enable_batching".to_owned(),
        format!("--batching_parameters_file={}", file.display()),
        format!("--adaptive_batching={adaptive}"),
    ])
}
