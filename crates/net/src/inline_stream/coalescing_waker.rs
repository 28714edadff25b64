//! The waker of a connection and of the stream that its task polls.
//!
//! The two wake each other all the time. If they woke the task that polls them, tokio would conclude that the
//! task is yielding to others, and wake another worker to steal it. So wake-ups are only recorded while the
//! task is polling.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Wake, Waker};

use futures_util::task::AtomicWaker;

/// Wakes the connection's task. While that task is polling, it only records that it was notified.
#[derive(Default)]
pub(super) struct CoalescingWaker {
    task: AtomicWaker,
    /// One of the constants below.
    state: AtomicU8,
}

const ARMED: u8 = 0;
const POLLING: u8 = 1;
const NOTIFIED: u8 = 2;

impl CoalescingWaker {
    /// `task` is woken from now on.
    pub(super) fn register(&self, task: &Waker) {
        self.task.register(task);
    }

    pub(super) fn begin_polling(&self) {
        self.state.store(POLLING, Ordering::SeqCst);
    }

    /// Returns whether it was notified while the task was polling.
    pub(super) fn end_polling(&self) -> bool {
        self.state.swap(ARMED, Ordering::SeqCst) == NOTIFIED
    }
}

impl Wake for CoalescingWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let order = Ordering::SeqCst;
        let noted = self.state.compare_exchange(POLLING, NOTIFIED, order, order);
        if noted == Err(ARMED) {
            self.task.wake();
        }
    }
}
