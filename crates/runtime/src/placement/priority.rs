//! The priority of threads, which one thread can lower for another. Only Linux has a priority per
//! thread.
//!
//! A lower priority is permanent, because raising it again needs privileges. And threads inherit it
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
