//! Loads that wait, never end or are no longer wanted: they do not delay other loads.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::loads::retries;
use super::support::*;
use crate::lifecycle::fake::FakeLoader;
use crate::lifecycle::{ConfigPoller, LifecycleOptions, MemoryLimitLoader, ServerCore};
use crate::servable::ServableLookup;
use base::error::{Code, ServingError};
use base::id::ServableId;
use base::vocabulary::ManagerState;
use proto::tensorflow::serving::ModelServerConfig;

const HOUR: Duration = Duration::from_secs(3600);
const MIB: u64 = 1 << 20;

fn timeout(timeout: Duration, max_num_load_retries: u32) -> LifecycleOptions {
    LifecycleOptions {
        model_load_timeout: Some(timeout),
        ..retries(max_num_load_retries, Duration::ZERO)
    }
}

/// A server that has started with the model `steady`, and from now on loads one version at a time.
fn steady(options: LifecycleOptions) -> Fixture {
    let fixture = Fixture::with_options(options);
    fixture.add_version("steady", "1");
    let config = list([fixture.model("steady")]);
    fixture.core.start(config).unwrap();
    fixture
}

/// As [`steady`], with an additional model `stuck`, whose first `loads` loads do not end.
fn with_stuck(options: LifecycleOptions, loads: usize) -> (Fixture, ServableId) {
    let fixture = steady(options);
    let stuck = id("stuck", 1);
    fixture.loader.block_first(&stuck, loads);
    fixture.add_version("stuck", "1");
    (fixture, stuck)
}

/// A configuration of these models and `steady`.
fn and_steady(fixture: &Fixture, models: &[&str]) -> ModelServerConfig {
    let models = models.iter().chain(&["steady"]);
    list(models.map(|model| fixture.model(model)))
}

/// The error of a version at its end.
#[track_caller]
fn end(fixture: &Fixture, model: &str, version: i64) -> (Code, String) {
    fixture.await_state(model, version, ManagerState::End);
    let states = fixture.core.states(model);
    let state = states.into_iter().find(|it| it.id.version == version);
    let state = state.unwrap();
    (state.code, state.message)
}

#[test]
fn version_that_waits_for_a_retry_holds_up_no_other() {
    let fixture = steady(retries(5, HOUR));
    let broken = id("broken", 1);
    fixture
        .loader
        .fail(&broken, usize::MAX, || ServingError::internal("no"));
    for model in ["broken", "good"] {
        fixture.add_version(model, "1");
    }
    let config = and_steady(&fixture, &["broken", "good"]);
    std::thread::scope(|scope| {
        let reload = scope.spawn(|| fixture.core.reload(config));
        fixture.await_state("good", 1, ManagerState::Available);
        assert_eq!(fixture.loader.loads(&broken), 1);
        assert_eq!(fixture.state("broken", 1), Some(ManagerState::Loading));
        fixture.core.shutdown();
        reload.join().unwrap().unwrap_err();
    });
}

#[test]
fn load_that_outlasts_its_bound_is_given_up() {
    let (fixture, stuck) = with_stuck(timeout(Duration::from_millis(100), 0), usize::MAX);
    fixture.add_version("good", "1");
    let config = and_steady(&fixture, &["stuck"]);
    let error = fixture.core.reload(config).unwrap_err();
    let text = "DEADLINE_EXCEEDED: Loading of servable {name: stuck version: 1} has not ended \
                after 0.1 s (--model_load_timeout_seconds): it is not waited for any more";
    assert!(error.to_string().contains(text), "{error}");
    assert_eq!(end(&fixture, "stuck", 1).0, Code::DeadlineExceeded);

    let config = and_steady(&fixture, &["good", "stuck"]);
    fixture.core.reload(config).unwrap();
    assert_eq!(fixture.latest("good"), Some(1));
    assert_eq!(fixture.loader.running(), 1);

    // The result of its late load is dropped.
    fixture.loader.unblock(&stuck);
    eventually("it ends", || fixture.loader.running() == 0);
    fixture.await_polls("steady");
    assert_eq!(fixture.latest("stuck"), None);
    assert_eq!(fixture.state("stuck", 1), Some(ManagerState::End));
    assert_eq!(fixture.loader.loads(&stuck), 1);
}

