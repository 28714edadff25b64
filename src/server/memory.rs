//! How much memory is available to this process, and how it returns unused memory.

use std::fs;
use std::time::Duration;

use tokio::sync::watch;

use base::allocator;
use net::in_flight::InFlight;
use net::limit::LoadShed;
use runtime;
use serving::monitoring::resident_memory_bytes;

/// How often to check for unused memory. Returning it holds a lock that allocations need, for some
/// milliseconds.
const INTERVAL: Duration = Duration::from_secs(2);
/// The number of checks after which memory is returned even if no large request has ended, or others
/// are running.
const MAX_SKIPPED: u32 = 5;
/// The growth since the last release that is worth returning even if no request has come: connections
/// can use memory before they send one.
const MIN_GROWTH: u64 = 16 << 20;

/// Returns unused memory in pauses between large requests, until the server stops. Also after the last
/// request: an idle server holds no more than it needs.
pub(super) async fn give_back(
    load_shed: LoadShed,
    in_flight: InFlight,
    mut stopped: watch::Receiver<bool>,
) {
    let (mut large_before, mut begun_before, mut skipped, mut left) = (0, 0, 0, 0);
    loop {
        tokio::select! {
            // An error means that the server has stopped.
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        let (large, is_quiet) = load_shed.large_requests();
        if !(large != large_before && is_quiet) && skipped < MAX_SKIPPED {
            skipped += 1;
            continue;
        }
        // Requests in flight do not count until they have ended: only then do they leave memory behind.
        let begun = in_flight.begun().wrapping_sub(in_flight.count());
        let is_used = begun != begun_before;
        (large_before, begun_before, skipped) = (large, begun, 0);
        let released = tokio::task::spawn_blocking(move || {
            runtime::release_unused();
            let resident = || resident_memory_bytes().unwrap_or_default();
            let before = resident();
            if !is_used && before <= left + MIN_GROWTH {
                return before.min(left);
            }
            allocator::release_freed();
            resident()
        });
        // Its errors have been logged.
        left = released.await.unwrap_or_default();
    }
}

/// The limit of the control group, or else the machine's memory; `None` if neither can be read.
pub(super) fn available_bytes() -> Option<u64> {
    let of_group = ["/sys/fs/cgroup/memory.max", MEMORY_V1]
        .into_iter()
        .find_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
    let of_machine = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| total_bytes(&text));
    // Without a limit, cgroup v1 reports a huge number.
    of_group.into_iter().chain(of_machine).min()
}

const MEMORY_V1: &str = "/sys/fs/cgroup/memory/memory.limit_in_bytes";

fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    // proc_meminfo(5).
    #[test]
    fn the_machines_memory_is_read() {
        let meminfo = "MemTotal:       24576000 kB\nMemFree:         1000 kB\n";
        assert_eq!(total_bytes(meminfo), Some(24_576_000 * 1024));
        assert_eq!(total_bytes("MemFree: 1 kB\n"), None);
    }
}
