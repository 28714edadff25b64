//! Work on large messages, which would keep a worker's other connections waiting.

/// Messages from this size on are decoded and encoded where blocking is allowed.
const BLOCKING_BYTES: usize = 256 << 10;

/// Runs `work` on this many bytes in place, and tells the runtime first if that can take long.
pub fn off_worker<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes < BLOCKING_BYTES {
        work()
    } else {
        tokio::task::block_in_place(work)
    }
}
