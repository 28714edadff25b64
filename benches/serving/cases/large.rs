//! 16 MB in and 16 MB out, compared with the same bytes through a socket and back.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use super::Bench;
use crate::Result;
use crate::floors::Floor;
use crate::load::{Protocol, closed};
use crate::report::Bound::AtMost;
use crate::report::Figure;
use crate::requests::Input;
use crate::stats::{percentile, ratios, sorted_micros};

/// Four bytes each.
const VALUES: usize = 4_000_000;
/// Calls whose median is one round.
const CALLS: usize = 11;

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    let server = bench.models.start(&[])?;
    let input = Input::random("add_one", &[VALUES]);
    let target = server.target(&input, Protocol::Grpc)?;
    let floor = Floor::loopback(target.call.body.len())?;
    let mut stream = TcpStream::connect(floor.address)?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; target.call.body.len()];

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let latencies = closed::repeat(&target, CALLS)?;
        ours.push(percentile(&sorted_micros(&latencies), 0.5) / 1000.0);
        let mut latencies = Vec::with_capacity(CALLS);
        for _ in 0..CALLS {
            let start = Instant::now();
            stream.write_all(&target.call.body)?;
            stream.read_exact(&mut buffer)?;
            latencies.push(start.elapsed());
        }
        theirs.push(percentile(&sorted_micros(&latencies), 0.5) / 1000.0);
    }
    bench.report.add(
        Figure::new("16 MB in, 16 MB out, grpc", "ms", &ours)
            .against("socket and back", &theirs, &ratios(&ours, &theirs))
            .must_be(AtMost(3.0))
            .with_note("with", "our own generator"),
    );
    Ok(())
}
