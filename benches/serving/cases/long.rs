//! A model whose run takes much longer than the server: the server should lose none of that time.

use super::Bench;
use crate::Result;
use crate::floors::bare::BareRun;
use crate::load::{Protocol, in_turns};
use crate::models::LONG_INPUTS;
use crate::report::Bound::AtLeast;
use crate::report::Figure;
use crate::requests::Input;
use crate::stats::ratios;

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    let input = Input::random("long", &[1, LONG_INPUTS]);
    let server = bench.models.start(&[])?;
    let target = server.target(&input, Protocol::Grpc)?;
    // As many runs at a time as there are clients, but not more than cores: more gain nothing.
    for (connections, concurrency) in [(1, 1), (8, bench.cores)] {
        let bare = BareRun {
            model: &bench.models.long,
            batch: 1,
            threads: bench.cores,
            concurrency,
            time: bench.time,
        };
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let mut millis = 0.0;
        for _ in 0..bench.rounds {
            ours.push(in_turns(&[&target], connections, 1, bench.time)?[0].per_second[0]);
            let bare = bare.measure()?;
            theirs.push(bare.runs_per_second);
            millis = bare.p50_micros / 1000.0;
        }
        let name = format!("10 ms model, grpc, {connections} connections");
        bench.report.add(
            Figure::new(name, "/s", &ours)
                .against("bare runs", &theirs, &ratios(&ours, &theirs))
                .must_be(AtLeast(0.95))
                .with_note("bare run ms", millis),
        );
    }
    drop(server);
    two_clients(bench, &input)
}

/// Two clients compared with one, with one thread for each run.
fn two_clients(bench: &mut Bench, input: &Input) -> Result<()> {
    let name = "two clients, one thread a run";
    if bench.cores < 2 {
        let figure = Figure::missing(name, "there is one processor");
        bench.report.add(figure);
        return Ok(());
    }
    let server = bench
        .models
        .start(&["--tensorflow_intra_op_parallelism=1".to_owned()])?;
    let target = server.target(input, Protocol::Grpc)?;
    let (mut two, mut one) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        one.push(in_turns(&[&target], 1, 1, bench.time)?[0].per_second[0]);
        two.push(in_turns(&[&target], 2, 1, bench.time)?[0].per_second[0]);
    }
    bench.report.add(
        Figure::new(name, "/s", &two)
            .against("one client", &one, &ratios(&two, &one))
            .must_be(AtLeast(1.8)),
    );
    Ok(())
}
