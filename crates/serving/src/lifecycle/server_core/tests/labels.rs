//! Labels: the versions they can be assigned to, and the versions they find.

use super::support::*;
use crate::lifecycle::LifecycleOptions;
use crate::servable::ServableLookup;
use base::error::Code;
use base::id::VersionChoice;
use base::vocabulary::ManagerState;
use proto::tensorflow::serving::ModelConfig;

// server_core_test.cc ModelSpecMultipleVersionsAvailable
#[test]
fn versions_are_found_by_number_and_label() {
    let (fixture, model) = two_versions(fast());
    let labelled = model().label("A", 1).label("B", 2);
    fixture.core.reload(list([labelled])).unwrap();
    let version = |choice| fixture.find("m", choice).unwrap().id.version;
    assert_eq!(version(None), 2);
    assert_eq!(version(Some(VersionChoice::Version(1))), 1);
    assert_eq!(version(Some(VersionChoice::Label("A".to_owned()))), 1);
    assert_eq!(version(Some(VersionChoice::Label("B".to_owned()))), 2);
    let unknown = fixture.find("m", Some(VersionChoice::Label("C".to_owned())));
    assert_eq!(
        unknown.err().unwrap().to_string(),
        "Unrecognized servable version label: C"
    );
    // Labels that are no longer listed are gone.
    fixture.core.reload(list([model().label("A", 2)])).unwrap();
    assert_eq!(version(Some(VersionChoice::Label("A".to_owned()))), 2);
    assert!(
        fixture
            .find("m", Some(VersionChoice::Label("B".to_owned())))
            .is_err()
    );
}

/// `m` with versions 1 and 2 loaded, and its configuration.
fn two_versions(options: LifecycleOptions) -> (Fixture, impl Fn() -> ModelConfig) {
    let fixture = Fixture::with_options(options);
    fixture.add_version("m", "1");
    fixture.add_version("m", "2");
    let model = fixture.model("m").policy(all());
    fixture.core.start(list([model.clone()])).unwrap();
    fixture.await_state("m", 1, ManagerState::Available);
    fixture.await_state("m", 2, ManagerState::Available);
    (fixture, move || model.clone())
}

const LABEL_REFUSED: &str = "Request to assign label to version 77 of model m, which is not \
                             currently available for inference";

// server_core_test.cc AssignLabelToUnavailableVersion
#[test]
fn label_of_unavailable_version_is_refused() {
    let (fixture, model) = two_versions(fast());
    fixture.core.reload(list([model().label("A", 1)])).unwrap();
    let config = list([model().label("A", 2).label("x", 77)]);
    check_error(&fixture, config, Code::FailedPrecondition, LABEL_REFUSED);
    // All labels are unchanged.
    let a = fixture.find("m", Some(VersionChoice::Label("A".to_owned())));
    assert_eq!(a.unwrap().id.version, 1);
}

// lifecycle.md 6.1: a configuration with labels fails at start-up. Only this server's text names the flag.
#[test]
fn label_at_start_is_refused() {
    let fixture = Fixture::new();
    fixture.add_version("m", "77");
    let error = fixture
        .core
        .start(list([fixture.model("m").label("A", 77)]))
        .unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    let way_out = ". No version is when the server starts: start it with \
                   --allow_version_labels_for_unavailable_models, or assign labels by a later \
                   configuration";
    assert_eq!(error.to_string(), format!("{LABEL_REFUSED}{way_out}"));
    assert_eq!(fixture.core.states("m"), []);
}

// server_core_test.cc AssignLabelToUnavailableVersionAllowed,
// AssignExistingLabelToUnavailableVersionDisallowed; reload_labels/06, /07 of the recordings
#[test]
fn new_label_of_unavailable_version_may_be_allowed() {
    let (fixture, model) = two_versions(LifecycleOptions {
        allow_version_labels_for_unavailable_models: true,
        ..fast()
    });
    let config = list([model().label("A", 1).label("x", 77)]);
    fixture.core.reload(config.clone()).unwrap();
    fixture.core.reload(config).unwrap();
    let x = fixture.find("m", Some(VersionChoice::Label("x".to_owned())));
    assert_eq!(
        x.err().unwrap().to_string(),
        "Servable not found for request: Specific(m, 77)"
    );
    let config = list([model().label("A", 77)]);
    check_error(&fixture, config, Code::FailedPrecondition, LABEL_REFUSED);
}

// reload_labels/09 to /11 of the recorded exchanges
#[test]
fn label_stays_when_its_version_goes() {
    let (fixture, model) = two_versions(LifecycleOptions {
        allow_version_labels_for_unavailable_models: true,
        ..fast()
    });
    let labelled = || model().label("canary", 2);
    fixture.core.reload(list([labelled()])).unwrap();
    let config = list([labelled().policy(specific(&[1]))]);
    fixture.core.reload(config).unwrap();
    fixture.await_state("m", 2, ManagerState::End);
    let canary = fixture.find("m", Some(VersionChoice::Label("canary".to_owned())));
    assert_eq!(
        canary.err().unwrap().to_string(),
        "Servable not found for request: Specific(m, 2)"
    );
    let states: Vec<_> = fixture.core.states("m");
    let seen: Vec<_> = states.iter().map(|it| (it.id.version, it.state)).collect();
    assert_eq!(seen, [(2, ManagerState::End), (1, ManagerState::Available)]);
}
