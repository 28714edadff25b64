//! Configurations: the models they load and unload. Not here: how they are refused (`refused`).
//!
//! Texts are those of the recorded exchanges and of `model_servers/server_core.cc`.

use super::support::*;
use crate::lifecycle::{LifecycleOptions, PollWait};
use crate::servable::ServableLookup;
use base::error::{Code, ServingError};
use base::vocabulary::ManagerState;
use proto::tensorflow::serving::ModelConfig;

// server_core_test.cc CreateWaitsTillModelsAvailable
#[test]
fn start_waits_until_models_are_available() {
    let fixture = Fixture::new();
    fixture.add_version("m", "123");
    fixture.core.start(list([fixture.model("m")])).unwrap();
    assert_eq!(fixture.latest("m"), Some(123));
    assert_eq!(fixture.state("m", 123), Some(ManagerState::Available));
}

// server_core_test.cc ReloadConfigWaitsTillModelsAvailable
#[test]
fn reload_waits_until_models_are_available() {
    let fixture = Fixture::new();
    fixture.add_version("m", "123");
    fixture.core.start(list([])).unwrap();
    fixture.core.reload(list([fixture.model("m")])).unwrap();
    assert_eq!(fixture.latest("m"), Some(123));
}

// server_core_test.cc ReloadConfigUnloadsModels, ReloadConfigHandlesLoadingAPreviouslyUnloadedModel
#[test]
fn dropped_model_ends_and_comes_back() {
    let fixture = Fixture::new();
    fixture.add_version("m", "123");
    fixture.core.start(list([fixture.model("m")])).unwrap();
    fixture.core.reload(list([])).unwrap();
    fixture.await_state("m", 123, ManagerState::End);
    assert_eq!(fixture.latest("m"), None);
    assert_eq!(fixture.core.states("m")[0].code, Code::Ok);

    fixture.core.reload(list([fixture.model("m")])).unwrap();
    assert_eq!(fixture.latest("m"), Some(123));
    assert_eq!(fixture.loader.loads(&id("m", 123)), 2);
}

#[test]
fn model_dropped_and_added_at_once_comes_back() {
    let fixture = Fixture::new();
    fixture.add_version("m", "123");
    fixture.core.start(list([fixture.model("m")])).unwrap();
    for _ in 0..20 {
        fixture.core.reload(list([])).unwrap();
        fixture.core.reload(list([fixture.model("m")])).unwrap();
        assert_eq!(fixture.latest("m"), Some(123));
    }
}

// server_core_test.cc ReloadConfigChangeModelBasePath
#[test]
fn base_path_changes_forth_and_back() {
    let fixture = Fixture::new();
    fixture.add_version("one", "123");
    fixture.add_version("two", "123");
    fixture.add_version("two", "124");
    let at = |path: &str| ModelConfig {
        name: "m".to_owned(),
        ..fixture.model(path)
    };
    fixture.core.start(list([at("one")])).unwrap();
    fixture.core.reload(list([at("two")])).unwrap();
    eventually("124 serves alone", || {
        fixture.latest("m") == Some(124) && fixture.state("m", 123) == Some(ManagerState::End)
    });
    fixture.core.reload(list([at("one")])).unwrap();
    eventually("123 is back", || fixture.latest("m") == Some(123));
}

#[test]
fn same_version_at_new_base_path_stays() {
    let fixture = Fixture::new();
    fixture.add_version("one", "123");
    fixture.add_version("two", "123");
    let at = |path: &str| ModelConfig {
        name: "m".to_owned(),
        ..fixture.model(path)
    };
    fixture.core.start(list([at("one")])).unwrap();
    fixture.core.reload(list([at("two")])).unwrap();
    assert_eq!(fixture.latest("m"), Some(123));
    assert_eq!(fixture.loader.loads(&id("m", 123)), 1);
}

