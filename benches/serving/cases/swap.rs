//! The tail of latencies while versions are swapped, compared with the same load without swaps.

use std::path::Path;
use std::time::Duration;

use super::Bench;
use crate::Result;
use crate::load::{Protocol, Target, open};
use crate::models::{only_version, served};
use crate::report::Bound::AtMost;
use crate::report::Figure;
use crate::requests::Input;
use crate::server::Server;
use crate::stats::{percentile, ratios, sorted_micros};

/// Versions added and removed in one phase, one a second: the shortest interval between two polls.
const SWAPS: u32 = 6;
/// Calls a second: well below the capacity of two cores that also run the client.
const RATE: f64 = 1000.0;
const PHASES: usize = 2;

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    let base_path = bench.models.folder().join("swapped");
    let model = only_version(&served("mnist"))?;
    add_version(&base_path, 1, &model)?;
    let server = Server::start(&[
        "--model_name=mnist".to_owned(),
        format!("--model_base_path={}", base_path.display()),
        "--file_system_poll_wait_seconds=1".to_owned(),
    ])?;
    let target = server.target(&Input::images(1), Protocol::Grpc)?;
    let time = Duration::from_secs(SWAPS.into());
    let (mut steady, mut swapping) = (Vec::new(), Vec::new());
    let mut version = 1;
    for _ in 0..PHASES {
        steady.push(p99(&target, time)?);
        let during = std::thread::scope(|scope| {
            let swaps = scope.spawn(|| -> std::result::Result<(), String> {
                for _ in 0..SWAPS {
                    version += 1;
                    add_version(&base_path, version, &model).map_err(|error| error.to_string())?;
                    std::thread::sleep(Duration::from_secs(1));
                }
                Ok(())
            });
            let during = p99(&target, time);
            swaps.join().map_err(|_| "the swaps were lost")??;
            during
        })?;
        swapping.push(during);
    }
    bench.report.add(
        Figure::new(
            "mnist, grpc, p99 while versions are swapped",
            "µs",
            &swapping,
        )
        .against("in peace", &steady, &ratios(&swapping, &steady))
        .must_be(AtMost(1.5))
        .with_note("swaps", SWAPS * PHASES as u32)
        .with_note("calls/s", RATE),
    );
    Ok(())
}

/// The version appears as a whole, because it is moved into place.
fn add_version(base_path: &Path, version: u32, model: &Path) -> Result<()> {
    let partial = base_path.join(format!("copying-{version}"));
    std::fs::create_dir_all(&partial)?;
    std::fs::copy(model, partial.join("model.onnx"))?;
    std::fs::rename(&partial, base_path.join(version.to_string()))?;
    Ok(())
}

fn p99(target: &Target, time: Duration) -> Result<f64> {
    let latencies = open::run(target, RATE, time)?;
    Ok(percentile(&sorted_micros(&latencies), 0.99))
}
