//! How many file descriptors this process can open, and how they are divided.

use std::fs;

/// The limits of connections, in file descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Descriptors {
    /// For all client ports together.
    pub(super) clients: usize,
    /// For the admin port.
    pub(super) admin: usize,
}

impl Descriptors {
    /// The descriptors available now, less those for loads, logs and the server itself.
    pub(super) fn left() -> Self {
        let limit = fs::read_to_string("/proc/self/limits")
            .ok()
            .and_then(|text| soft_limit(&text));
        let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        limit.map_or(Self::of(usize::MAX), |limit| {
            Self::of(limit.saturating_sub(open))
        })
    }

    /// A quarter is for files, of which a load opens a few at a time, an eighth is for the admin port.
    fn of(left: usize) -> Self {
        let files = (left / 4).clamp(16, 1024);
        let admin = (left / 8).clamp(4, 64);
        Self {
            clients: left.saturating_sub(files + admin).max(1),
            admin,
        }
    }
}

/// `None` without a limit.
fn soft_limit(limits: &str) -> Option<usize> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    // proc_pid_limits(5).
    #[test]
    fn the_soft_limit_is_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max processes             96000                96000                processes\n\
                      Max open files            1024                 4096                 files\n";
        assert_eq!(soft_limit(limits), Some(1024));
        assert_eq!(
            soft_limit("Max open files            unlimited  unlimited  files"),
            None
        );
    }

    #[test]
    fn ports_leave_descriptors_for_files() {
        for (left, clients, admin) in [(60, 37, 7), (160, 100, 20), (1 << 20, 1_047_488, 64)] {
            assert_eq!(Descriptors::of(left), Descriptors { clients, admin });
        }
        assert_eq!(Descriptors::of(0).clients, 1);
    }
}
