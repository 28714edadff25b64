//! Panics on the threads of the lifecycle: each one fails only the step in which it happens.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::support::*;
use crate::lifecycle::ConfigPoller;
use base::error::Result;
use base::vocabulary::ManagerState;
use storage::local::{Files, LocalStorage, Storage};

/// A disk whose driver panics this many times in each of the two calls.
#[derive(Default)]
struct PanickingStorage {
    in_children: AtomicUsize,
    in_fingerprint: AtomicUsize,
}

fn panic_if_due(left: &AtomicUsize) {
    let order = Ordering::SeqCst;
    let due = left.fetch_update(order, order, |left| left.checked_sub(1));
    assert!(due.is_err(), "on purpose");
}

impl Storage for PanickingStorage {
    fn children(&self, directory: &Path) -> Result<Vec<String>> {
        panic_if_due(&self.in_children);
        LocalStorage.children(directory)
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        LocalStorage.exists(path)
    }

    fn files(&self, path: &Path) -> Result<Files> {
        panic_if_due(&self.in_fingerprint);
        LocalStorage.files(path)
    }
}

fn fixture() -> (Fixture, Arc<PanickingStorage>) {
    let storage = Arc::<PanickingStorage>::default();
    let for_core = Arc::<PanickingStorage>::clone(&storage);
    (Fixture::with_storage(fast(), for_core), storage)
}

#[test]
fn a_load_that_panicked_is_tried_again() {
    let (fixture, storage) = fixture();
    fixture.add_version("a", "1");
    fixture.core.start(list([fixture.model("a")])).unwrap();
    storage.in_fingerprint.store(1, Ordering::SeqCst);
    fixture.add_version("a", "2");
    // The files that the load failed with are unknown, so they count as changed.
    fixture.await_state("a", 2, ManagerState::Available);
    assert_eq!(storage.in_fingerprint.load(Ordering::SeqCst), 0);
}

#[test]
fn versions_are_looked_for_after_a_panic() {
    let (fixture, storage) = fixture();
    fixture.add_version("a", "1");
    fixture.core.start(list([fixture.model("a")])).unwrap();
    storage.in_children.store(2, Ordering::SeqCst);
    eventually("both panics are over", || {
        storage.in_children.load(Ordering::SeqCst) == 0
    });
    fixture.add_version("a", "2");
    fixture.await_state("a", 2, ManagerState::Available);
}

#[test]
fn the_configuration_is_read_after_a_panic() {
    let fixture = Fixture::new();
    fixture.add_version("a", "1");
    let config = list([fixture.model("a")]);
    let reads = AtomicUsize::new(0);
    let core = Arc::clone(&fixture.core);
    let poller = ConfigPoller::start(core, Duration::from_millis(1), move || {
        assert!(reads.fetch_add(1, Ordering::SeqCst) > 0, "on purpose");
        Ok(config.clone())
    });
    eventually("a serves", || fixture.latest("a") == Some(1));
    poller.stop();
}