#[test]
fn version_is_retried_once_its_stuck_load_has_ended() {
    let (fixture, stuck) = with_stuck(timeout(Duration::from_millis(100), 1), 1);
    let config = and_steady(&fixture, &["stuck"]);
    fixture.core.reload(config).unwrap_err();
    fixture.await_polls("steady");
    assert_eq!(fixture.loader.loads(&stuck), 1);
    fixture.loader.unblock(&stuck);
    fixture.await_state("stuck", 1, ManagerState::Available);
    assert_eq!(fixture.loader.loads(&stuck), 2);
}

#[test]
fn version_is_loaded_beside_its_stuck_load_when_its_files_change() {
    let (fixture, stuck) = with_stuck(timeout(Duration::from_millis(100), 0), 1);
    let config = and_steady(&fixture, &["stuck"]);
    fixture.core.reload(config).unwrap_err();
    fs::write(fixture.path("stuck/1/model.onnx"), "mended").unwrap();
    fixture.await_state("stuck", 1, ManagerState::Available);
    assert_eq!(fixture.loader.running(), 1);
    fixture.loader.unblock(&stuck);
}

#[test]
fn removed_model_leaves_its_stuck_load_and_comes_back() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    let m = id("m", 1);
    fixture.loader.block_first(&m, 1);
    let config = || list([fixture.model("m")]);
    fixture.core.start_without_waiting(config()).unwrap();
    eventually("it loads", || fixture.loader.running() == 1);

    fixture.core.reload(list([])).unwrap();
    let cancelled = "Loading of servable cancelled".to_owned();
    assert_eq!(end(&fixture, "m", 1), (Code::Cancelled, cancelled));
    fixture.core.reload(config()).unwrap();
    let handle = fixture.find("m", None).unwrap();
    assert_eq!(fixture.loader.running(), 1);

    fixture.loader.unblock(&m);
    eventually("it ends", || fixture.loader.running() == 0);
    fixture.await_polls("m");
    drop(handle);
    assert_eq!(fixture.loader.loads(&m), 2);
}

#[test]
fn reload_waits_for_no_model_that_a_later_one_removes() {
    let (fixture, stuck) = with_stuck(fast(), usize::MAX);
    fixture.add_version("good", "1");
    let with = |model: &str| and_steady(&fixture, &[model]);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| fixture.core.reload(with("stuck")));
        eventually("it loads", || fixture.loader.running() == 1);
        fixture.core.reload(with("good")).unwrap();
        assert_eq!(fixture.latest("good"), Some(1));
        let error = first.join().unwrap().unwrap_err();
        assert!(error.to_string().contains("CANCELLED"), "{error}");
    });
    fixture.loader.unblock(&stuck);
}

#[test]
fn configuration_file_waits_for_no_model_that_it_removes() {
    let (fixture, stuck) = with_stuck(fast(), usize::MAX);
    fixture.add_version("good", "1");
    let with = |model: &str| and_steady(&fixture, &[model]);
    let file = Arc::new(Mutex::new(with("stuck")));
    let to_read = Arc::clone(&file);
    let core = Arc::clone(&fixture.core);
    let poller = ConfigPoller::start(core, Duration::from_millis(5), move || {
        Ok(to_read.lock().unwrap().clone())
    });
    eventually("it loads", || fixture.loader.running() == 1);
    *file.lock().unwrap() = with("good");
    fixture.await_state("good", 1, ManagerState::Available);
    poller.stop();
    fixture.loader.unblock(&stuck);
}

