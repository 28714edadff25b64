//! Polls of real directories; names in comments are cases of
//! `file_system_storage_path_source_test.cc`.

use std::fs;

use tempfile::TempDir;

use super::storage::LocalStorage;
use super::*;

/// What a sink was told, in order.
#[derive(Default)]
struct Heard(Mutex<Vec<(String, Vec<AspiredVersion>)>>);

impl AspiredVersionsSink for Heard {
    fn set_aspired_versions(&self, model: &Arc<str>, versions: Vec<AspiredVersion>) {
        self.0.lock().unwrap().push((model.to_string(), versions));
    }
}

struct Fixture {
    root: TempDir,
    source: Source,
    heard: Heard,
}

impl Fixture {
    fn new(directories: &[&str]) -> Self {
        let fixture = Self {
            root: TempDir::new().unwrap(),
            source: Source::new(Arc::new(LocalStorage)),
            heard: Heard::default(),
        };
        for directory in directories {
            fixture.add(directory);
        }
        fixture
    }

    fn add(&self, directory: &str) {
        fs::create_dir_all(self.root.path().join(directory)).unwrap();
    }

    /// A model in the directory of its name.
    fn model(&self, name: &str, policy: VersionPolicy) -> WatchedModel {
        WatchedModel {
            name: name.into(),
            base_path: self.root.path().join(name),
            policy,
        }
    }

    fn watch(&self, models: &[(&str, VersionPolicy)]) {
        let models = models
            .iter()
            .map(|(name, policy)| self.model(name, policy.clone()))
            .collect();
        self.source.watch(models, &self.heard);
    }

    /// Polls and returns what was said since the last time, as versions and directory names.
    fn poll(&self) -> Vec<(String, Vec<(i64, String)>)> {
        self.source.poll(&self.heard);
        let heard = std::mem::take(&mut *self.heard.0.lock().unwrap());
        let name = |it: &AspiredVersion| it.directory.file_name().unwrap().to_str().unwrap().into();
        heard
            .into_iter()
            .map(|(model, versions)| {
                let versions = versions.iter().map(|it| (it.version, name(it))).collect();
                (model, versions)
            })
            .collect()
    }

    #[track_caller]
    fn check_poll(&self, expected: &[(&str, &[(i64, &str)])]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|(model, versions)| {
                let versions: Vec<_> = versions.iter().map(|(v, n)| (*v, n.to_string())).collect();
                (model.to_string(), versions)
            })
            .collect();
        assert_eq!(self.poll(), expected);
    }
}

fn specific(versions: &[i64]) -> VersionPolicy {
    VersionPolicy::Specific(versions.to_vec())
}

const LATEST: VersionPolicy = VersionPolicy::Latest(1);

// NoVersionsAtStartup
#[test]
fn empty_base_path_aspires_nothing() {
    let fixture = Fixture::new(&["m/non_numerical_child"]);
    fixture.watch(&[("m", LATEST), ("missing", LATEST)]);
    fixture.check_poll(&[("m", &[])]);
    let polled = fixture.source.poll(&fixture.heard);
    assert!(matches!(polled[0].1, Ok(0)));
    let error = polled[1].1.as_ref().unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    let missing = fixture.root.path().join("missing");
    assert_eq!(
        error.to_string(),
        format!("{} not found", missing.display())
    );
}

// FilesAppearAfterStartup
#[test]
fn files_may_appear_later() {
    let fixture = Fixture::new(&[]);
    fixture.watch(&[("m", LATEST)]);
    fixture.check_poll(&[]);
    fixture.add("m/3");
    fixture.check_poll(&[("m", &[(3, "3")])]);
}

// SpecificVersionsLeadingZeros
#[test]
fn directories_keep_their_zeros() {
    let fixture = Fixture::new(&["m/00017", "m/30", "m/42"]);
    fixture.watch(&[("m", specific(&[17, 30]))]);
    fixture.check_poll(&[("m", &[(30, "30"), (17, "00017")])]);
}

// MultipleServables
#[test]
fn several_models_are_polled_in_order() {
    let fixture = Fixture::new(&["z/42", "a/non_numerical", "m/1", "m/2"]);
    fixture.watch(&[("z", LATEST), ("a", LATEST), ("m", VersionPolicy::All)]);
    fixture.check_poll(&[
        ("z", &[(42, "42")]),
        ("a", &[]),
        ("m", &[(2, "2"), (1, "1")]),
    ]);
}

// ChangeSetOfServables
#[test]
fn only_dropped_models_get_an_empty_list() {
    let fixture = Fixture::new(&["0/0", "1/1", "2/2"]);
    fixture.watch(&[("0", LATEST), ("1", LATEST)]);
    fixture.check_poll(&[("0", &[(0, "0")]), ("1", &[(1, "1")])]);
    fixture.watch(&[("1", LATEST), ("2", LATEST)]);
    fixture.check_poll(&[("0", &[]), ("1", &[(1, "1")]), ("2", &[(2, "2")])]);
}

// ChangeVersionPolicy
#[test]
fn changed_policy_counts_from_the_next_poll() {
    let fixture = Fixture::new(&["m/02", "m/5", "m/8", "m/13"]);
    fixture.watch(&[("m", VersionPolicy::Latest(2))]);
    fixture.check_poll(&[("m", &[(13, "13"), (8, "8")])]);
    fixture.watch(&[("m", specific(&[2, 5]))]);
    fixture.check_poll(&[("m", &[(5, "5"), (2, "02")])]);
}

// LastVersionNotRemoved, with "always present" off: no flag sets it
#[test]
fn last_version_gone_aspires_nothing() {
    let fixture = Fixture::new(&["m/42"]);
    fixture.watch(&[("m", LATEST)]);
    fixture.check_poll(&[("m", &[(42, "42")])]);
    fs::remove_dir(fixture.root.path().join("m/42")).unwrap();
    fixture.check_poll(&[("m", &[])]);
}

#[test]
fn missing_base_path_does_not_stop_the_others() {
    let fixture = Fixture::new(&["z/1"]);
    fixture.watch(&[("missing", LATEST), ("z", LATEST)]);
    fixture.check_poll(&[("z", &[(1, "1")])]);
}

#[test]
fn flat_model_gives_way_to_version_directories() {
    let fixture = Fixture::new(&["m"]);
    fs::write(fixture.root.path().join("m/model.onnx"), "").unwrap();
    for policy in [LATEST, VersionPolicy::All] {
        fixture.watch(&[("m", policy)]);
        fixture.check_poll(&[("m", &[(1, "m")])]);
    }
    fixture.watch(&[("m", specific(&[1]))]);
    fixture.check_poll(&[("m", &[])]);
    fixture.add("m/5");
    fixture.watch(&[("m", LATEST)]);
    fixture.check_poll(&[("m", &[(5, "5")])]);
}
