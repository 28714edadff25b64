//! Versions that are added and removed: order of loads and unloads, states, draining.

use std::sync::{Arc, Mutex};

use super::support::*;
use crate::lifecycle::LifecycleOptions;
use crate::servable::ServableLookup;
use base::error::{Code, ServingError};
use base::id::VersionChoice;
use base::vocabulary::ManagerState;

// aspired_versions_manager_test.cc ServableHandleNotFoundMissingLoaderName, …MissingVersion
#[test]
fn unknown_servable_is_not_found() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    fixture.core.start(list([fixture.model("m")])).unwrap();
    let missing = fixture.find("m", Some(VersionChoice::Version(2)));
    let error = missing.err().unwrap();
    assert_eq!(error.code(), Code::NotFound);
    assert_eq!(
        error.to_string(),
        "Servable not found for request: Specific(m, 2)"
    );
    assert_eq!(
        fixture.find("n", None).err().unwrap().to_string(),
        "Servable not found for request: Latest(n)"
    );
}

// aspired_versions_manager_test.cc ServableHandleLatestVersionIsZero
#[test]
fn version_zero_is_a_version() {
    let fixture = Fixture::new();
    fixture.add_version("m", "0");
    fixture.core.start(list([fixture.model("m")])).unwrap();
    assert_eq!(fixture.latest("m"), Some(0));
}

// aspired_versions_manager_test.cc EventBusServableLifecycle, EventBusErrorOnLoad
#[test]
fn states_follow_each_other_in_order() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    let seen = Arc::<Mutex<Vec<_>>>::default();
    let for_core = Arc::clone(&seen);
    fixture.core.observe_states(move |state| {
        let event = (state.id.version, state.state, state.message.clone());
        for_core.lock().unwrap().push(event);
    });
    fixture.core.start(list([fixture.model("m")])).unwrap();
    let two = id("m", 2);
    fixture
        .loader
        .fail(&two, 1, || ServingError::internal("two"));
    fixture.add_version("m", "2");
    fixture.await_state("m", 2, ManagerState::End);
    fixture.core.reload(list([])).unwrap();
    fixture.await_state("m", 1, ManagerState::End);

    let event = |version, state| (version, state, String::new());
    let expected = [
        event(1, ManagerState::Start),
        event(1, ManagerState::Loading),
        event(1, ManagerState::Available),
        event(2, ManagerState::Start),
        event(2, ManagerState::Loading),
        (2, ManagerState::End, "two".to_owned()),
        event(1, ManagerState::Unloading),
        event(1, ManagerState::End),
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
}

// get_model_status_impl_test.cc AllVersionsSuccess
#[test]
fn states_come_highest_first() {
    let fixture = Fixture::new();
    for version in ["2", "10", "1"] {
        fixture.add_version("m", version);
    }
    let model = fixture.model("m").policy(specific(&[1, 10]));
    fixture.core.start(list([model])).unwrap();
    fixture.await_state("m", 1, ManagerState::Available);
    fixture.await_state("m", 10, ManagerState::Available);
    let states = fixture.core.states("m");
    assert_eq!(states.len(), 2);
    assert!(states[0].id.version == 10 && states[1].id.version == 1);
    assert!(
        states
            .iter()
            .all(|it| it.code == Code::Ok && it.message.is_empty())
    );
}

// aspired_versions_manager_test.cc AspiredRemovedFull, AspiredRemovedPartial
#[test]
fn removed_versions_are_unloaded() {
    let fixture = Fixture::new();
    for version in ["1", "2", "3"] {
        fixture.add_version("m", version);
    }
    let model = fixture.model("m").policy(all());
    fixture.core.start(list([model])).unwrap();
    for version in 1..=3 {
        fixture.await_state("m", version, ManagerState::Available);
    }
    fixture.remove_version("m", "2");
    fixture.await_state("m", 2, ManagerState::End);
    assert_eq!(fixture.state("m", 1), Some(ManagerState::Available));
    fixture.remove_version("m", "1");
    fixture.remove_version("m", "3");
    fixture.await_state("m", 1, ManagerState::End);
    fixture.await_state("m", 3, ManagerState::End);
    assert_eq!(fixture.latest("m"), None);
}

