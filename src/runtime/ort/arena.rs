//! The memory that runs work in: one arena for all sessions, which gives back what a single large
//! request made it grow by.
//!
//! Weights are not in it: they come and go with their sessions.

use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ort::AsPointer;
use ort::environment::Environment;
use ort::sys::{OrtAllocatorType, OrtEnv, OrtMemType};

use super::status::{Failure, check};

/// `arena_extend_strategy`: by what is asked for, not by powers of two.
const SAME_AS_REQUESTED: usize = 1;
/// How often a run of ordinary size trims the arena. The next one has to fetch its memory anew,
/// which a run in ten seconds can afford.
const TRIM_INTERVAL: Duration = Duration::from_secs(10);
/// Requests below this size are never out of the ordinary.
const MIN_OUTLIER_BYTES: usize = 256 << 10;
/// So many times as large as the request before it, a request is out of the ordinary.
const OUTLIER_FACTOR: usize = 4;

/// Makes the arena that sessions with `session.use_env_allocators` share.
pub(super) fn register(environment: &Environment) -> Result<(), Failure> {
    let api = ort::api();
    let keys = [c"arena_extend_strategy".as_ptr()];
    let values = [SAME_AS_REQUESTED];
    let (mut config, mut memory) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: keys and values have one entry each. What is made here is released here; ONNX Runtime
    // keeps copies. The environment lives as long as the process.
    unsafe {
        check((api.CreateArenaCfgV2)(
            keys.as_ptr(),
            values.as_ptr(),
            keys.len(),
            &mut config,
        ))?;
        let made = check((api.CreateCpuMemoryInfo)(
            OrtAllocatorType::OrtArenaAllocator,
            OrtMemType::OrtMemTypeDefault,
            &mut memory,
        ))
        .and_then(|()| {
            let environment = environment.ptr().cast::<OrtEnv>().cast_mut();
            check((api.CreateAndRegisterAllocator)(
                environment,
                memory,
                config,
            ))
        });
        (api.ReleaseMemoryInfo)(memory);
        (api.ReleaseArenaCfg)(config);
        made
    }
}

/// Decides after which runs of a graph the arena is trimmed.
#[derive(Debug, Default)]
pub(super) struct Trimming {
    /// Of the run before.
    last_input_bytes: AtomicUsize,
}

impl Trimming {
    /// Whether a run on inputs of this size is to be followed by a trim: one much larger than the
    /// one before it, and now and then another.
    pub(super) fn is_due(&self, input_bytes: usize) -> bool {
        self.is_outlier(input_bytes) || is_time()
    }

    fn is_outlier(&self, input_bytes: usize) -> bool {
        let before = self.last_input_bytes.swap(input_bytes, Ordering::Relaxed);
        input_bytes >= MIN_OUTLIER_BYTES && before > 0 && input_bytes / OUTLIER_FACTOR >= before
    }
}

/// True once in each interval, for whoever asks first.
fn is_time() -> bool {
    static START: OnceLock<Instant> = OnceLock::new();
    static LAST_SECONDS: AtomicU64 = AtomicU64::new(0);
    let now = START.get_or_init(Instant::now).elapsed().as_secs();
    let last = LAST_SECONDS.load(Ordering::Relaxed);
    let order = Ordering::Relaxed;
    now - last.min(now) >= TRIM_INTERVAL.as_secs()
        && LAST_SECONDS
            .compare_exchange(last, now, order, order)
            .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_larger_request_is_out_of_the_ordinary() {
        let trimming = Trimming::default();
        for ordinary in [64 << 20, 32 << 20, 1 << 20, 3 << 20] {
            assert!(!trimming.is_outlier(ordinary), "{ordinary}");
        }
        assert!(trimming.is_outlier(12 << 20));
        assert!(!trimming.is_outlier(12 << 20), "the second of its kind");
    }

    #[test]
    fn small_requests_are_never_out_of_the_ordinary() {
        let trimming = Trimming::default();
        assert!(!trimming.is_outlier(1));
        assert!(!trimming.is_outlier(MIN_OUTLIER_BYTES - 1));
    }
}
