//! Lower limits for any server: bare ONNX Runtime, and servers that do nothing.
//!
//! Each runs in a process of its own, as the server does: this program in another role.

pub(crate) mod bare;
mod echo_grpc;
mod echo_http;
mod loopback;
pub(crate) mod mapper;

use std::io::Read;
use std::net::SocketAddr;

use crate::Result;
use crate::process::Process;

/// Runs in the role that the arguments name; `None` if they name none.
pub(crate) fn run_role(arguments: &[String]) -> Option<Result<()>> {
    let (role, arguments) = arguments.split_first()?;
    match role.as_str() {
        "bare" => Some(bare::run(arguments)),
        "echo-grpc" => Some(echo_grpc::run(arguments)),
        "echo-http" => Some(echo_http::run(arguments)),
        "loopback" => Some(loopback::run(arguments)),
        "mapper" => Some(mapper::run(arguments)),
        _ => None,
    }
}

/// A floor that listens on a port.
pub(crate) struct Floor {
    pub(crate) address: SocketAddr,
    _process: Process,
}

impl Floor {
    /// An empty tonic server that answers with this number of bytes.
    pub(crate) fn grpc(reply_bytes: usize) -> Result<Self> {
        Self::start("echo-grpc", reply_bytes)
    }

    /// An empty hyper server that answers with this number of bytes.
    pub(crate) fn http(reply_bytes: usize) -> Result<Self> {
        Self::start("echo-http", reply_bytes)
    }

    /// A socket that reads this number of bytes and sends them back.
    pub(crate) fn loopback(bytes: usize) -> Result<Self> {
        Self::start("loopback", bytes)
    }

    fn start(role: &str, bytes: usize) -> Result<Self> {
        let (process, address) = Process::start_role(&[role.to_owned(), bytes.to_string()])?;
        Ok(Self {
            address: address.parse()?,
            _process: process,
        })
    }
}

/// The one argument of a role that listens on a port.
fn bytes_argument(arguments: &[String]) -> Result<usize> {
    Ok(arguments
        .first()
        .ok_or("a number of bytes is missing")?
        .parse()?)
}

/// Ends this process when its parent ends.
fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
}
