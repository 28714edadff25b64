//! The program and its process, the latter as the kernel sees it and under the names that every
//! Prometheus client library uses.
//!
//! If the kernel does not report a value (no `/proc`), the metric is left out.

use std::fs;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base::metrics::family::About;
use base::metrics::registry::{Read, Registry};

/// Puts the metrics of a process that started at `started` on the page.
pub(super) fn register(registry: &Registry, started: SystemTime) {
    let build_info = Read::gauge(
        About::new(
            "onnx_model_server_build_info",
            "Always 1; the server's version is in the label.",
        ),
        || Some(1),
    );
    registry.register(Arc::new(
        build_info.with_labels(&[("version", env!("CARGO_PKG_VERSION"))]),
    ));

    registry.register(Arc::new(Read::gauge(
        About::new(
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
        ),
        || i64::try_from(resident_memory_bytes()?).ok(),
    )));
    registry.register(Arc::new(Read::gauge(
        About::new("process_open_fds", "Number of open file descriptors."),
        open_fds,
    )));
    registry.register(Arc::new(Read::gauge(
        About::new(
            "process_start_time_seconds",
            "Start time of the process since the Unix epoch in seconds.",
        ),
        move || i64::try_from(started.duration_since(UNIX_EPOCH).ok()?.as_nanos()).ok(),
    )));
}

/// The resident memory of this process; `None` if the kernel does not report it.
pub fn resident_memory_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

fn open_fds() -> Option<i64> {
    i64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()
}
