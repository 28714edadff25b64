//! The manager by itself: on a system that cannot start threads, and after time has passed.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::Builder;
use std::time::{Duration, Instant};

use super::*;
use crate::lifecycle::PollWait;
use crate::lifecycle::fake::FakeLoader;
use crate::servable::ServableHandle;
use base::id::{ModelSpec, ServableId};
use storage::local::{Fingerprint, LocalStorage};

/// Whether threads to unload on can be started, and how often this failed.
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

/// A manager, and the parts that show its actions.
fn manager(
    loader: Arc<FakeLoader>,
    spawn: Spawn,
) -> (Manager, Arc<LookupTable>, Arc<StateMonitor>) {
    let table = Arc::<LookupTable>::default();
    let monitor = Arc::<StateMonitor>::default();
    let parts = Parts {
        // The tests play the role of the source.
        options: LifecycleOptions {
            file_system_poll_wait: PollWait::Never,
            ..LifecycleOptions::default()
        },
        loader,
        storage: Arc::new(LocalStorage),
        table: Arc::clone(&table),
        monitor: Arc::clone(&monitor),
    };
    (Manager::with_threads(parts, spawn), table, monitor)
}

/// A load that does not end continues with files that no longer exist.
#[test]
fn slow_load_begins_again_when_its_files_change() {
    let loader = FakeLoader::new();
    let id = ServableId::new("m", 1);
    loader.block_first(&id, 1);
    let spawn: Spawn = |_, work| Builder::new().spawn(work).map(drop);
    let (manager, _, monitor) = manager(Arc::clone(&loader), spawn);
    let directory = tempfile::tempdir().unwrap();
    let aspire = |fingerprint| {
        let version = AspiredVersion {
            version: 1,
            directory: PathBuf::from(directory.path()),
            fingerprint: Fingerprint(fingerprint),
        };
        manager.set_aspired_versions(&"m".into(), vec![version]);
    };
    let make_slow = || {
        manager.shared.lock().threads.make_slow();
        manager.shared.wakeup.wake();
    };
    aspire(1);
    eventually("it loads", || loader.running() == 1);
    // A load that is not slow detects the change by itself.
    aspire(2);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(loader.loads(&id), 1);
    make_slow();
    eventually("it loads again", || loader.loads(&id) == 2);
    eventually("it serves", || monitor.is_available("m", 1));
    loader.unblock(&id);
    eventually("the first load ends", || loader.running() == 0);
    assert!(monitor.is_available("m", 1));
    manager.stop();
}

/// Lets a manager serve version 1 of model `m`. Returns a handle of it.
fn serving(manager: &Manager, table: &LookupTable, monitor: &StateMonitor) -> ServableHandle {
    let directory = tempfile::tempdir().unwrap();
    let version = AspiredVersion {
        version: 1,
        directory: PathBuf::from(directory.path()),
        fingerprint: Fingerprint(1),
    };
    manager.set_aspired_versions(&"m".into(), vec![version]);
    eventually("it serves", || monitor.is_available("m", 1));
    let spec = ModelSpec {
        name: "m".to_owned(),
        version: None,
    };
    table.find(&spec).unwrap()
}

#[test]
fn drain_ends_with_its_last_request_and_is_not_polled() {
    let spawn: Spawn = |_, work| Builder::new().spawn(work).map(drop);
    let (manager, table, monitor) = manager(FakeLoader::new(), spawn);
    let handle = serving(&manager, &table, &monitor);
    let servable = handle.watch();
    let state = || monitor.states("m")[0].state;

    manager.set_aspired_versions(&"m".into(), Vec::new());
    eventually("it drains", || state() == ManagerState::Unloading);
    // The manager looks again only if it is woken.
    assert_eq!(manager.shared.lock().next_look(Instant::now()), None);
    let last = handle.clone();
    drop(handle);
    assert_eq!(state(), ManagerState::Unloading);

    drop(last);
    eventually("it is gone", || state() == ManagerState::End);
    assert_eq!(servable.strong_count(), 0);
    manager.stop();
}

#[test]
fn servable_waits_for_a_thread_to_be_destroyed_on() {
    let (manager, table, monitor) = manager(FakeLoader::new(), spawn);
    let servable = serving(&manager, &table, &monitor).watch();

    manager.set_aspired_versions(&"m".into(), Vec::new());
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