// availability_preserving_policy_test.cc, end to end
#[test]
fn old_version_serves_until_the_new_one_does() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    fixture.core.start(list([fixture.model("m")])).unwrap();
    fixture.loader.block(&id("m", 2));
    fixture.add_version("m", "2");
    fixture.await_state("m", 2, ManagerState::Loading);
    assert_eq!(fixture.latest("m"), Some(1));
    fixture.loader.unblock(&id("m", 2));
    fixture.await_state("m", 1, ManagerState::End);
    assert_eq!(fixture.latest("m"), Some(2));
}

// aspired_versions_manager_test.cc RevertToSmallerVersionNumber
#[test]
fn smaller_version_replaces_a_larger_one() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    fixture.core.start(list([fixture.model("m")])).unwrap();
    fixture.add_version("m", "0");
    fixture.remove_version("m", "1");
    fixture.await_state("m", 0, ManagerState::Available);
    fixture.await_state("m", 1, ManagerState::End);
    assert!(fixture.find("m", Some(VersionChoice::Version(1))).is_err());
}

// aspired_versions_manager_test.cc AspireErrorDontUnload
#[test]
fn last_old_version_stays_while_the_new_one_fails() {
    let fixture = Fixture::new();
    fixture.add_version("m", "0");
    fixture.add_version("m", "1");
    let model = || fixture.model("m");
    fixture.core.start(list([model().policy(all())])).unwrap();
    fixture.await_state("m", 0, ManagerState::Available);
    fixture.await_state("m", 1, ManagerState::Available);

    let seven = id("m", 7);
    fixture
        .loader
        .fail(&seven, usize::MAX, || ServingError::internal("seven"));
    fixture.add_version("m", "7");
    let config = list([model().policy(specific(&[7]))]);
    fixture.core.reload(config).unwrap();
    fixture.await_state("m", 7, ManagerState::End);
    fixture.await_state("m", 0, ManagerState::End);
    assert_eq!(fixture.latest("m"), Some(1));

    fixture.add_version("m", "8");
    let config = list([model().policy(specific(&[8]))]);
    fixture.core.reload(config).unwrap();
    fixture.await_state("m", 8, ManagerState::Available);
    fixture.await_state("m", 1, ManagerState::End);
}

// TensorFlow Serving never updates such a model again.
#[test]
fn kept_old_version_comes_back_into_favour() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    fixture.core.start(list([fixture.model("m")])).unwrap();
    let two = id("m", 2);
    fixture
        .loader
        .fail(&two, usize::MAX, || ServingError::internal("two"));
    fixture.add_version("m", "2");
    fixture.await_state("m", 2, ManagerState::End);
    fixture.remove_version("m", "2");
    fixture.add_version("m", "3");
    fixture.await_state("m", 3, ManagerState::Available);
    fixture.await_state("m", 1, ManagerState::End);

    fixture.add_version("m", "4");
    fixture.await_state("m", 4, ManagerState::Available);
}

#[test]
fn rollback_while_the_new_version_loads_keeps_serving() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    fixture.core.start(list([fixture.model("m")])).unwrap();
    let two = id("m", 2);
    fixture.loader.block(&two);
    fixture.add_version("m", "2");
    fixture.await_state("m", 2, ManagerState::Loading);
    fixture.remove_version("m", "2");
    fixture.loader.unblock(&two);
    eventually("2 is gone, 1 serves", || {
        assert!(fixture.latest("m").is_some(), "nothing serves");
        fixture.state("m", 2) == Some(ManagerState::End) && fixture.latest("m") == Some(1)
    });
}

