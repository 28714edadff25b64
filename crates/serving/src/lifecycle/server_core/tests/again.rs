//! Versions that serve and whose files change: they are loaded again and replaced.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::loads::retries;
use super::support::*;
use crate::lifecycle::fake::FakeLoader;
use crate::lifecycle::{LifecycleOptions, MemoryLimitLoader, ServerCore};
use crate::servable::{ServableHandle, ServableLookup};
use base::error::ServingError;
use base::vocabulary::ManagerState;

/// A server with version 1 of the models `m` and `other`, and the servable of `m`.
fn serving(options: LifecycleOptions) -> (Fixture, ServableHandle) {
    let fixture = Fixture::with_options(options);
    for model in ["m", "other"] {
        fixture.add_version(model, "1");
    }
    let models = ["m", "other"].map(|model| fixture.model(model));
    fixture.core.start(list(models)).unwrap();
    let handle = fixture.find("m", None).unwrap();
    (fixture, handle)
}

fn change(fixture: &Fixture, file: &str) {
    fs::write(fixture.path("m/1").join(file), "a companion").unwrap();
}

fn is_same(fixture: &Fixture, handle: &ServableHandle) -> bool {
    let now = fixture.find("m", None).expect("it serves throughout");
    now.is_same(handle)
}

#[test]
fn changed_version_is_loaded_again_and_serves_throughout() {
    let (fixture, handle) = serving(fast());
    let seen = Arc::<Mutex<Vec<ManagerState>>>::default();
    let for_core = Arc::clone(&seen);
    fixture.core.observe_states(move |state| {
        if *state.id.name == *"m" {
            for_core.lock().unwrap().push(state.state);
        }
    });
    let m = id("m", 1);
    fixture.loader.block(&m);
    change(&fixture, "signature_map.pbtxt");
    eventually("it is loaded again", || fixture.loader.loads(&m) == 2);
    assert!(is_same(&fixture, &handle));
    fixture.loader.unblock(&m);
    eventually("it is replaced", || !is_same(&fixture, &handle));
    assert_eq!(fixture.state("m", 1), Some(ManagerState::Available));

    // The replaced servable is destroyed after its last request.
    let before = handle.watch();
    fixture.await_polls("other");
    assert!(before.upgrade().is_some());
    drop(handle);
    eventually("it is destroyed", || before.strong_count() == 0);
    assert_eq!(fixture.loader.loads(&m), 2);
    assert_eq!(*seen.lock().unwrap(), []);
}

#[test]
fn version_whose_second_load_fails_goes_on_until_it_changes_again() {
    let (fixture, handle) = serving(fast());
    let m = id("m", 1);
    fixture.loader.fail(&m, 1, || ServingError::internal("no"));
    change(&fixture, "saved_model.pb");
    eventually("it is loaded again", || fixture.loader.loads(&m) == 2);
    fixture.await_polls("other");
    assert!(is_same(&fixture, &handle));
    assert_eq!(fixture.state("m", 1), Some(ManagerState::Available));
    assert_eq!(fixture.loader.loads(&m), 2);

    change(&fixture, "signature_map.pbtxt");
    eventually("it is replaced", || !is_same(&fixture, &handle));
}

/// A file was added that could not be loaded, and is deleted: the served version matches its files again.
#[test]
fn version_whose_files_are_again_as_loaded_is_not_loaded_again() {
    let (fixture, handle) = serving(retries(5, Duration::from_secs(3600)));
    let m = id("m", 1);
    fixture.loader.fail(&m, 1, || ServingError::internal("no"));
    change(&fixture, "saved_model.pb");
    eventually("it is loaded again", || fixture.loader.loads(&m) == 2);
    fs::remove_file(fixture.path("m/1/saved_model.pb")).unwrap();
    fixture.await_polls("other");
    assert!(is_same(&fixture, &handle));
    assert_eq!(fixture.loader.loads(&m), 2);
    // The same file counts as changed because its times differ.
    change(&fixture, "saved_model.pb");
    eventually("it is replaced", || !is_same(&fixture, &handle));
    assert_eq!(fixture.loader.loads(&m), 3);
}

