//! h2load (of nghttp2) for gRPC and wrk for REST, which need less CPU time per request than any client
//! library. They have one thread each: the server has the other cores.

use std::io::Write;
use std::process::Command;
use std::time::Duration;

use tempfile::NamedTempFile;

use super::{Load, Protocol, Target};
use crate::Result;

/// gRPC's frame around a message.
const FRAME_BYTES: usize = 5;

/// Runs the tool for the target's protocol; `None` where it is not installed.
///
/// # Errors
///
/// If answers failed or had a wrong length.
pub(super) fn run(target: &Target, connections: usize, time: Duration) -> Result<Option<Load>> {
    let command = match target.call.protocol {
        Protocol::Grpc => "h2load",
        Protocol::Rest => "wrk",
    };
    if !is_installed(command) {
        return Ok(None);
    }
    match target.call.protocol {
        Protocol::Grpc => h2load(target, connections, time),
        Protocol::Rest => wrk(target, connections, time),
    }
    .map(Some)
}

fn is_installed(command: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(command).is_file())
}

fn h2load(target: &Target, connections: usize, time: Duration) -> Result<Load> {
    let mut message = NamedTempFile::new()?;
    message.write_all(&target.call.body)?;
    let text = output(
        Command::new("h2load")
            .args(["--threads=1", "--max-concurrent-streams=1"])
            .arg(format!("--clients={connections}"))
            .arg(format!("--duration={}ms", time.as_millis()))
            .arg(format!("--data={}", message.path().display()))
            .args([
                "--header=content-type: application/grpc",
                "--header=te: trailers",
            ])
            .arg(format!("http://{}{}", target.address, target.call.path)),
    )?;
    // "requests: 22698 total, 22706 started, 22698 done, 22698 succeeded, 0 failed, ..."
    let requests = line(&text, "requests: ")?;
    let done = number_before(requests, " done")?;
    let failed = number_before(requests, " failed")?;
    // "traffic: 1.65MB (1733580) total, 44.33KB (45396) headers (space savings 95.12%), 1.00MB (..."
    let traffic = line(&text, "traffic: ")?;
    let data = traffic.rsplit_once("headers").map_or("", |(_, data)| data);
    let data = data.rsplit_once('(').map_or("", |(_, number)| number);
    let data = number_before(data, ") data")?;
    let expected = (target.reply_bytes + FRAME_BYTES) as f64;
    // To h2load, gRPC's errors look like successes except for their length. Calls in flight at the end
    // might count on one side only.
    let deviation = (data / done - expected).abs() * done / expected;
    if failed > 0.0 || done == 0.0 || deviation > connections as f64 + 1.0 {
        return Err(format!("h2load: wrong answers: {requests}; {traffic}").into());
    }
    Ok(Load {
        per_second: done / time.as_secs_f64(),
        answers: done,
        tool: "h2load",
    })
}

fn wrk(target: &Target, connections: usize, time: Duration) -> Result<Load> {
    let mut body = NamedTempFile::new()?;
    body.write_all(&target.call.body)?;
    let mut script = NamedTempFile::new()?;
    write!(
        script,
        "local file = io.open('{}', 'rb')\n\
         wrk.method = 'POST'\n\
         wrk.body = file:read('*a')\n\
         wrk.headers['Content-Type'] = 'application/json'\n",
        body.path().display()
    )?;
    // wrk counts in whole seconds.
    let seconds = time.as_secs().max(1);
    let text = output(
        Command::new("wrk")
            .args(["--threads", "1", "--connections"])
            .arg(connections.to_string())
            .arg("--duration")
            .arg(format!("{seconds}s"))
            .arg("--script")
            .arg(script.path())
            .arg(format!("http://{}{}", target.address, target.call.path)),
    )?;
    if text.contains("Non-2xx") || text.contains("Socket errors") {
        return Err(format!("wrk: wrong answers: {text}").into());
    }
    let per_second = line(&text, "Requests/sec:")?.trim().parse()?;
    Ok(Load {
        per_second,
        answers: number_before(&text, " requests in ")?,
        tool: "wrk",
    })
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?}: {errors}").into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The rest of the line that begins with `start`.
fn line<'a>(text: &'a str, start: &str) -> Result<&'a str> {
    let found = text.lines().find_map(|one| one.trim().strip_prefix(start));
    found.ok_or_else(|| format!("no {start:?} in {text}").into())
}

/// The whole number just before `unit`.
fn number_before(text: &str, unit: &str) -> Result<f64> {
    let before = text.split(unit).next().unwrap_or_default();
    let digits = before.rsplit(|it: char| !it.is_ascii_digit()).next();
    let number = digits.unwrap_or_default().parse();
    number.map_err(|_| format!("no number before {unit:?} in {text}").into())
}
