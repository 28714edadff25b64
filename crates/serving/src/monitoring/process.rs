//! The process as the kernel sees it, under the names that every Prometheus client library uses.
//!
//! If the kernel does not report a value (no `/proc`), the metric is left out.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use base::metrics::family::{About, Point, Snapshot, Unit};
use base::metrics::instrument::{InstrumentKind, Reading};

/// All process metrics that are available.
pub(super) fn snapshots(started: SystemTime) -> Vec<Snapshot> {
    let started = started.duration_since(UNIX_EPOCH).ok();
    let metrics = [
        (
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            Unit::Plain,
            resident_memory_bytes().and_then(|it| i64::try_from(it).ok()),
        ),
        (
            "process_open_fds",
            "Number of open file descriptors.",
            Unit::Plain,
            open_fds(),
        ),
        (
            "process_start_time_seconds",
            "Start time of the process since the Unix epoch in seconds.",
            Unit::Nanoseconds,
            started.and_then(|it| i64::try_from(it.as_nanos()).ok()),
        ),
    ];
    let known = metrics.into_iter().filter_map(|(name, help, unit, value)| {
        Some(Snapshot {
            about: About { name, help, unit },
            kind: InstrumentKind::Gauge,
            label_names: &[],
            points: vec![Point {
                label_values: Vec::new(),
                reading: Reading::Number(value?),
            }],
        })
    });
    known.collect()
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
