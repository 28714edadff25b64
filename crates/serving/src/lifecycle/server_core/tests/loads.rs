//! Single loads: retries, files that change, loaders that panic.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::support::*;
use crate::lifecycle::fake::FakeLoader;
use crate::lifecycle::{LifecycleOptions, Loader, ServerCore, WarmingLoader};
use crate::servable::ServableLookup;
use base::error::{Code, ServingError};
use base::vocabulary::ManagerState;

pub(super) fn retries(
    max_num_load_retries: u32,
    load_retry_interval: Duration,
) -> LifecycleOptions {
    LifecycleOptions {
        max_num_load_retries,
        load_retry_interval,
        ..fast()
    }
}

// retrier_test.cc RetryFinallySucceeds; aspired_versions_manager_test.cc
// RetryOnLoadErrorFinallySucceeds
#[test]
fn load_is_retried_until_it_succeeds() {
    let fixture = Fixture::with_options(retries(10, Duration::ZERO));
    fixture.add_version("m", "1");
    let m = id("m", 1);
    fixture.loader.fail(&m, 6, || ServingError::internal("no"));
    fixture.core.start(list([fixture.model("m")])).unwrap();
    assert_eq!(fixture.loader.loads(&m), 7);
}

// retrier_test.cc RetryFinallyFails; aspired_versions_manager_test.cc RetryOnLoadErrorFinallyFails
#[test]
fn load_is_retried_up_to_the_limit() {
    let fixture = Fixture::with_options(retries(10, Duration::ZERO));
    fixture.add_version("m", "1");
    let m = id("m", 1);
    fixture
        .loader
        .fail(&m, usize::MAX, || ServingError::internal("no"));
    let config = list([fixture.model("m")]);
    assert!(fixture.core.start(config).is_err());
    assert_eq!(fixture.loader.loads(&m), 11);
}

// retrier_test.cc RetryCancelled
#[test]
fn retry_ends_when_nobody_wants_the_version() {
    let fixture = Fixture::with_options(retries(10, Duration::from_secs(3600)));
    fixture.add_version("m", "1");
    let m = id("m", 1);
    fixture
        .loader
        .fail(&m, usize::MAX, || ServingError::internal("no"));
    let config = list([fixture.model("m")]);
    fixture.core.start_without_waiting(config).unwrap();
    eventually("it is tried", || fixture.loader.loads(&m) == 1);
    fixture.core.reload(list([])).unwrap();
    fixture.await_state("m", 1, ManagerState::End);
    assert_eq!(fixture.core.states("m")[0].code, Code::Cancelled);
    assert_eq!(fixture.loader.loads(&m), 1);
}

#[test]
fn shutdown_ends_a_retry() {
    let fixture = Fixture::with_options(retries(10, Duration::from_secs(3600)));
    fixture.add_version("m", "1");
    let m = id("m", 1);
    fixture
        .loader
        .fail(&m, usize::MAX, || ServingError::internal("no"));
    let config = list([fixture.model("m")]);
    fixture.core.start_without_waiting(config).unwrap();
    eventually("it is tried", || fixture.loader.loads(&m) == 1);
    fixture.core.shutdown();
    fixture.await_state("m", 1, ManagerState::End);
}

#[test]
fn panicking_loader_fails_its_version_only() {
    let fixture = Fixture::new();
    fixture.add_version("good", "1");
    fixture.add_version("bad", "1");
    fixture
        .loader
        .fail(&id("bad", 1), usize::MAX, || panic!("on purpose"));
    let config = list([fixture.model("good"), fixture.model("bad")]);
    let error = fixture.core.start(config).unwrap_err();
    let text = "{name: bad version: 1} due to error: INTERNAL: the loader panicked: on purpose";
    assert!(error.to_string().contains(text), "{error}");
    eventually("the other serves", || fixture.latest("good") == Some(1));
}

// aspired_versions_manager_test.cc EventBusServableLifecycle and, for the polls that follow,
// lifecycle.md 4: a failed version is not tried again
#[test]
fn failed_version_rests_until_its_files_change() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    fixture.add_version("other", "1");
    let m = id("m", 1);
    fixture.loader.fail(&m, 1, || ServingError::internal("no"));
    let config = list([fixture.model("m"), fixture.model("other")]);
    assert!(fixture.core.start(config).is_err());
    fixture.await_polls("other");
    assert_eq!(fixture.loader.loads(&m), 1);
    assert_eq!(fixture.state("m", 1), Some(ManagerState::End));

    fs::write(fixture.path("m/1/model.onnx"), "mended").unwrap();
    fixture.await_state("m", 1, ManagerState::Available);
    assert_eq!(fixture.loader.loads(&m), 2);
}

