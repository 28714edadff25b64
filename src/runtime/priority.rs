//! The priority of threads, which one thread may lower for another. On Linux alone threads have one of
//! their own.
//!
//! A lower priority is for good: getting rid of it takes privileges. And threads inherit it from the
//! thread that starts them.
//!
//! Not here: who has to have which priority (`run_threads`), loads (`lifecycle::low_priority`).

#[cfg(target_os = "linux")]
pub(super) use self::linux::ThreadNumber;
#[cfg(not(target_os = "linux"))]
pub(super) use self::other::ThreadNumber;

#[cfg(target_os = "linux")]
mod linux {
    /// The end of the scale.
    const MAX_NICENESS: i32 = 19;
    /// 0.1 s: Linux takes no more.
    const LONGEST_SLICE_NANOS: u64 = 100_000_000;

    /// What the system calls a thread. It may be another thread's once that one has ended.
    #[derive(Clone, Copy, Debug)]
    pub(in crate::runtime) struct ThreadNumber(libc::pid_t);

    impl ThreadNumber {
        pub(in crate::runtime) fn current() -> Self {
            // SAFETY: gettid takes nothing and touches no memory.
            Self(unsafe { libc::gettid() })
        }

        /// Makes a thread that has not ended nicer by so much, and its time slices as long as they can be:
        /// a thread with shorter ones takes the CPU as soon as it wakes up. Returns whether it is nicer.
        pub(in crate::runtime) fn lower(self, by: i32) -> bool {
            let Ok(id) = libc::id_t::try_from(self.0) else {
                return false;
            };
            // SAFETY: both take numbers and touch no memory. -1 is a niceness, as well as the answer
            // where there is no such thread, in which case the second call fails.
            let status = unsafe {
                let niceness = libc::getpriority(libc::PRIO_PROCESS, id);
                let nicer = niceness.saturating_add(by).min(MAX_NICENESS);
                libc::setpriority(libc::PRIO_PROCESS, id, nicer)
            };
            if status == 0 {
                self.lengthen_slices();
            }
            status == 0
        }

        /// Linux has slices for each thread from 6.12 on, and a preference for the shorter; before, it
        /// takes no notice of this. A thread of another policy stays as it is.
        fn lengthen_slices(self) {
            let Ok(size) = u32::try_from(size_of::<libc::sched_attr>()) else {
                return;
            };
            let mut attributes = libc::sched_attr {
                size: 0,
                sched_policy: 0,
                sched_flags: 0,
                sched_nice: 0,
                sched_priority: 0,
                sched_runtime: 0,
                sched_deadline: 0,
                sched_period: 0,
            };
            // SAFETY: the system writes no more than the size that it is told, which is the value's.
            let known = unsafe {
                libc::syscall(
                    libc::SYS_sched_getattr,
                    self.0,
                    &raw mut attributes,
                    size,
                    0,
                )
            };
            if known != 0 || i32::try_from(attributes.sched_policy) != Ok(libc::SCHED_OTHER) {
                return;
            }
            attributes.size = size;
            attributes.sched_runtime = LONGEST_SLICE_NANOS;
            // SAFETY: the system reads as much as the value's own field says, which is its size.
            unsafe { libc::syscall(libc::SYS_sched_setattr, self.0, &raw const attributes, 0) };
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    #[derive(Clone, Copy, Debug)]
    pub(in crate::runtime) struct ThreadNumber;

    impl ThreadNumber {
        pub(in crate::runtime) fn current() -> Self {
            Self
        }

        pub(in crate::runtime) fn lower(self, _by: i32) -> bool {
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

    /// That of this thread: field 19 of its `stat`, see proc_pid_stat(5).
    pub(in crate::runtime) fn niceness() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let after_name = stat.rsplit_once(')').unwrap().1;
        let fields: Vec<_> = after_name.split_whitespace().collect();
        fields[16].parse().unwrap()
    }

    #[test]
    fn another_thread_gets_nicer_by_so_much() {
        let before = niceness();
        let (sender, receiver) = mpsc::channel();
        let (go_on, wait) = mpsc::channel();
        let thread = thread::spawn(move || {
            sender.send(ThreadNumber::current()).unwrap();
            wait.recv().unwrap();
            niceness()
        });
        let number = receiver.recv().unwrap();
        assert!(number.lower(3));
        assert!(number.lower(4));
        go_on.send(()).unwrap();
        // 19 is the end of the scale.
        assert_eq!(thread.join().unwrap(), (before + 7).min(19));
        assert_eq!(niceness(), before);
    }
}
