//! Shared by all targets: the limit on the memory that an input can make the server allocate.
//!
//! libFuzzer's own limit (`-malloc_limit_mb`) needs a sanitizer, and the resident memory does not show
//! memory that is allocated but not yet written to.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

pub use libfuzzer_sys::fuzz_target;

/// The limit for a request: it has up to 32 KiB here, and an expansion that the server allows needs up
/// to 64 MiB, of which a check can hold three at a time.
pub const REQUEST: usize = 256 << 20;
/// The limit for a file that comes with a model: some hundred constants, of up to 4 MiB each.
pub const FILE: usize = 3 << 30;

/// Limits all allocations of Rust code together from now on.
pub fn bound(bytes: usize) {
    MAX_BYTES.store(bytes, Ordering::Relaxed);
}

static MAX_BYTES: AtomicUsize = AtomicUsize::new(usize::MAX);

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

static TAKEN: AtomicUsize = AtomicUsize::new(0);
static IS_OVER: AtomicBool = AtomicBool::new(false);

struct Bounded;

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller's promises are those that the callee requires.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        take(size);
        TAKEN.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        TAKEN.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Counts an allocation. Beyond the limit the process ends, and libFuzzer keeps the input.
fn take(bytes: usize) {
    let taken = TAKEN.fetch_add(bytes, Ordering::Relaxed) + bytes;
    // Printing allocates memory, too.
    if taken > MAX_BYTES.load(Ordering::Relaxed) && !IS_OVER.swap(true, Ordering::Relaxed) {
        eprintln!("{taken} bytes taken, the last {bytes} in one allocation");
        std::process::abort();
    }
}
