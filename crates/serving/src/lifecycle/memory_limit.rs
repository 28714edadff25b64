//! A loader that refuses loads that could exceed the process's memory limit.
//!
//! The memory that a load needs is known only after the load, when the kernel might already have
//! killed the process. It is therefore estimated from the sizes of the version's files, as in
//! TensorFlow Serving (`bundle_factory_util.cc`, 1.2 times their bytes). The limit is compared with
//! the estimate plus the resident memory at that moment plus the estimates of the loads in flight.
//! Loads in flight hold memory only for a while: as in TensorFlow Serving, a load that does not fit
//! next to them waits until they end (`BasicManager::ReserveResources`). It does not wait for a load
//! that was given up, which might never end and keeps its memory until then.
//!
//! Not here: loading (the wrapped loader), when to try again (`manager`), the memory of requests
//! (`api`).

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::signal::Signal;
use super::source::file_bytes;
use super::{Loader, NoRoom, Reservation};
use crate::servable::Servable;
use base::allocator::release_freed;
use base::error::{Code, Result, ServingError};
use base::id::ServableId;

/// The estimated bytes that a load needs for each byte of its files. It is the highest measured ratio:
/// the file while it is read, the weights, and the kernels' own copies (`docs/reliability.md`).
const NEED_PER_FILE_BYTE: u64 = 3;

const MIB: u64 = 1 << 20;

/// Reserves memory for loads up to `--model_memory_limit_mb`.
pub struct MemoryLimitLoader {
    inner: Arc<dyn Loader>,
    limit_bytes: u64,
    /// The resident memory of the process; `None` if the system does not report it, which counts as 0.
    resident_bytes: fn() -> Option<u64>,
    in_flight: Arc<InFlight>,
}

/// The loads that have reserved memory and have not ended. The lock guards only the list.
#[derive(Default)]
struct InFlight(Mutex<Vec<Share>>);

/// The memory that one of them can need.
struct Share {
    need_bytes: u64,
    given_up: Arc<Signal>,
}

impl InFlight {
    fn lock(&self) -> MutexGuard<'_, Vec<Share>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryLimitLoader {
    /// Wraps `inner`. `resident_bytes` returns the resident memory of the process.
    pub fn new(
        inner: Arc<dyn Loader>,
        limit_bytes: u64,
        resident_bytes: fn() -> Option<u64>,
    ) -> Self {
        Self {
            inner,
            limit_bytes,
            resident_bytes,
            in_flight: Arc::default(),
        }
    }

    fn refused(&self, id: &ServableId, need_bytes: u64, used_bytes: u64) -> ServingError {
        let (need, used) = (need_bytes.div_ceil(MIB), used_bytes.div_ceil(MIB));
        let limit = self.limit_bytes / MIB;
        ServingError::new(
            Code::ResourceExhausted,
            format!(
                "Insufficient resources to load servable {id}: it might need {need} MiB in addition to \
                 {used} MiB in use (--model_memory_limit_mb={limit})"
            ),
        )
    }
}

impl Loader for MemoryLimitLoader {
    /// # Errors
    ///
    /// `RESOURCE_EXHAUSTED` (text of `BasicManager::ReserveResources`) for a load that does not fit
    /// next to the resident memory and the estimates of loads that were given up.
    fn reserve(
        &self,
        id: &ServableId,
        directory: &Path,
        given_up: &Arc<Signal>,
    ) -> Result<Reservation, NoRoom> {
        let need_bytes = file_bytes(directory)?.saturating_mul(NEED_PER_FILE_BYTE);
        release_freed();
        let mut in_flight = self.in_flight.lock();
        let resident = (self.resident_bytes)().unwrap_or(0);
        let needs = in_flight.iter().map(|it| it.need_bytes);
        let used = needs.fold(resident, u64::saturating_add);
        if used.saturating_add(need_bytes) > self.limit_bytes {
            // A load that will end can free enough memory.
            if in_flight.iter().any(|it| !it.given_up.is_raised()) {
                return Err(NoRoom::ForNow);
            }
            return Err(self.refused(id, need_bytes, used).into());
        }
        let given_up = Arc::clone(given_up);
        in_flight.push(Share {
            need_bytes,
            given_up: Arc::clone(&given_up),
        });
        drop(in_flight);
        let in_flight = Arc::clone(&self.in_flight);
        Ok(Reservation::new(ReservedMemory {
            in_flight,
            given_up,
        }))
    }

