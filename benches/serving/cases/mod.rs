//! The measurements, in order.

mod batching;
mod images;
mod large;
mod latency;
mod long;
mod mapper;
mod small;
mod start;
mod swap;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::Result;
use crate::floors::bare::BareRun;
use crate::load::{Protocol, Target, in_turns};
use crate::models::{long as long_model, repository, write};
use crate::report::{Figure, Report};
use crate::requests::Input;
use crate::server::{Models, Server, peer};
use crate::stats::{Summary, ratios};

/// How long a run of the long model should take.
const LONG_MILLIS: f64 = 10.0;

/// A name to choose it by, and its function.
type Case = (&'static str, fn(&mut Bench) -> Result<()>);

const CASES: &[Case] = &[
    ("start", start::run),
    ("small", small::run),
    ("latency", latency::run),
    ("batching", batching::run),
    ("long", long::run),
    ("images", images::run),
    ("large", large::run),
    ("mapper", mapper::run),
    ("swap", swap::run),
];

/// The state that the cases share.
pub(crate) struct Bench {
    report: Report,
    models: Models,
    rounds: usize,
    time: Duration,
    /// CPUs available to this process.
    cores: usize,
}

/// Runs the cases that one of the words names, or all.
pub(crate) fn run(words: &[String]) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut bench = Bench {
        models: Models::prepare(long_products(cores)?)?,
        report: Report::begin(),
        rounds: setting("BENCH_ROUNDS", 5)?.max(1),
        time: Duration::from_secs(setting("BENCH_SECONDS", 1)?.max(1) as u64),
        cores,
    };
    for (name, case) in CASES {
        let is_chosen = words.is_empty() || words.iter().any(|word| word == name);
        if is_chosen && let Err(error) = case(&mut bench) {
            bench.report.add(Figure::missing(*name, error));
        }
    }
    let facts = facts(&bench);
    let target = std::env::var_os("CARGO_TARGET_DIR");
    let target = target.map_or(repository().join("target"), PathBuf::from);
    bench
        .report
        .finish(&target.join("bench/report.json"), facts)
}

impl Bench {
    /// Throughput of a server compared with a floor that gets the same request, and with a peer if
    /// there is one.
    fn beside_floor(
        &mut self,
        name: String,
        server: &Server,
        input: &Input,
        protocol: Protocol,
        floor: (&str, &Target),
        connections: usize,
    ) -> Result<Figure> {
        let ours = server.target(input, protocol)?;
        let peer = peer(input, protocol);
        let mut targets = vec![&ours, floor.1];
        if let Some(Ok(peer)) = &peer {
            targets.push(peer);
        }
        let series = in_turns(&targets, connections, self.rounds, self.time)?;
        let (ours, theirs) = (&series[0], &series[1]);
        let ratio = ratios(&ours.per_second, &theirs.per_second);
        let mut figure = Figure::new(name, "/s", &ours.per_second)
            .against(floor.0, &theirs.per_second, &ratio)
            .with_note("with", ours.tool)
            .with_note("CPU s per 1,000", Summary::of(&ours.cpu).median);
        match (peer, series.get(2)) {
            (Some(Err(error)), _) => figure = figure.with_note("peer", error.to_string()),
            (_, Some(peer)) => {
                let ratio = ratios(&ours.per_second, &peer.per_second);
                figure = figure
                    .with_note("peer /s", Summary::of(&peer.per_second).median)
                    .with_note("x peer", Summary::of(&ratio).median);
            }
            _ => {}
        }
        Ok(figure)
    }
}

/// The number of products that take the desired time on this machine.
fn long_products(cores: usize) -> Result<usize> {
    const TRIED: usize = 8;
    let folder = tempfile::tempdir()?;
    let model = write(folder.path(), &long_model(TRIED))?;
    let bare = BareRun {
        model: &model,
        batch: 1,
        threads: cores,
        concurrency: 1,
        time: Duration::from_secs(1),
    };
    let millis = bare.measure()?.p50_micros / 1000.0;
    Ok(((TRIED as f64 * LONG_MILLIS / millis).round() as usize).max(1))
}

fn setting(variable: &str, default: usize) -> Result<usize> {
    match std::env::var(variable) {
        Ok(text) => Ok(text.parse().map_err(|_| format!("{variable}={text}"))?),
        Err(_) => Ok(default),
    }
}

fn facts(bench: &Bench) -> Value {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let cpu = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    json!({
        "rounds": bench.rounds,
        "seconds": bench.time.as_secs(),
        "cores": bench.cores,
        "processor": cpu.map(|it| it.trim_start_matches([' ', '\t', ':'])),
        "load average at the end": read("/proc/loadavg").trim(),
    })
}
