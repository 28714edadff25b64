//! Requests with a short run: the cost of the server itself, compared with servers that do nothing.

use super::Bench;
use crate::Result;
use crate::floors::Floor;
use crate::load::{Protocol, Target};
use crate::report::Bound::AtLeast;
use crate::requests::Input;

const CONNECTIONS: [usize; 4] = [1, 8, 32, 64];
/// The numbers of connections with a required ratio, for the tiny model.
const JUDGED: [usize; 2] = [8, 32];

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    let server = bench.models.start(&[])?;
    for (what, input, bound) in [
        ("half_plus_two", Input::half_plus_two(), Some(AtLeast(0.75))),
        ("mnist", Input::images(1), None),
    ] {
        for protocol in [Protocol::Grpc, Protocol::Rest] {
            let ours = server.target(&input, protocol)?;
            let (floor_name, floor) = match protocol {
                Protocol::Grpc => ("empty tonic", Floor::grpc(ours.reply_bytes)?),
                Protocol::Rest => ("empty hyper", Floor::http(ours.reply_bytes)?),
            };
            let floor_target = Target {
                address: floor.address,
                process: None,
                ..ours
            };
            for connections in CONNECTIONS {
                let name = format!("{what}, {}, {connections} connections", protocol.name());
                let floor = (floor_name, &floor_target);
                let figure =
                    bench.beside_floor(name, &server, &input, protocol, floor, connections)?;
                bench.report.add(match bound {
                    Some(bound) if JUDGED.contains(&connections) => figure.must_be(bound),
                    _ => figure,
                });
            }
        }
    }
    Ok(())
}