// server_core_test.cc ErroringModel
#[test]
fn start_fails_with_the_loaders_error() {
    let fixture = Fixture::new();
    fixture.add_version("m", "123");
    let m = id("m", 123);
    fixture
        .loader
        .fail(&m, 1, || ServingError::new(Code::Cancelled, "injected"));
    let error = fixture.core.start(list([fixture.model("m")])).unwrap_err();
    assert_eq!(error.code(), Code::Unknown);
    assert_eq!(
        error.to_string(),
        "1 servable(s) did not become available: {{{name: m version: 123} due to error: \
         CANCELLED: injected}, }"
    );
    let state = &fixture.core.states("m")[0];
    assert_eq!(state.state, ManagerState::End);
    assert_eq!(
        (state.code, state.message.as_str()),
        (Code::Cancelled, "injected")
    );
}

// reload_bad of the recorded exchanges
#[test]
fn bad_model_fails_its_reload_only() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    fixture.add_version("bad", "00000123");
    let bad = id("bad", 123);
    fixture.loader.fail(&bad, usize::MAX, || {
        ServingError::unimplemented("Session Bundle is deprecated and removed.")
    });
    let both = || list([fixture.model("m"), fixture.model("bad")]);
    fixture.core.start(list([fixture.model("m")])).unwrap();
    check_error(
        &fixture,
        both(),
        Code::Unknown,
        "1 model(s) did not become available: {{{name: bad version: 123} due to error: \
         UNIMPLEMENTED: Session Bundle is deprecated and removed.}, }",
    );
    assert_eq!(fixture.state("bad", 123), Some(ManagerState::End));
    let error = fixture.find("bad", None).err().unwrap();
    assert_eq!(
        error.to_string(),
        "Servable not found for request: Latest(bad)"
    );
    // It is not a new model any more.
    fixture.core.reload(both()).unwrap();
    fixture.core.reload(list([fixture.model("m")])).unwrap();
    let state = &fixture.core.states("bad")[0];
    assert_eq!(
        (state.state, state.code),
        (ManagerState::End, Code::Unimplemented)
    );
    assert_eq!(fixture.latest("m"), Some(1));
}

// reload_missing of the recorded exchanges, where TensorFlow Serving waits for ever
#[test]
fn reload_answers_early_for_missing_path() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    fixture.core.start(list([fixture.model("m")])).unwrap();
    let with_missing = list([fixture.model("m"), fixture.model("missing")]);
    let path = fixture.path("missing");
    check_error(
        &fixture,
        with_missing,
        Code::Unknown,
        &format!(
            "1 model(s) did not become available: {{{{{{name: missing}} due to error: NOT_FOUND: \
             {} not found}}, }}",
            path.display()
        ),
    );
    assert_eq!(fixture.core.states("missing"), []);
    fixture.core.reload(list([fixture.model("m")])).unwrap();
}

#[test]
fn reload_answers_early_for_path_without_versions() {
    let fixture = Fixture::new();
    fixture.add_version("m", "not-a-version");
    fixture.core.start(list([])).unwrap();
    let error = fixture.core.reload(list([fixture.model("m")])).unwrap_err();
    assert_eq!(error.code(), Code::Unknown);
    let text = "NOT_FOUND: Unable to find a numerical version path for servable m at: ";
    assert!(error.to_string().contains(text), "{error}");
    // It is still watched.
    fixture.add_version("m", "7");
    eventually("7 serves", || fixture.latest("m") == Some(7));
}

#[test]
fn start_waits_for_missing_path() {
    let fixture = Fixture::new();
    fixture.add_version("other", "1");
    let config = list([fixture.model("m"), fixture.model("other")]);
    std::thread::scope(|scope| {
        let start = scope.spawn(|| fixture.core.start(config));
        // TensorFlow Serving loads nothing in this case.
        eventually("the other serves", || fixture.latest("other") == Some(1));
        assert!(!start.is_finished());
        fixture.add_version("m", "3");
        start.join().unwrap().unwrap();
        assert_eq!(fixture.latest("m"), Some(3));
    });
}

