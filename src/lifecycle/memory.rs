//! Memory that loads and unloads leave behind.
//!
//! A load works with copies of the weights that it frees again, and glibc keeps blocks of up to
//! 32 MiB for later.

/// Gives freed memory back to the system.
pub(super) fn release_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
