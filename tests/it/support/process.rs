//! The program as a process of its own.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use super::server::onnxruntime;

/// The longest wait for the process to do something.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(180);

fn command(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onnx_model_server"));
    command
        .arg(format!("--onnxruntime_library={}", onnxruntime().display()))
        .args(flags)
        .env_remove("TF_CPP_MIN_LOG_LEVEL")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A running program; killed when dropped.
pub(crate) struct Process {
    child: Child,
    /// Lines of stderr.
    log: Receiver<String>,
}

impl Process {
    /// Runs the program to its end. Its output is short enough for the pipes.
    pub(crate) fn run(flags: &[&str]) -> Output {
        let child = command(flags).spawn().expect("the program");
        let (_, log) = mpsc::channel();
        let mut process = Self { child, log };
        let status = process.wait();
        let mut output = Output {
            status,
            stdout: Vec::new(),
            stderr: Vec::new(),
        };
        let stdout = process.child.stdout.take();
        let stderr = process.child.stderr.take();
        stdout
            .expect("a pipe")
            .read_to_end(&mut output.stdout)
            .unwrap();
        stderr
            .expect("a pipe")
            .read_to_end(&mut output.stderr)
            .unwrap();
        output
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn start(base_path: &Path, flags: &[&str], grpc: u16, rest: u16) -> Self {
        Self::spawn(command(flags), base_path, grpc, rest)
    }

    /// The library is named only by the environment: `library`.
    #[cfg(feature = "tract")]
    pub(crate) fn start_with_library_path(
        library: &str,
        base_path: &Path,
        grpc: u16,
        rest: u16,
    ) -> Self {
        // The last of several flags counts.
        let mut command = command(&["--onnxruntime_library="]);
        command.env("ORT_DYLIB_PATH", library);
        Self::spawn(command, base_path, grpc, rest)
    }

    fn spawn(mut command: Command, base_path: &Path, grpc: u16, rest: u16) -> Self {
        let base_path = format!("--model_base_path={}", base_path.display());
        let ports = [format!("--port={grpc}"), format!("--rest_api_port={rest}")];
        let mut child = command
            .arg(base_path)
            .args(ports)
            .spawn()
            .expect("the program");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let (sender, log) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                // Reads to the end even if the receiver is gone, because a full pipe would stop the
                // program.
                let _ = sender.send(line);
            }
        });
        Self { child, log }
    }

    /// Waits for a line of the log that contains `text`.
    pub(crate) fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + TIMEOUT;
        let mut seen = String::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.log.recv_timeout(left) {
                Ok(line) if line.contains(text) => return,
                Ok(line) => seen += &format!("{line}\n"),
                Err(error) => panic!("no {text:?} in the log ({error}):\n{seen}"),
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.unwrap().success());
    }

    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the program does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn stop_and_read_stdout(&mut self) -> String {
        self.signal("TERM");
        let mut text = String::new();
        let mut stdout = self.child.stdout.take().expect("a pipe");
        stdout.read_to_string(&mut text).unwrap();
        self.wait();
        text
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It might already have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}