// A directory without a model gets one a moment later.
#[test]
fn version_that_waits_for_a_retry_is_tried_when_its_files_change() {
    let fixture = Fixture::with_options(retries(1, Duration::from_secs(3600)));
    fixture.add_version("m", "1");
    fixture.add_version("other", "1");
    let m = id("m", 1);
    fixture.loader.fail(&m, 3, || ServingError::not_found("no"));
    let config = list([fixture.model("m"), fixture.model("other")]);
    fixture.core.start_without_waiting(config).unwrap();
    fixture.await_state("other", 1, ManagerState::Available);
    for tries in 1..=3 {
        eventually("it is tried", || fixture.loader.loads(&m) == tries);
        fixture.await_polls_of("other", tries);
        // It waits for an hour, and then again: retries are counted from the last change.
        assert_eq!(fixture.loader.loads(&m), tries);
        assert_eq!(fixture.state("m", 1), Some(ManagerState::Loading));
        let name = format!("m/1/file{tries}");
        fs::write(fixture.path(&name), "copied late").unwrap();
    }
    fixture.await_state("m", 1, ManagerState::Available);
}

#[test]
fn directory_that_changes_during_a_load_is_loaded_again() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    let m = id("m", 1);
    fixture.loader.block(&m);
    let config = list([fixture.model("m")]);
    fixture.core.start_without_waiting(config).unwrap();
    eventually("it loads", || fixture.loader.loads(&m) == 1);
    fs::write(fixture.path("m/1/more"), "copied late").unwrap();
    fixture.loader.unblock(&m);
    fixture.await_state("m", 1, ManagerState::Available);
    assert_eq!(fixture.loader.loads(&m), 2);
}

// aspired_versions_manager_test.cc ManagerPrefersUnloadOverLoad
#[test]
fn unload_goes_before_loads_that_wait() {
    let fixture = Fixture::new();
    for model in ["loading", "leaving"] {
        fixture.add_version(model, "1");
    }
    let config = || list(["loading", "leaving"].map(|model| fixture.model(model).policy(all())));
    fixture.core.start(config()).unwrap();
    fixture.await_state("leaving", 1, ManagerState::Available);
    // One load at a time: the second one waits.
    fixture.loader.block(&id("loading", 2));
    fixture.add_version("loading", "2");
    fixture.await_state("loading", 2, ManagerState::Loading);
    fixture.add_version("loading", "3");
    fixture.await_state("loading", 3, ManagerState::Start);

    fixture.remove_version("leaving", "1");
    fixture.await_state("leaving", 1, ManagerState::End);
    assert_eq!(fixture.state("loading", 3), Some(ManagerState::Start));

    fixture.loader.unblock(&id("loading", 2));
    fixture.await_state("loading", 3, ManagerState::Available);
}

// saved_model_warmup_test.cc RunFailure, at this level
#[test]
fn failing_warmup_fails_the_load() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let inner: Arc<dyn Loader> = FakeLoader::new();
    let loader = WarmingLoader::new(inner, move |servable, directory| {
        assert_eq!(servable.id.version, 1);
        assert!(directory.ends_with("m/1"));
        match counted.fetch_add(1, Ordering::SeqCst) {
            0 => Err(ServingError::invalid_argument("Run failed")),
            _ => Ok(()),
        }
    });
    let core = ServerCore::new(retries(1, Duration::ZERO), Arc::new(loader));
    core.start(list([fixture.model("m")])).unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    assert_eq!(core.states("m")[0].state, ManagerState::Available);
}

#[test]
fn model_without_a_version_says_why_before_its_last_try() {
    let fixture = Fixture::with_options(retries(10, Duration::from_secs(3600)));
    fixture.add_version("m", "1");
    fixture
        .loader
        .fail(&id("m", 1), 1, || ServingError::internal("no"));
    fixture
        .core
        .start_without_waiting(list([fixture.model("m")]))
        .unwrap();
    let expected = "version 1, to be tried again: INTERNAL: no";
    let missing = || fixture.core.models_without_version();
    eventually("the first try has failed", || {
        missing() == [("m".to_owned(), Some(expected.to_owned()))]
    });
    // Another version serves.
    fixture.add_version("m", "2");
    eventually("version 2 serves", || missing().is_empty());
}

#[test]
fn model_without_a_version_says_why_after_its_last_try() {
    let fixture = Fixture::with_options(retries(0, Duration::ZERO));
    fixture.add_version("m", "1");
    fixture
        .loader
        .fail(&id("m", 1), usize::MAX, || ServingError::internal("no"));
    assert!(fixture.core.start(list([fixture.model("m")])).is_err());
    let [(name, Some(why))] = &fixture.core.models_without_version()[..] else {
        panic!("one model is missing");
    };
    assert_eq!((&**name, &**why), ("m", "version 1: INTERNAL: no"));
}
