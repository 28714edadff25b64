//! The priority of threads and the CPUs they run on, which one thread can reduce for another. Only Linux
//! has both per thread.
//!
//! A lower priority is permanent, because raising it again needs privileges. And threads inherit both
//! from the thread that starts them.
//!
//! Not here: which thread gets which priority (`blocking_pool`), loads
//! (`serving::lifecycle::low_priority`).

#[cfg(target_os = "linux")]
pub(super) use self::linux::ThreadNumber;
#[cfg(not(target_os = "linux"))]
pub(super) use self::other::ThreadNumber;

#[cfg(target_os = "linux")]
mod linux {
    /// The end of the scale.
    const MAX_NICENESS: i32 = 19;

    /// The system's id of a thread. After that thread has ended, another one can get the same id.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct ThreadNumber(libc::pid_t);

    impl ThreadNumber {
        pub(crate) fn current() -> Self {
            // SAFETY: gettid takes nothing and touches no memory.
            Self(unsafe { libc::gettid() })
        }

        /// Raises the niceness of a thread that has not ended by this much. Returns whether it is
        /// nicer.
        pub(crate) fn lower(self, by: i32) -> bool {
            let Ok(id) = libc::id_t::try_from(self.0) else {
                return false;
            };
            // SAFETY: both take numbers and touch no memory. -1 can be a niceness, or mean that the
            // thread does not exist, in which case the second call fails.
            let status = unsafe {
                let niceness = libc::getpriority(libc::PRIO_PROCESS, id);
                let nicer = niceness.saturating_add(by).min(MAX_NICENESS);
                libc::setpriority(libc::PRIO_PROCESS, id, nicer)
            };
            status == 0
        }

        /// Takes one of its CPUs from a thread that has not ended: the one with the highest number.
        /// Returns whether it did; a thread keeps its last CPU.
        pub(crate) fn leave_one_cpu(self) -> bool {
            let size = size_of::<libc::cpu_set_t>();
            // SAFETY: a set of CPUs is an array of numbers, for which zeros are values. The pointers are to
            // a local of the given size, and the loop stays below the number of bits that it has.
            unsafe {
                let mut cpus = std::mem::zeroed::<libc::cpu_set_t>();
                // Fails on machines with more CPUs than the set has bits.
                if libc::sched_getaffinity(self.0, size, &raw mut cpus) != 0
                    || libc::CPU_COUNT(&cpus) < 2
                {
                    return false;
                }
                let last = (0..8 * size).rfind(|cpu| libc::CPU_ISSET(*cpu, &cpus));
                last.is_some_and(|cpu| {
                    libc::CPU_CLR(cpu, &mut cpus);
                    libc::sched_setaffinity(self.0, size, &raw const cpus) == 0
                })
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct ThreadNumber;

    impl ThreadNumber {
        pub(crate) fn current() -> Self {
            Self
        }

        pub(crate) fn lower(self, _by: i32) -> bool {
            false
        }

        pub(crate) fn leave_one_cpu(self) -> bool {
            false
        }
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
pub(super) mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// The niceness of this thread: field 19 of its `stat`, see proc_pid_stat(5).
    pub(crate) fn niceness() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let after_name = stat.rsplit_once(')').unwrap().1;
        let fields: Vec<_> = after_name.split_whitespace().collect();
        fields[16].parse().unwrap()
    }

    /// The number of CPUs that this thread can use, from its `status`, see proc_pid_status(5).
    pub(crate) fn cpus() -> usize {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let mut lines = status.lines();
        let list = lines.find_map(|it| it.strip_prefix("Cpus_allowed_list:"));
        let ranges = list.unwrap().trim().split(',').map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            last.parse::<usize>().unwrap() + 1 - first.parse::<usize>().unwrap()
        });
        ranges.sum()
    }

    /// The answer of another thread after a change to it.
    fn after<T: Send + 'static>(change: impl FnOnce(ThreadNumber), look: fn() -> T) -> T {
        let (sender, receiver) = mpsc::channel();
        let (go_on, wait) = mpsc::channel();
        let thread = thread::spawn(move || {
            sender.send(ThreadNumber::current()).unwrap();
            wait.recv().unwrap();
            look()
        });
        change(receiver.recv().unwrap());
        go_on.send(()).unwrap();
        thread.join().unwrap()
    }

    #[test]
    fn another_thread_loses_all_cpus_but_one() {
        let before = cpus();
        let change = |thread: ThreadNumber| {
            for _ in 1..before {
                assert!(thread.leave_one_cpu());
            }
            assert!(!thread.leave_one_cpu());
        };
        assert_eq!(after(change, cpus), 1);
        assert_eq!(cpus(), before);
    }

    #[test]
    fn another_thread_gets_nicer_by_so_much() {
        let before = niceness();
        let change = |thread: ThreadNumber| {
            assert!(thread.lower(3));
            assert!(thread.lower(4));
        };
        // 19 is the end of the scale.
        assert_eq!(after(change, niceness), (before + 7).min(19));
        assert_eq!(niceness(), before);
    }
}