    fn load(&self, id: &ServableId, directory: &Path) -> Result<Servable> {
        self.inner.load(id, directory)
    }
}

/// The memory reserved for a load. It is released when the load ends, even by a panic.
struct ReservedMemory {
    in_flight: Arc<InFlight>,
    /// Identifies the load.
    given_up: Arc<Signal>,
}

impl Drop for ReservedMemory {
    fn drop(&mut self) {
        let is_other = |it: &Share| !Arc::ptr_eq(&it.given_up, &self.given_up);
        self.in_flight.lock().retain(is_other);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::lifecycle::fake::FakeLoader;

    /// A loader with a limit of 10 MiB, of which 4 are resident, and a version of this many bytes.
    fn limited(bytes: u64) -> (MemoryLimitLoader, TempDir) {
        let directory = TempDir::new().unwrap();
        let file = fs::File::create(directory.path().join("model.onnx")).unwrap();
        file.set_len(bytes).unwrap();
        let limited = MemoryLimitLoader::new(FakeLoader::new(), 10 * MIB, || Some(4 * MIB));
        (limited, directory)
    }

    fn reserve(
        loader: &MemoryLimitLoader,
        directory: &TempDir,
        given_up: &Arc<Signal>,
    ) -> Result<Reservation, NoRoom> {
        loader.reserve(&ServableId::new("m", 1), directory.path(), given_up)
    }

    #[track_caller]
    fn check_refused(reserved: Result<Reservation, NoRoom>, text: &str) {
        let Err(NoRoom::Refused(error)) = reserved else {
            panic!("it was not refused");
        };
        assert_eq!(error.code(), Code::ResourceExhausted);
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn load_beyond_the_limit_is_refused() {
        let (loader, directory) = limited(2 * MIB + 1);
        // The text begins with the words of `basic_manager.cc`.
        check_refused(
            reserve(&loader, &directory, &Arc::default()),
            "Insufficient resources to load servable {name: m version: 1}: it might need 7 MiB \
             in addition to 4 MiB in use (--model_memory_limit_mb=10)",
        );
    }

    #[test]
    fn load_up_to_the_limit_passes_every_time() {
        let (loader, directory) = limited(2 * MIB);
        for _ in 0..3 {
            assert!(reserve(&loader, &directory, &Arc::default()).is_ok());
        }
    }

    /// An import reads the variables, and the constants in the graph.
    #[test]
    fn files_of_a_saved_model_count() {
        let (loader, directory) = limited(0);
        let files = [
            ("variables/variables.data-00000-of-00001", MIB),
            ("saved_model.pb", MIB),
        ];
        for (name, bytes) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::File::create(path).unwrap().set_len(bytes).unwrap();
        }
        assert!(reserve(&loader, &directory, &Arc::default()).is_ok());
        fs::File::create(directory.path().join("variables/variables.index"))
            .unwrap()
            .set_len(1)
            .unwrap();
        let refused = reserve(&loader, &directory, &Arc::default());
        assert!(matches!(refused, Err(NoRoom::Refused(_))));
    }

    #[test]
    fn load_comes_after_the_one_in_flight() {
        let (loader, directory) = limited(2 * MIB);
        let first = reserve(&loader, &directory, &Arc::default());
        let second = reserve(&loader, &directory, &Arc::default());
        assert!(matches!(second, Err(NoRoom::ForNow)));
        drop(first);
        assert!(reserve(&loader, &directory, &Arc::default()).is_ok());
    }

    #[test]
    fn load_given_up_keeps_its_memory_and_is_not_waited_for() {
        let (loader, directory) = limited(2 * MIB);
        let given_up = Arc::<Signal>::default();
        let first = reserve(&loader, &directory, &given_up);
        given_up.raise();
        check_refused(
            reserve(&loader, &directory, &Arc::default()),
            "Insufficient resources to load servable {name: m version: 1}: it might need 6 MiB \
             in addition to 10 MiB in use (--model_memory_limit_mb=10)",
        );
        drop(first);
        assert!(reserve(&loader, &directory, &Arc::default()).is_ok());
    }
}
