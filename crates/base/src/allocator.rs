//! Where the server's memory comes from: small blocks from mimalloc, large ones from the system.
//!
//! A request makes some fifty small allocations on one thread, and many are freed on another, for which
//! glibc takes a lock. Large blocks are few; the system gets them back as soon as they are freed, while
//! mimalloc would keep them.
//!
//! Not here: ONNX Runtime's memory, which it takes from the system.

use std::alloc::{GlobalAlloc, Layout, System};

use mimalloc::MiMalloc;

/// The largest block that counts as small, in bytes: mimalloc has pages of 64 KiB for these. For larger
/// ones it has pages of 512 KiB, and each thread keeps some of each size.
const SMALL: usize = 8 << 10;

/// The allocator of the server's process.
#[derive(Debug)]
pub struct Allocator;

// SAFETY: each layout is served by one of two allocators that keep the trait's contract. The size alone
// decides which one, so a block is freed by the allocator that it came from.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller promises everything that the callee requires.
        unsafe {
            match layout.size() <= SMALL {
                true => MiMalloc.alloc(layout),
                false => System.alloc(layout),
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe {
            match layout.size() <= SMALL {
                true => MiMalloc.alloc_zeroed(layout),
                false => System.alloc_zeroed(layout),
            }
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; the block was allocated with this layout.
        unsafe {
            match layout.size() <= SMALL {
                true => MiMalloc.dealloc(pointer, layout),
                false => System.dealloc(pointer, layout),
            }
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: as above. A block that moves between the two is copied up to the smaller size; the
        // caller promises that the new size, rounded up to the alignment, makes a layout.
        unsafe {
            match (layout.size() <= SMALL, new_size <= SMALL) {
                (true, true) => MiMalloc.realloc(pointer, layout, new_size),
                (false, false) => System.realloc(pointer, layout, new_size),
                _ => {
                    let new_layout = Layout::from_size_align_unchecked(new_size, layout.align());
                    let new = self.alloc(new_layout);
                    if !new.is_null() {
                        new.copy_from_nonoverlapping(pointer, layout.size().min(new_size));
                        self.dealloc(pointer, layout);
                    }
                    new
                }
            }
        }
    }
}

/// Limits the freed memory that glibc keeps, unless an operator has configured it. By default it keeps
/// up to 64 MiB at the end of each of its arenas, of which there are eight for each CPU, and
/// [`release_freed`] trims only the end of the first one. To be called before there are other threads.
pub fn bound_what_is_kept() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// A larger block has pages of its own, which go back to the system as soon as it is freed.
        const OWN_PAGES: libc::c_int = 4 << 20;
        /// More free memory than this at the end of an arena goes back to the system. With less,
        /// requests of some MiB would allocate their memory again each time (`docs/internals/memory.md`).
        const FREE_END: libc::c_int = 8 << 20;
        /// One for each CPU: most blocks that threads allocate at the same time are mimalloc's.
        const MIN_ARENAS: usize = 2;
        let of_operators = [
            "MALLOC_ARENA_MAX",
            "MALLOC_MMAP_THRESHOLD_",
            "MALLOC_TRIM_THRESHOLD_",
            "GLIBC_TUNABLES",
        ];
        if of_operators.iter().all(|it| std::env::var_os(it).is_none()) {
            let cpus = std::thread::available_parallelism().map_or(MIN_ARENAS, usize::from);
            let arenas = libc::c_int::try_from(cpus.max(MIN_ARENAS)).unwrap_or(libc::c_int::MAX);
            // SAFETY: mallopt only sets glibc's own parameters.
            unsafe {
                libc::mallopt(libc::M_ARENA_MAX, arenas);
                libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_PAGES);
                libc::mallopt(libc::M_TRIM_THRESHOLD, FREE_END);
            }
        }
    }
}

/// Gives freed memory back to the system, because glibc keeps blocks of up to 32 MiB. For some
/// milliseconds this holds a lock that allocations need.
pub fn release_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim can be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [usize; 6] = [1, 100, SMALL, SMALL + 1, 4 * SMALL, 1 << 20];

    #[test]
    fn contents_outlast_a_change_of_size() {
        for from in SIZES {
            for to in SIZES {
                let layout = Layout::from_size_align(from, 64).unwrap();
                let new_layout = Layout::from_size_align(to, 64).unwrap();
                let kept = from.min(to);
                // SAFETY: the sizes are not 0, and each piece is used and freed with its layout.
                unsafe {
                    let pointer = Allocator.alloc(layout);
                    pointer.write_bytes(7, from);
                    let pointer = Allocator.realloc(pointer, layout, to);
                    assert!(pointer.addr().is_multiple_of(64));
                    let bytes = std::slice::from_raw_parts(pointer, kept);
                    assert!(bytes.iter().all(|&byte| byte == 7), "{from} to {to}");
                    Allocator.dealloc(pointer, new_layout);
                }
            }
        }
    }

    #[test]
    fn zeroed_pieces_are_zero() {
        for size in SIZES {
            let layout = Layout::from_size_align(size, 8).unwrap();
            // SAFETY: the size is not 0, and the piece is used and freed with its layout.
            unsafe {
                let dirty = Allocator.alloc(layout);
                dirty.write_bytes(7, size);
                Allocator.dealloc(dirty, layout);
                let pointer = Allocator.alloc_zeroed(layout);
                let bytes = std::slice::from_raw_parts(pointer, size);
                assert!(bytes.iter().all(|&byte| byte == 0));
                Allocator.dealloc(pointer, layout);
            }
        }
    }
}