#[test]
fn stuck_new_version_is_taken_back() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    fixture.core.start(list([fixture.model("m")])).unwrap();
    let two = id("m", 2);
    fixture.loader.block(&two);
    fixture.add_version("m", "2");
    eventually("it loads", || fixture.loader.running() == 1);
    fixture.remove_version("m", "2");
    assert_eq!(end(&fixture, "m", 2).0, Code::Cancelled);
    assert_eq!(fixture.latest("m"), Some(1));
    fixture.add_version("m", "3");
    fixture.await_state("m", 3, ManagerState::Available);
    assert_eq!(fixture.loader.running(), 1);
    fixture.loader.unblock(&two);
}

#[test]
fn shutdown_waits_for_no_stuck_load() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    let m = id("m", 1);
    fixture.loader.block(&m);
    let config = list([fixture.model("m")]);
    fixture.core.start_without_waiting(config).unwrap();
    eventually("it loads", || fixture.loader.running() == 1);
    fixture.core.shutdown();
    assert_eq!(end(&fixture, "m", 1).0, Code::Cancelled);
    fixture.loader.unblock(&m);
}

#[test]
fn stuck_loads_of_one_version_are_bounded() {
    let fixture = steady(timeout(HOUR, 1));
    let stuck = id("stuck", 1);
    fixture.loader.block(&stuck);
    fs::create_dir(fixture.path("stuck")).unwrap();
    let config = and_steady(&fixture, &["stuck"]);
    fixture.core.reload(config).unwrap_err();
    for loads in 1..=4 {
        fixture.add_version("stuck", "1");
        eventually("it loads", || fixture.loader.running() == loads);
        fixture.remove_version("stuck", "1");
        assert_eq!(end(&fixture, "stuck", 1).0, Code::Cancelled);
    }
    fixture.add_version("stuck", "1");
    eventually("it is refused", || {
        end(&fixture, "stuck", 1).0 == Code::ResourceExhausted
    });
    assert_eq!(fixture.loader.loads(&stuck), 4);
    fixture.add_version("steady", "2");
    fixture.await_state("steady", 2, ManagerState::Available);

    fixture.loader.unblock(&stuck);
    fixture.await_state("stuck", 1, ManagerState::Available);
}

#[test]
fn load_without_room_waits_without_a_slot() {
    let loader = FakeLoader::new();
    let limited: Arc<FakeLoader> = Arc::clone(&loader);
    // 4 MiB are resident.
    let limited = MemoryLimitLoader::new(limited, 11 * MIB, || Some(4 * MIB));
    let options = LifecycleOptions {
        num_load_threads: 2,
        ..timeout(HOUR, 0)
    };
    let fixture = Fixture::with_options(options.clone());
    let core = ServerCore::new(options, Arc::new(limited));
    // Two models with an estimate of 6 MiB each, and one that needs almost nothing.
    for model in ["large", "larger", "small", "steady"] {
        fixture.add_version(model, "1");
        let file = fixture.path(model).join("1/model.onnx");
        let bytes = if model.starts_with('l') { 2 * MIB } else { 1 };
        fs::File::create(file).unwrap().set_len(bytes).unwrap();
    }
    let [large, larger, small, steady] =
        ["large", "larger", "small", "steady"].map(|model| fixture.model(model));
    let is_available = |model: &str| {
        let states = core.states(model);
        states.first().map(|it| it.state) == Some(ManagerState::Available)
    };
    core.start(list([steady.clone()])).unwrap();
    for model in ["large", "larger"] {
        loader.block(&id(model, 1));
    }
    std::thread::scope(|scope| {
        let all = list([large, larger, small, steady]);
        let reload = scope.spawn(|| core.reload(all));
        eventually("the small one serves", || is_available("small"));
        assert_eq!(loader.running(), 1);
        for model in ["large", "larger"] {
            loader.unblock(&id(model, 1));
        }
        reload.join().unwrap().unwrap();
    });
    assert!(is_available("large") && is_available("larger"));
}
