//! `health`: asks a running server whether it is ready, as a container's HEALTHCHECK does.
//!
//! A health check is started beside the server and knows nothing of the flags that the container
//! was given. So the flags are read from the server's process, and its own ports are asked.
//!
//! Not here: what makes a server ready (`transport`).

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::Duration;

use super::{Command, Report};
use crate::config::{Flags, Outcome};

/// The names that the image gives the program.
const PROGRAMS: &[&str] = &["onnx_model_server", "tensorflow_model_server"];

/// For the connection and for each piece of the answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// As much of an answer as is read and shown.
const ANSWER_BYTES: u64 = 16 * 1024;

/// Asks the server that was started with `flags`; without any, the first one among the processes.
pub(super) fn run(flags: &[OsString]) -> Report {
    let flags = match flags {
        [] => first_server().ok_or("no server is running"),
        given => parse(given.to_vec()).ok_or("a server would not start with these flags"),
    };
    let checked = flags.map_err(str::to_owned).and_then(|flags| check(&flags));
    let (passed, text) = match checked {
        Ok(text) => (true, text),
        Err(text) => (false, text),
    };
    Report {
        text: format!("{}\n", text.trim_end()),
        passed,
    }
}

/// The flags of the process with the lowest id that is a server.
fn first_server() -> Option<Flags> {
    let processes = std::fs::read_dir("/proc").ok()?;
    let mut ids: Vec<u32> = processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    ids.sort_unstable();
    ids.into_iter()
        .find_map(|id| flags_of(&std::fs::read(format!("/proc/{id}/cmdline")).ok()?))
}

/// The flags in a `/proc/<id>/cmdline`, arguments that each end with a zero; `None` if that is not
/// a server.
fn flags_of(command_line: &[u8]) -> Option<Flags> {
    let command_line = command_line.strip_suffix(b"\0")?;
    let arguments: Vec<OsString> = command_line
        .split(|&byte| byte == 0)
        .map(|argument| OsString::from_vec(argument.to_vec()))
        .collect();
    let program = Path::new(arguments.first()?).file_name()?.to_str()?;
    let is_server = PROGRAMS.contains(&program) && Command::parse(arguments.clone()).is_none();
    is_server.then(|| parse(arguments[1..].to_vec())).flatten()
}

fn parse(flags: Vec<OsString>) -> Option<Flags> {
    let program = OsString::from(PROGRAMS[0]);
    match Flags::parse(std::iter::once(program).chain(flags)) {
        Outcome::Run { flags, .. } => Some(flags),
        Outcome::Usage { .. } | Outcome::Version(_) => None,
    }
}

/// What the server says of itself: `Ok` if it is ready.
fn check(flags: &Flags) -> Result<String, String> {
    let failed = |port: u16| move |error: io::Error| format!("port {port}: {error}");
    if let Some(port) = port(flags.rest_api_port) {
        return ask(port).map_err(failed(port))?;
    }
    // Nothing to ask over HTTP. Ports open when the models are available.
    let port = port(flags.port).ok_or("the server has no port")?;
    connect(port).map_err(failed(port))?;
    Ok(format!("port {port} is open"))
}

/// A flag's port, if it names one.
fn port(flag: i32) -> Option<u16> {
    u16::try_from(flag).ok().filter(|&port| port != 0)
}

/// `GET /readyz`: the body, as `Ok` for status 200.
fn ask(port: u16) -> io::Result<Result<String, String>> {
    let mut stream = connect(port)?;
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

fn connect(port: u16) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = ("localhost", port).to_socket_addrs()?.collect();
    let mut last = io::Error::other("localhost has no address");
    for address in addresses {
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
