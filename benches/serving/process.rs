//! Child processes, and their resource usage according to the system.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use crate::Result;

/// A process that is killed when this value is dropped.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a program whose output is discarded.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        Ok(Self { child })
    }

    /// Starts this program in another role, and returns the first line that it prints.
    pub(crate) fn start_role(arguments: &[String]) -> Result<(Self, String)> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            // The role ends when this end of the pipe closes, even if this process crashes.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().ok_or("no output of the child")?;
        let process = Self { child };
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        if line.is_empty() {
            return Err(format!("the role {arguments:?} said nothing").into());
        }
        Ok((process, line.trim().to_owned()))
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It might already have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address of this machine on which no process listens.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?)
}

/// Seconds of CPU time that a process has used.
pub(crate) fn cpu_seconds(process: u32) -> Option<f64> {
    const UTIME: usize = 11;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in parentheses, can contain any characters.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    // SAFETY: has no preconditions.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    Some((ticks(UTIME)? + ticks(UTIME + 1)?) / per_second)
}

/// A line of `/proc/PID/status`, in MB (of 10^6 bytes).
pub(crate) fn megabytes(process: u32, line: &str) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let found = status.lines().find_map(|one| one.strip_prefix(line))?;
    let kilobytes = found
        .trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<f64>()
        .ok()?;
    Some(kilobytes * 1024.0 / 1e6)
}