#[test]
fn deleting_what_broke_a_second_load_loads_again() {
    let (fixture, handle) = serving(fast());
    let m = id("m", 1);
    let fail = |times| {
        let no = || ServingError::internal("no");
        fixture.loader.fail(&m, times, no);
    };
    fail(usize::MAX);
    change(&fixture, "model.onnx");
    change(&fixture, "saved_model.pb");
    eventually("it is loaded again", || fixture.loader.loads(&m) > 1);
    fixture.await_polls("other");
    assert!(is_same(&fixture, &handle));
    fail(0);
    fs::remove_file(fixture.path("m/1/saved_model.pb")).unwrap();
    eventually("it is replaced", || !is_same(&fixture, &handle));
}

/// One file after another is deleted and copied, while the source looks in between.
#[test]
fn version_that_is_rewritten_in_place_is_loaded_once_it_is_whole() {
    let (fixture, _) = serving(fast());
    let m = id("m", 1);
    change(&fixture, "signature_map.pbtxt");
    eventually("it is loaded with a map", || fixture.loader.loads(&m) == 2);
    fixture.await_polls("other");
    let handle = fixture.find("m", None).unwrap();
    for (number, file) in ["signature_map.pbtxt", "model.onnx"]
        .into_iter()
        .enumerate()
    {
        fs::remove_file(fixture.path("m/1").join(file)).unwrap();
        fixture.await_polls_of("other", number + 2);
    }
    change(&fixture, "model.onnx");
    fixture.await_polls_of("other", 4);
    assert!(is_same(&fixture, &handle));
    assert_eq!(fixture.loader.loads(&m), 2);
    change(&fixture, "signature_map.pbtxt");
    eventually("it is replaced", || !is_same(&fixture, &handle));
    assert_eq!(fixture.loader.loads(&m), 3);
}

/// The load reads some files before the change and some after it.
#[test]
fn what_was_loaded_while_files_changed_never_serves() {
    let (fixture, handle) = serving(fast());
    let m = id("m", 1);
    fixture.loader.block_first(&m, 2);
    change(&fixture, "saved_model.pb");
    eventually("it is loaded again", || fixture.loader.loads(&m) == 2);
    change(&fixture, "model.onnx");
    // The change settles while the load runs.
    std::thread::sleep(Duration::from_millis(100));
    fixture.loader.unblock(&m);
    eventually("it is replaced", || !is_same(&fixture, &handle));
    assert_eq!(fixture.loader.loads(&m), 3);
}

#[test]
fn second_load_is_retried_as_others() {
    let (fixture, handle) = serving(retries(1, Duration::ZERO));
    let m = id("m", 1);
    fixture.loader.fail(&m, 1, || ServingError::internal("no"));
    change(&fixture, "saved_model.pb");
    eventually("it is replaced", || !is_same(&fixture, &handle));
    assert_eq!(fixture.loader.loads(&m), 3);
}

#[test]
fn stuck_second_load_is_given_up() {
    let (fixture, handle) = serving(LifecycleOptions {
        model_load_timeout: Some(Duration::from_millis(100)),
        ..fast()
    });
    let m = id("m", 1);
    fixture.loader.block(&m);
    change(&fixture, "saved_model.pb");
    eventually("it is loaded again", || fixture.loader.loads(&m) == 2);
    // There is one slot, so this shows that the load no longer holds it.
    fixture.await_polls("other");
    assert!(is_same(&fixture, &handle));
    fixture.loader.unblock(&m);
    eventually("it ends", || fixture.loader.running() == 0);
    fixture.await_polls_of("other", 2);
    assert!(is_same(&fixture, &handle));
    assert_eq!(fixture.state("m", 1), Some(ManagerState::Available));
}

#[test]
fn model_goes_while_its_second_load_is_stuck() {
    let (fixture, handle) = serving(fast());
    drop(handle);
    let m = id("m", 1);
    fixture.loader.block(&m);
    change(&fixture, "saved_model.pb");
    eventually("it is loaded again", || fixture.loader.loads(&m) == 2);
    let other = list([fixture.model("other")]);
    fixture.core.reload(other).unwrap();
    fixture.await_state("m", 1, ManagerState::End);
    fixture.await_polls("other");
    fixture.loader.unblock(&m);
    eventually("it ends", || fixture.loader.running() == 0);
    assert_eq!(fixture.latest("m"), None);
}

