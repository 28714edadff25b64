//! After `core/servable_state_monitor_test.cc`: states are kept by name and version, listed from
//! high to low, the newest counts; a wait is decided by the first version that finishes loading.

use super::*;

fn id(model: &str, version: i64) -> ServableId {
    ServableId::new(model, version)
}

#[test]
fn newest_state_replaces_the_old() {
    let monitor = StateMonitor::default();
    monitor.publish(&id("m", 1), ManagerState::Start, None);
    monitor.publish(&id("m", 3), ManagerState::Loading, None);
    let error = ServingError::internal("no");
    monitor.publish(&id("m", 1), ManagerState::End, Some(&error));
    let states: Vec<_> = monitor
        .states("m")
        .into_iter()
        .map(|it| (it.id.version, it.state, it.code, it.message))
        .collect();
    assert_eq!(
        states,
        [
            (3, ManagerState::Loading, Code::Ok, String::new()),
            (1, ManagerState::End, Code::Internal, "no".to_owned()),
        ]
    );
    assert_eq!(monitor.states("n"), []);
}

#[test]
fn wait_ends_with_the_first_outcome() {
    let monitor = StateMonitor::default();
    let expectation = monitor.expect(["m".into(), "n".into()]);
    monitor.publish(&id("m", 1), ManagerState::Available, None);
    // This model is already decided.
    let error = ServingError::internal("no");
    monitor.publish(&id("m", 2), ManagerState::End, Some(&error));
    monitor.publish(&id("n", 1), ManagerState::Available, None);
    expectation.wait("model").unwrap();
}

#[test]
fn wait_lists_every_failure_by_name() {
    let monitor = StateMonitor::default();
    let expectation = monitor.expect(["z".into(), "a".into(), "b".into()]);
    let error = ServingError::not_found("gone");
    monitor.publish(&id("z", 2), ManagerState::End, Some(&error));
    monitor.publish(&id("b", 1), ManagerState::Available, None);
    expectation.give_up("a", &error);
    let error = expectation.wait("model").unwrap_err();
    assert_eq!(error.code(), Code::Unknown);
    assert_eq!(
        error.to_string(),
        "2 model(s) did not become available: {{{name: a} due to error: NOT_FOUND: gone}, \
         {{name: z version: 2} due to error: NOT_FOUND: gone}, }"
    );
}

#[test]
fn former_life_does_not_decide_a_wait() {
    let monitor = StateMonitor::default();
    monitor.publish(&id("m", 1), ManagerState::Available, None);
    let expectation = monitor.expect(["m".into()]);
    monitor.publish(&id("m", 1), ManagerState::Unloading, None);
    monitor.publish(&id("m", 1), ManagerState::End, None);
    std::thread::scope(|scope| {
        let wait = scope.spawn(|| expectation.wait("model"));
        monitor.publish(&id("m", 1), ManagerState::Start, None);
        assert!(!wait.is_finished());
        monitor.publish(&id("m", 1), ManagerState::Available, None);
        wait.join().unwrap().unwrap();
    });
}

#[test]
fn closing_ends_waits_now_and_later() {
    let monitor = StateMonitor::default();
    monitor.close();
    let error = monitor.expect(["m".into()]).wait("model").unwrap_err();
    assert_eq!(error.code(), Code::Cancelled);
    assert!(monitor.lock().waits.is_empty());
    monitor.expect([]).wait("model").unwrap();
}
