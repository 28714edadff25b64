//! 10,000 images in one request, compared with the bare run.

use super::Bench;
use crate::Result;
use crate::floors::bare::BareRun;
use crate::load::{Protocol, Target, closed};
use crate::process::megabytes;
use crate::report::Bound::AtMost;
use crate::report::Figure;
use crate::requests::Input;
use crate::server::peer;
use crate::stats::{Summary, ratios};

const IMAGES: usize = 10_000;

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    let server = bench.models.start(&[])?;
    let input = Input::images(IMAGES);
    for (protocol, bound) in [(Protocol::Grpc, 1.25), (Protocol::Rest, 2.5)] {
        let target = server.target(&input, protocol)?;
        let peer = peer(&input, protocol);
        let bare = BareRun {
            model: &bench.models.mnist,
            batch: IMAGES,
            threads: bench.cores,
            concurrency: 1,
            time: bench.time,
        };
        let (mut ours, mut theirs, mut peers) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..bench.rounds {
            ours.push(seconds(&target)?);
            theirs.push(bare.measure()?.p50_micros / 1e6);
            if let Some(Ok(peer)) = &peer {
                peers.push(seconds(peer)?);
            }
        }
        let name = format!("10,000 images, {}", protocol.name());
        let megabytes_sent = target.call.body.len() as f64 / 1e6;
        let peak = megabytes(server.process(), "VmHWM:").unwrap_or(f64::NAN);
        let mut figure = Figure::new(name, "s", &ours)
            .against("bare run", &theirs, &ratios(&ours, &theirs))
            .must_be(AtMost(bound))
            .with_note("MB sent", megabytes_sent)
            .with_note("peak MB", peak)
            .with_note("with", "our own generator");
        if !peers.is_empty() {
            let ratio = Summary::of(&ratios(&ours, &peers)).median;
            figure = figure.with_note("x peer's time", ratio);
        }
        if let Some(Err(error)) = peer {
            figure = figure.with_note("peer", error.to_string());
        }
        bench.report.add(figure);
    }
    Ok(())
}

/// The second of two calls on a connection.
fn seconds(target: &Target) -> Result<f64> {
    let latencies = closed::repeat(target, 2)?;
    Ok(latencies.last().map_or(f64::NAN, |it| it.as_secs_f64()))
}
