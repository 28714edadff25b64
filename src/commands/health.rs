//! `health`: asks a running server whether it is ready, as a container's HEALTHCHECK does.
//!
//! A health check runs in the server's container without knowing the server's flags. So it reads them
//! from the server's process, and asks the ports that they name.
//!
//! Not here: when a server is ready (`api`).

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::Duration;

use super::{Command, Report};
use crate::config::{Flags, ParsedFlags};

/// The names of the program in the image.
const PROGRAMS: &[&str] = &["onnx_model_server", "tensorflow_model_server"];

/// The timeout of the connection and of each read.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The maximum length of an answer that is read and shown.
const ANSWER_BYTES: u64 = 16 * 1024;

/// Asks the server that was started with `flags`; without flags, the first server among the processes.
pub(super) fn run(flags: &[OsString]) -> Report {
    let flags = match flags {
        [] => first_server().ok_or_else(|| "no server is running".to_owned()),
        given => parse(given.to_vec()),
    };
    let checked = flags.and_then(|flags| check(&flags));
    let (passed, text) = match checked {
        Ok(text) => (true, text),
        Err(text) => (false, text),
    };
    Report {
        text: format!("{}\n", text.trim_end()),
        passed,
    }
}

/// The flags of the server process with the lowest id.
fn first_server() -> Option<Flags> {
    let processes = std::fs::read_dir("/proc").ok()?;
    let mut ids: Vec<u32> = processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    ids.sort_unstable();
    ids.into_iter()
        .find_map(|id| flags_of(&std::fs::read(format!("/proc/{id}/cmdline")).ok()?))
}

/// The flags in a `/proc/<id>/cmdline`, arguments that each end with a zero; `None` if the process is
/// not a server.
fn flags_of(command_line: &[u8]) -> Option<Flags> {
    let command_line = command_line.strip_suffix(b"\0")?;
    let arguments: Vec<OsString> = command_line
        .split(|&byte| byte == 0)
        .map(|argument| OsString::from_vec(argument.to_vec()))
        .collect();
    let program = Path::new(arguments.first()?).file_name()?.to_str()?;
    let is_server = PROGRAMS.contains(&program) && Command::parse(arguments.clone()).is_none();
    is_server
        .then(|| parse(arguments[1..].to_vec()).ok())
        .flatten()
}

/// The flags of a server, or the reason why it would not start with them.
fn parse(flags: Vec<OsString>) -> Result<Flags, String> {
    let would_not = "a server would not start with these flags";
    let program = OsString::from(PROGRAMS[0]);
    match Flags::parse(std::iter::once(program).chain(flags)) {
        ParsedFlags::Run { flags, .. } => Ok(flags),
        ParsedFlags::Usage { errors, .. } if !errors.is_empty() => {
            Err(format!("{would_not}: {}", errors.join("; ")))
        }
        ParsedFlags::Usage { .. } | ParsedFlags::Version(_) => Err(would_not.to_owned()),
    }
}

/// The server's own answer: `Ok` if it is ready.
fn check(flags: &Flags) -> Result<String, String> {
    let admin_host = match flags.admin_host.as_str() {
        "" => &flags.rest_api_host,
        host => host,
    };
    // TLS is not supported here, because the certificates to trust and to present are not known.
    let plain_rest_port = match flags.rest_api_use_ssl {
        true => 0,
        false => flags.rest_api_port,
    };
    let http = LocalPort::open(admin_host, flags.admin_port)
        .or_else(|| LocalPort::open(&flags.rest_api_host, plain_rest_port));
    if let Some(port) = http {
        return port.ask().map_err(|error| format!("{port}: {error}"))?;
    }
    // Without a plain HTTP port only a connection can be tried: the gRPC port opens when the models are
    // available.
    let port = LocalPort::open(&flags.grpc_host, flags.port).ok_or("the server has no port")?;
    match port.connect() {
        Ok(_) => Ok(format!("{port} is open")),
        Err(error) => Err(format!("{port}: {error}")),
    }
}

/// Where one of the server's ports is reached from this machine.
struct LocalPort {
    host: String,
    number: u16,
}

impl LocalPort {
    /// `None` if the flag disables the port.
    fn open(host: &str, number: i32) -> Option<Self> {
        let number = u16::try_from(number).ok().filter(|&number| number != 0)?;
        let is_any = host.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified());
        let host = if host.is_empty() || is_any {
            "localhost"
        } else {
            host
        };
        Some(Self {
            host: host.to_owned(),
            number,
        })
    }

    /// `GET /readyz`: the body, as `Ok` for status 200.
    fn ask(&self) -> io::Result<Result<String, String>> {
        let mut stream = self.connect()?;
        stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES).read_to_end(&mut answer)?;

        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status_line = head.lines().next().unwrap_or_default();
        Ok(match status_line.split(' ').nth(1) {
            Some("200") => Ok(body.to_owned()),
            _ => Err(format!("{status_line}\n{body}")),
        })
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::other("the host has no address");
        for address in (self.host.as_str(), self.number).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, TIMEOUT) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(TIMEOUT))?;
                    stream.set_write_timeout(Some(TIMEOUT))?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl fmt::Display for LocalPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {}", self.number)
    }
}
