//! A loader that refuses what would take the process past its memory limit.
//!
//! What a load needs shows only once it is done, when the kernel may have ended the process
//! already. So it is estimated from the files of the version, as the original does
//! (`bundle_factory_util.cc`, 1.2 times their bytes), and compared with what is resident at that
//! moment and what the loads under way may come to need. Those hold memory for a while only: as in
//! the original, a load that does not fit beside them waits for them
//! (`BasicManager::ReserveResources`).
//!
//! Not here: loading (the wrapped loader), retries (`manager`), what requests take (`transport`).

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::Loader;
use super::memory::release_freed;
use super::source::storage::file_bytes;
use crate::error::{Code, Result, ServingError};
use crate::id::ServableId;
use crate::servable::Servable;

/// How many bytes a load may come to need for each byte of its files: the most that was measured,
/// for the file as it is read, the weights and what kernels make of them (`docs/reliability.md`).
const NEED_PER_FILE_BYTE: u64 = 3;

const MIB: u64 = 1 << 20;

/// Loads what fits into `--model_memory_limit_mb`.
pub struct MemoryLimitLoader {
    inner: Arc<dyn Loader>,
    limit_bytes: u64,
    /// What the process has resident; `None` where the system does not tell, which counts as 0.
    resident_bytes: fn() -> Option<u64>,
    under_way: Mutex<UnderWay>,
    ended: Condvar,
}

/// The loads that were let through and have not ended.
#[derive(Default)]
struct UnderWay {
    loads: usize,
    need_bytes: u64,
}

impl MemoryLimitLoader {
    /// Wraps `inner`. `resident_bytes` says what the process has resident.
    pub fn new(
        inner: Arc<dyn Loader>,
        limit_bytes: u64,
        resident_bytes: fn() -> Option<u64>,
    ) -> Self {
        Self {
            inner,
            limit_bytes,
            resident_bytes,
            under_way: Mutex::default(),
            ended: Condvar::new(),
        }
    }

    /// Returns once a load of `need_bytes` fits beside everything else.
    ///
    /// # Errors
    ///
    /// `RESOURCE_EXHAUSTED` (text of `BasicManager::ReserveResources`) if it does not while no
    /// other load is under way.
    fn reserve(&self, id: &ServableId, need_bytes: u64) -> Result<Reservation<'_>> {
        // Guards the sums alone: a load goes on without it.
        let mut under_way = self.lock();
        loop {
            release_freed();
            let resident = (self.resident_bytes)().unwrap_or(0);
            let total = resident
                .saturating_add(under_way.need_bytes)
                .saturating_add(need_bytes);
            if total <= self.limit_bytes {
                under_way.loads += 1;
                under_way.need_bytes += need_bytes;
                let loader = self;
                return Ok(Reservation { loader, need_bytes });
            }
            if under_way.loads == 0 {
                let (need, resident) = (need_bytes.div_ceil(MIB), resident.div_ceil(MIB));
                let limit = self.limit_bytes / MIB;
                return Err(ServingError::new(
                    Code::ResourceExhausted,
                    format!(
                        "Insufficient resources to load servable {id}: it may need {need} MiB \
                         beside {resident} MiB in use (--model_memory_limit_mb={limit})"
                    ),
                ));
            }
            let waited = self.ended.wait(under_way);
            under_way = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Loader for MemoryLimitLoader {
    fn load(&self, id: &ServableId, directory: &Path) -> Result<Servable> {
        let need_bytes = file_bytes(directory)?.saturating_mul(NEED_PER_FILE_BYTE);
        let _reservation = self.reserve(id, need_bytes)?;
        self.inner.load(id, directory)
    }
}

/// A load's place under the limit, which its end gives back, also by a panic.
struct Reservation<'a> {
    loader: &'a MemoryLimitLoader,
    need_bytes: u64,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut under_way = self.loader.lock();
        under_way.loads -= 1;
        under_way.need_bytes -= self.need_bytes;
        drop(under_way);
        self.loader.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread;
    use std::time::{Duration, Instant};

    use tempfile::TempDir;

    use super::*;
    use crate::lifecycle::fake::FakeLoader;

    /// A loader under a limit of 10 MiB, of which 4 are resident, and a version of that many bytes.
    fn limited(bytes: u64) -> (Arc<FakeLoader>, MemoryLimitLoader, TempDir) {
        let directory = TempDir::new().unwrap();
        let file = fs::File::create(directory.path().join("model.onnx")).unwrap();
        file.set_len(bytes).unwrap();
        let inner = FakeLoader::new();
        let loader = Arc::<FakeLoader>::clone(&inner);
        let limited = MemoryLimitLoader::new(loader, 10 * MIB, || Some(4 * MIB));
        (inner, limited, directory)
    }

    #[test]
    fn load_beyond_the_limit_is_refused() {
        let id = ServableId::new("m", 1);
        let (inner, loader, directory) = limited(2 * MIB + 1);
        let error = loader.load(&id, directory.path()).err().unwrap();
        assert_eq!(error.code(), Code::ResourceExhausted);
        // The first words are `basic_manager.cc`'s.
        assert_eq!(
            error.to_string(),
            "Insufficient resources to load servable {name: m version: 1}: it may need 7 MiB \
             beside 4 MiB in use (--model_memory_limit_mb=10)"
        );
        assert_eq!(inner.loads(&id), 0);
    }

    #[test]
    fn load_up_to_the_limit_passes_every_time() {
        let id = ServableId::new("m", 1);
        let (inner, loader, directory) = limited(2 * MIB);
        for _ in 0..3 {
            loader.load(&id, directory.path()).unwrap();
        }
        assert_eq!(inner.loads(&id), 3);
    }

    #[test]
    fn failed_load_gives_its_place_back() {
        let id = ServableId::new("m", 1);
        let (inner, loader, directory) = limited(2 * MIB);
        inner.fail(&id, 1, || ServingError::not_found("no model"));
        let error = loader.load(&id, directory.path()).err().unwrap();
        assert_eq!(error.code(), Code::NotFound);
        loader.load(&id, directory.path()).unwrap();
    }

    #[test]
    fn load_waits_for_the_one_under_way() {
        let (first, second) = (ServableId::new("m", 1), ServableId::new("m", 2));
        let (inner, loader, directory) = limited(2 * MIB);
        inner.block(&first);
        thread::scope(|scope| {
            let loading = scope.spawn(|| loader.load(&first, directory.path()).map(drop));
            let begun = Instant::now();
            while inner.loads(&first) == 0 {
                assert!(begun.elapsed() < Duration::from_secs(30));
                thread::yield_now();
            }
            let waiting = scope.spawn(|| loader.load(&second, directory.path()).map(drop));
            inner.unblock(&first);
            loading.join().unwrap().unwrap();
            waiting.join().unwrap().unwrap();
        });
        assert_eq!(inner.most_running(), 1);
    }
}
