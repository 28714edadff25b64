//! The manager by itself, on a system that has no threads to give.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::Builder;
use std::time::{Duration, Instant};

use super::*;
use crate::id::ModelSpec;
use crate::lifecycle::fake::FakeLoader;
use crate::lifecycle::source::storage::{Fingerprint, LocalStorage};

/// Whether there are threads to unload on, and how often there was none.
static HAS_THREADS: AtomicBool = AtomicBool::new(false);
static REFUSED: AtomicUsize = AtomicUsize::new(0);

fn spawn(name: &'static str, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    if name == "unload" && !HAS_THREADS.load(Ordering::SeqCst) {
        REFUSED.fetch_add(1, Ordering::SeqCst);
        return Err(io::ErrorKind::WouldBlock.into());
    }
    Builder::new().spawn(work).map(drop)
}

#[track_caller]
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn servable_waits_for_a_thread_to_be_destroyed_on() {
    let table = Arc::<LookupTable>::default();
    let monitor = Arc::<StateMonitor>::default();
    let parts = Parts {
        options: LifecycleOptions::default(),
        loader: FakeLoader::new(),
        storage: Arc::new(LocalStorage),
        table: Arc::clone(&table),
        monitor: Arc::clone(&monitor),
    };
    let manager = Manager::with_threads(parts, spawn);
    let directory = tempfile::tempdir().unwrap();
    let model: Arc<str> = "m".into();
    let version = AspiredVersion {
        version: 1,
        directory: PathBuf::from(directory.path()),
        fingerprint: Fingerprint(1),
    };
    manager.set_aspired_versions(&model, vec![version]);
    eventually("it serves", || monitor.is_available("m", 1));
    let spec = ModelSpec {
        name: "m".to_owned(),
        version: None,
    };
    let servable = Arc::downgrade(&table.find(&spec).unwrap());

    manager.set_aspired_versions(&model, Vec::new());
    eventually("there is no thread", || REFUSED.load(Ordering::SeqCst) > 1);
    assert_eq!(servable.strong_count(), 1);
    assert_eq!(monitor.states("m")[0].state, ManagerState::Unloading);

    HAS_THREADS.store(true, Ordering::SeqCst);
    eventually("it is gone", || {
        monitor.states("m")[0].state == ManagerState::End
    });
    assert_eq!(servable.strong_count(), 0);
    manager.stop();
}