// aspired_versions_manager_test.cc AspiredAndManageStateUnload
#[test]
fn unload_waits_for_the_last_handle() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    fixture.core.start(list([fixture.model("m")])).unwrap();
    let handle = fixture.find("m", None).unwrap();
    fixture.core.reload(list([])).unwrap();
    fixture.await_state("m", 1, ManagerState::Unloading);
    // New requests do not find it, but the request in flight keeps it.
    eventually("it is out of the table", || fixture.latest("m").is_none());
    assert_eq!(fixture.state("m", 1), Some(ManagerState::Unloading));
    drop(handle);
    fixture.await_state("m", 1, ManagerState::End);
}

// In TensorFlow Serving the request delays every model.
#[test]
fn held_version_does_not_delay_others() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    fixture.core.start(list([fixture.model("m")])).unwrap();
    let handle = fixture.find("m", None).unwrap();
    fixture.add_version("m", "2");
    fixture.await_state("m", 1, ManagerState::Unloading);
    fixture.add_version("m", "3");
    fixture.await_state("m", 3, ManagerState::Available);
    fixture.await_state("m", 2, ManagerState::End);
    assert_eq!(fixture.state("m", 1), Some(ManagerState::Unloading));
    drop(handle);
    fixture.await_state("m", 1, ManagerState::End);
}

#[test]
fn servable_dies_after_its_last_request() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    fixture.core.start(list([fixture.model("m")])).unwrap();
    let handle = fixture.find("m", None).unwrap();
    let watch = handle.watch();
    fixture.core.reload(list([])).unwrap();
    drop(handle);
    fixture.await_state("m", 1, ManagerState::End);
    assert_eq!(watch.strong_count(), 0);
}

// aspired_versions_manager_test.cc UnaspireThenImmediatelyReaspire
#[test]
fn version_that_comes_back_is_loaded_afresh() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    fixture.add_version("other", "1");
    let [m, other] = ["m", "other"].map(|model| fixture.model(model));
    let both = list([m, other.clone()]);
    fixture.core.start(both.clone()).unwrap();
    let handle = fixture.find("m", None).unwrap();
    fixture.core.reload(list([other])).unwrap();
    fixture.await_state("m", 1, ManagerState::Unloading);
    std::thread::scope(|scope| {
        let again = scope.spawn(|| fixture.core.reload(both));
        // It is not loaded again before the old one is gone.
        fixture.await_polls("other");
        assert_eq!(fixture.loader.loads(&id("m", 1)), 1);
        drop(handle);
        again.join().unwrap().unwrap();
    });
    assert_eq!(fixture.loader.loads(&id("m", 1)), 2);
}

// aspired_versions_manager_test.cc UnaspireFailedServableThenImmediatelyReaspire
#[test]
fn failed_version_that_comes_back_is_loaded_afresh() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    let m = id("m", 1);
    fixture.loader.fail(&m, 1, || ServingError::internal("no"));
    fixture.core.start(list([fixture.model("m")])).unwrap_err();
    fixture.core.reload(list([])).unwrap();
    fixture.core.reload(list([fixture.model("m")])).unwrap();
    assert_eq!(fixture.latest("m"), Some(1));
}

// aspired_versions_manager_test.cc UnaspireNewServableThenImmediatelyReaspire
#[test]
fn version_that_was_never_loaded_comes_back() {
    let fixture = Fixture::with_options(LifecycleOptions {
        num_initial_load_threads: 1,
        ..fast()
    });
    fixture.add_version("a", "1");
    fixture.add_version("b", "1");
    fixture.loader.block(&id("a", 1));
    let (a, b) = (fixture.model("a"), fixture.model("b"));
    let both = list([a.clone(), b]);
    fixture.core.start_without_waiting(both.clone()).unwrap();
    fixture.await_state("a", 1, ManagerState::Loading);
    fixture.await_state("b", 1, ManagerState::Start);
    fixture.core.reload(list([a])).unwrap();
    fixture.await_state("b", 1, ManagerState::End);
    fixture.loader.unblock(&id("a", 1));
    fixture.core.reload(both).unwrap();
    assert_eq!(fixture.latest("b"), Some(1));
    assert_eq!(fixture.loader.loads(&id("b", 1)), 1);
}