#[test]
fn shutdown_ends_a_waiting_start() {
    let fixture = Fixture::new();
    let config = list([fixture.model("m")]);
    std::thread::scope(|scope| {
        let start = scope.spawn(|| fixture.core.start(config));
        fixture.core.shutdown();
        assert_eq!(start.join().unwrap().unwrap_err().code(), Code::Cancelled);
    });
}

#[test]
fn start_without_waiting_returns_at_once() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    fixture.loader.block(&id("m", 1));
    let config = list([fixture.model("m"), fixture.model("missing")]);
    fixture.core.start_without_waiting(config).unwrap();
    fixture.await_state("m", 1, ManagerState::Loading);
    fixture.loader.unblock(&id("m", 1));
    fixture.await_state("m", 1, ManagerState::Available);
}

#[test]
fn poll_zero_looks_once_per_reload() {
    let fixture = Fixture::with_options(LifecycleOptions {
        file_system_poll_wait: PollWait::from_seconds(0),
        ..fast()
    });
    fixture.add_version("m", "1");
    fixture.core.start(list([fixture.model("m")])).unwrap();
    fixture.add_version("m", "2");
    // file_system_storage_path_source_test.cc PollFilesystemOnlyOnce
    let polling = Fixture::new();
    polling.add_version("m", "1");
    polling.core.start(list([polling.model("m")])).unwrap();
    polling.await_polls("m");
    assert_eq!(fixture.latest("m"), Some(1));
    fixture.core.reload(list([fixture.model("m")])).unwrap();
    eventually("2 serves", || fixture.latest("m") == Some(2));
}

#[test]
fn negative_poll_finds_nothing() {
    let fixture = Fixture::with_options(LifecycleOptions {
        file_system_poll_wait: PollWait::from_seconds(-1),
        ..fast()
    });
    fixture.add_version("m", "1");
    fixture.core.start(list([])).unwrap();
    let error = fixture.core.reload(list([fixture.model("m")])).unwrap_err();
    assert_eq!(error.code(), Code::Unknown);
    assert_eq!(fixture.latest("m"), None);
}

#[test]
fn changed_policy_takes_effect() {
    let fixture = Fixture::new();
    for version in ["1", "2", "3"] {
        fixture.add_version("m", version);
    }
    let model = || fixture.model("m");
    fixture.core.start(list([model().policy(all())])).unwrap();
    for version in 1..=3 {
        fixture.await_state("m", version, ManagerState::Available);
    }
    let config = list([model().policy(specific(&[1]))]);
    fixture.core.reload(config).unwrap();
    fixture.await_state("m", 3, ManagerState::End);
    fixture.await_state("m", 2, ManagerState::End);
    assert_eq!(fixture.latest("m"), Some(1));
    let config = list([model().policy(latest(2))]);
    fixture.core.reload(config).unwrap();
    fixture.await_state("m", 2, ManagerState::Available);
    fixture.await_state("m", 3, ManagerState::Available);
    fixture.await_state("m", 1, ManagerState::End);
}

#[test]
fn base_path_that_is_a_saved_model_is_named_by_a_reload() {
    let fixture = Fixture::new();
    std::fs::create_dir_all(fixture.path("m")).unwrap();
    std::fs::write(fixture.path("m").join("saved_model.pb"), "").unwrap();
    fixture.core.start(list([])).unwrap();
    let error = fixture.core.reload(list([fixture.model("m")])).unwrap_err();
    let text = ". The base path is itself a TensorFlow SavedModel: it holds saved_model.pb.";
    assert!(error.to_string().contains(text), "{error}");
    let [(name, Some(why))] = &fixture.core.models_without_version()[..] else {
        panic!("one model is missing");
    };
    assert_eq!(name, "m");
    assert!(why.contains(&text[2..]), "{why}");
}