#[test]
fn new_versions_load_before_second_loads() {
    let (fixture, handle) = serving(fast());
    let other = fixture.model("other").policy(all());
    let models = list([fixture.model("m"), other]);
    fixture.core.reload(models).unwrap();
    let two = id("other", 2);
    fixture.loader.block(&two);
    fixture.add_version("other", "2");
    eventually("it loads", || fixture.loader.running() == 1);
    change(&fixture, "saved_model.pb");
    fixture.add_version("other", "3");
    fixture.await_state("other", 3, ManagerState::Start);
    fixture.loader.unblock(&two);
    eventually("it is replaced", || !is_same(&fixture, &handle));
    let order: Vec<_> = fixture.loader.calls().into_iter().map(|it| it.0).collect();
    assert_eq!(order[3..], [id("other", 3), id("m", 1)], "{order:?}");
}

#[test]
fn version_goes_on_where_a_second_load_does_not_fit() {
    const MIB: u64 = 1 << 20;
    let loader = FakeLoader::new();
    let limited: Arc<FakeLoader> = Arc::clone(&loader);
    let limited = MemoryLimitLoader::new(limited, 10 * MIB, || Some(4 * MIB));
    let fixture = Fixture::new();
    let core = ServerCore::new(fast(), Arc::new(limited));
    for model in ["m", "other"] {
        fixture.add_version(model, "1");
    }
    let models = ["m", "other"].map(|model| fixture.model(model));
    core.start(list(models)).unwrap();
    // The estimate is 9 MiB, in addition to 4 resident.
    let file = fs::File::create(fixture.path("m/1/saved_model.pb")).unwrap();
    file.set_len(3 * MIB).unwrap();
    let is_available = |model: &str, version| {
        let states = core.states(model);
        let state = states.iter().find(|it| it.id.version == version);
        state.map(|it| it.state) == Some(ManagerState::Available)
    };
    for version in 2..=4 {
        fixture.add_version("other", &version.to_string());
        eventually("it serves", || is_available("other", version));
    }
    assert!(is_available("m", 1));
    assert_eq!(loader.loads(&id("m", 1)), 1);
    file.set_len(MIB).unwrap();
    eventually("it is loaded again", || loader.loads(&id("m", 1)) == 2);
    core.shutdown();
}

/// A version is tried again while its directory is being rewritten.
#[test]
fn version_that_is_retried_while_it_is_rewritten_is_loaded_once_it_is_whole() {
    let (fixture, handle) = serving(retries(u32::MAX, Duration::from_millis(20)));
    change(&fixture, "signature_map.pbtxt");
    eventually("it is loaded with a map", || !is_same(&fixture, &handle));
    let two = id("m", 2);
    fixture
        .loader
        .fail(&two, usize::MAX, || ServingError::internal("no"));
    fs::create_dir(fixture.path("new")).unwrap();
    for file in ["model.onnx", "signature_map.pbtxt"] {
        fs::write(fixture.path("new").join(file), "2").unwrap();
    }
    fs::rename(fixture.path("new"), fixture.path("m/2")).unwrap();
    eventually("it is retried", || fixture.loader.loads(&two) > 2);
    fs::remove_file(fixture.path("m/2/signature_map.pbtxt")).unwrap();
    fs::write(fixture.path("m/2/model.onnx"), "mended").unwrap();
    // A try that began before can take a moment to end.
    fixture.await_polls("other");
    let loads = fixture.loader.loads(&two);
    fixture.await_polls_of("other", 2);
    assert_eq!(fixture.loader.loads(&two), loads);
    fixture
        .loader
        .fail(&two, 0, || ServingError::internal("no"));
    fs::write(fixture.path("m/2/signature_map.pbtxt"), "3").unwrap();
    fixture.await_state("m", 2, ManagerState::Available);
}