// basic_manager_test.cc: a load that is no longer wanted
#[test]
fn load_out_of_favour_ends_cancelled() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    fixture.loader.block(&id("m", 1));
    let config = list([fixture.model("m")]);
    fixture.core.start_without_waiting(config).unwrap();
    fixture.await_state("m", 1, ManagerState::Loading);
    fixture.core.reload(list([])).unwrap();
    fixture.loader.unblock(&id("m", 1));
    fixture.await_state("m", 1, ManagerState::End);
    let state = &fixture.core.states("m")[0];
    assert_eq!(state.code, Code::Cancelled);
    assert_eq!(state.message, "Loading of servable cancelled");
    assert_eq!(fixture.latest("m"), None);
}

// lifecycle.md 3: for the latest two with 2 and 3 loaded and 4 appearing, 2 goes first
#[test]
fn latest_two_lets_the_oldest_go_first() {
    let fixture = Fixture::new();
    fixture.add_version("m", "2");
    fixture.add_version("m", "3");
    let model = fixture.model("m").policy(latest(2));
    fixture.core.start(list([model])).unwrap();
    fixture.await_state("m", 2, ManagerState::Available);
    fixture.await_state("m", 3, ManagerState::Available);
    fixture.loader.block(&id("m", 4));
    fixture.add_version("m", "4");
    fixture.await_state("m", 2, ManagerState::End);
    fixture.await_state("m", 4, ManagerState::Loading);
    fixture.loader.unblock(&id("m", 4));
    fixture.await_state("m", 4, ManagerState::Available);
}

#[test]
fn highest_version_loads_first() {
    let fixture = Fixture::with_options(LifecycleOptions {
        num_initial_load_threads: 1,
        ..fast()
    });
    for version in ["1", "2", "3"] {
        fixture.add_version("m", version);
    }
    let model = fixture.model("m").policy(all());
    fixture.core.start(list([model])).unwrap();
    fixture.await_state("m", 1, ManagerState::Available);
    let order: Vec<_> = fixture.loader.calls();
    let order: Vec<_> = order.iter().map(|(id, _)| id.version).collect();
    assert_eq!(order, [3, 2, 1]);
}

#[test]
fn start_up_loads_many_at_a_time_later_few() {
    let fixture = Fixture::with_options(LifecycleOptions {
        num_initial_load_threads: 3,
        num_load_threads: 0,
        ..fast()
    });
    let block_all = |model: &str, block: bool| {
        for version in 1..=5 {
            if block {
                fixture.add_version(model, &version.to_string());
                fixture.loader.block(&id(model, version));
            } else {
                fixture.loader.unblock(&id(model, version));
            }
        }
    };
    let running = |model: &str| {
        let states = fixture.core.states(model);
        let loading = states.iter().filter(|it| it.state == ManagerState::Loading);
        loading.count()
    };
    block_all("a", true);
    let a = fixture.model("a").policy(all());
    let config = list([a.clone()]);
    fixture.core.start_without_waiting(config).unwrap();
    eventually("three load", || fixture.loader.most_running() == 3);
    assert_eq!(running("a"), 3);
    block_all("a", false);
    for version in 1..=5 {
        fixture.await_state("a", version, ManagerState::Available);
    }
    assert_eq!(fixture.loader.most_running(), 3);

    block_all("b", true);
    std::thread::scope(|scope| {
        let b = fixture.model("b").policy(all());
        let reload = scope.spawn(|| fixture.core.reload(list([a, b])));
        eventually("one loads", || running("b") == 1);
        fixture.await_state("b", 4, ManagerState::Start);
        assert_eq!(running("b"), 1);
        block_all("b", false);
        reload.join().unwrap().unwrap();
    });
}
