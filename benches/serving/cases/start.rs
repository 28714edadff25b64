//! Time from start to first answer, and resident memory, with one tiny model.

use std::time::Instant;

use super::Bench;
use crate::Result;
use crate::load::{Protocol, closed};
use crate::models::served;
use crate::process::megabytes;
use crate::report::Bound::AtMost;
use crate::report::Figure;
use crate::requests::Input;
use crate::server::Server;

const STARTS: usize = 7;
/// Requests before memory is measured again.
const REQUESTS: usize = 2000;

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    let flags = [
        "--model_name=half_plus_two".to_owned(),
        format!("--model_base_path={}", served("half_plus_two").display()),
    ];
    let mut seconds = Vec::new();
    let mut resident = Vec::new();
    let mut resident_later = Vec::new();
    // The first one warms the system's file cache.
    for start in 0..=STARTS {
        let started = Instant::now();
        let server = Server::start(&flags)?;
        let target = server.target(&Input::half_plus_two(), Protocol::Rest)?;
        if start == 0 {
            continue;
        }
        seconds.push(started.elapsed().as_secs_f64());
        let memory = || megabytes(server.process(), "VmRSS:").ok_or("resident memory is unknown");
        resident.push(memory()?);
        if start == STARTS {
            closed::repeat(&target, REQUESTS)?;
            resident_later.push(memory()?);
        }
    }
    let figure = Figure::new("start to first answer", "s", &seconds);
    bench.report.add(figure.must_be(AtMost(0.3)));
    let figure = Figure::new("resident memory with half_plus_two", "MB", &resident);
    bench.report.add(figure.must_be(AtMost(80.0)));
    let name = format!("the same after {REQUESTS} requests");
    let figure = Figure::new(name, "MB", &resident_later);
    bench.report.add(figure.must_be(AtMost(80.0)));
    Ok(())
}
