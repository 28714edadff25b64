//! The server under test, and its peers.

use std::fmt::Write;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Result;
use crate::load::client::Connection;
use crate::load::{Protocol, Target};
use crate::models::{add_one, long, only_version, onnxruntime, served, write};
use crate::process::{Process, free_address};
use crate::requests::Input;

/// The longest wait for a server to start.
const START_UP: Duration = Duration::from_secs(60);

/// The models on disk, and the folder for the generated ones.
pub(crate) struct Models {
    folder: TempDir,
    /// The file of the long model.
    pub(crate) long: PathBuf,
    /// The file of MNIST.
    pub(crate) mnist: PathBuf,
}

impl Models {
    /// Writes the generated models. The long model has this many products.
    pub(crate) fn prepare(long_products: usize) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        write(&folder.path().join("add_one"), &add_one())?;
        Ok(Self {
            long: write(&folder.path().join("long"), &long(long_products))?,
            mnist: only_version(&served("mnist"))?,
            folder,
        })
    }

    /// A folder for further files.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Every model's name and base path.
    fn all(&self) -> [(&'static str, PathBuf); 4] {
        [
            ("half_plus_two", served("half_plus_two")),
            ("mnist", served("mnist")),
            ("add_one", self.folder().join("add_one")),
            ("long", self.folder().join("long")),
        ]
    }

    /// A server of all models, with further flags.
    pub(crate) fn start(&self, flags: &[String]) -> Result<Server> {
        let mut text = String::from("model_config_list {\n");
        for (name, base_path) in self.all() {
            writeln!(
                text,
                "config {{ name: '{name}' base_path: '{}' model_platform: 'tensorflow' }}",
                base_path.display()
            )?;
        }
        text.push_str("}\n");
        let config = self.folder().join("models.config");
        std::fs::write(&config, text)?;
        let mut all = vec![format!("--model_config_file={}", config.display())];
        all.extend_from_slice(flags);
        Server::start(&all)
    }
}

/// The release binary as a child process.
pub(crate) struct Server {
    process: Process,
    grpc: SocketAddr,
    rest: SocketAddr,
}

impl Server {
    /// Starts it and waits until it listens, which it does once its models are loaded.
    pub(crate) fn start(flags: &[String]) -> Result<Self> {
        let (grpc, rest) = (free_address()?, free_address()?);
        let mut command = Command::new(env!("CARGO_BIN_EXE_onnx_model_server"));
        command
            .arg(format!("--port={}", grpc.port()))
            .arg(format!("--rest_api_port={}", rest.port()))
            .arg(format!("--onnxruntime_library={}", onnxruntime().display()))
            .args(flags)
            // The log shows only loads and unloads; to find out why one failed, start the server by
            // hand.
            .stderr(Stdio::null());
        let mut process = Process::start(&mut command)?;
        let deadline = Instant::now() + START_UP;
        while TcpStream::connect(grpc).is_err() || TcpStream::connect(rest).is_err() {
            if process.has_ended() || Instant::now() > deadline {
                return Err(format!("the server did not start with {flags:?}").into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Self {
            process,
            grpc,
            rest,
        })
    }

    pub(crate) fn process(&self) -> u32 {
        self.process.id()
    }

    /// A request to this server, after it was answered correctly once.
    pub(crate) fn target(&self, input: &Input, protocol: Protocol) -> Result<Target> {
        let address = match protocol {
            Protocol::Grpc => self.grpc,
            Protocol::Rest => self.rest,
        };
        let target = checked(address, input, protocol)?;
        Ok(Target {
            process: Some(self.process.id()),
            ..target
        })
    }
}

/// A request to the server that `PEER_GRPC` or `PEER_REST` names; `None` if the variable is not set.
pub(crate) fn peer(input: &Input, protocol: Protocol) -> Option<Result<Target>> {
    let variable = match protocol {
        Protocol::Grpc => "PEER_GRPC",
        Protocol::Rest => "PEER_REST",
    };
    let peer = std::env::var(variable).ok()?;
    let target = || {
        let address = peer.to_socket_addrs()?.next();
        checked(address.ok_or("the peer has no address")?, input, protocol)
    };
    Some(target())
}

/// Sends the request once, to check that it is answered and to get the length of the answer.
fn checked(address: SocketAddr, input: &Input, protocol: Protocol) -> Result<Target> {
    let mut target = Target {
        address,
        call: input.call(protocol),
        reply_bytes: 0,
        process: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let reply = runtime.block_on(async { Connection::open(&target).await?.call().await })?;
    if reply.is_empty() {
        return Err("an empty answer".into());
    }
    target.reply_bytes = reply.len();
    Ok(target)
}
