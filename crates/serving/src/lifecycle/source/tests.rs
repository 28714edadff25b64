//! Polls of real directories; names in comments are cases of
//! `file_system_storage_path_source_test.cc`.

use std::fs;
use std::path::Path;
use std::sync::{Condvar, Mutex};
use std::time::Instant;

use tempfile::TempDir;

use super::*;
use storage::local::{Files, LocalStorage};

/// The lists that a sink has received, in order.
#[derive(Default)]
struct Heard(Mutex<Vec<(String, Vec<AspiredVersion>)>>);

impl AspiredVersionsSink for Heard {
    fn set_aspired_versions(&self, model: &Arc<str>, versions: Vec<AspiredVersion>) {
        self.0.lock().unwrap().push((model.to_string(), versions));
    }

    fn loaded_files(&self, _: &str, _: i64, _: &Path) -> Option<Arc<Files>> {
        None
    }
}

struct Fixture {
    root: TempDir,
    source: Source,
    heard: Arc<Heard>,
}

impl Fixture {
    fn new(directories: &[&str]) -> Self {
        Self::with_storage(directories, Arc::new(LocalStorage), PollWait::Once)
    }

    fn with_storage(directories: &[&str], storage: Arc<dyn Storage>, poll_wait: PollWait) -> Self {
        let heard = Arc::<Heard>::default();
        let fixture = Self {
            root: TempDir::new().unwrap(),
            source: Source::new(SourceParts {
                storage,
                sink: Arc::<Heard>::clone(&heard),
                serves: Box::new(|_, _| false),
                poll_wait,
                companion_wait: Duration::ZERO,
            }),
            heard,
        };
        for directory in directories {
            fixture.add(directory);
        }
        fixture
    }

    fn add(&self, directory: &str) {
        fs::create_dir_all(self.root.path().join(directory)).unwrap();
    }

    /// A model in the directory with its name.
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
        self.source.watch(models);
    }

    /// Polls and returns the lists received since the last time, as versions and directory names, sorted
    /// by model. Models with new versions are looked at twice and come later.
    fn poll(&self) -> Vec<(String, Vec<(i64, String)>)> {
        self.source.poll(Haste::Start).unwrap();
        let mut heard = std::mem::take(&mut *self.heard.0.lock().unwrap());
        heard.sort_by(|(a, _), (b, _)| a.cmp(b));
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
    let polled = fixture.source.poll(Haste::Start).unwrap();
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
fn several_models_are_polled() {
    let fixture = Fixture::new(&["z/42", "a/non_numerical", "m/1", "m/2"]);
    fixture.watch(&[("z", LATEST), ("a", LATEST), ("m", VersionPolicy::All)]);
    fixture.check_poll(&[
        ("a", &[]),
        ("m", &[(2, "2"), (1, "1")]),
        ("z", &[(42, "42")]),
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

/// A disk whose driver hangs under some paths.
#[derive(Default)]
struct HangingStorage {
    hung: Mutex<Vec<PathBuf>>,
    changed: Condvar,
    /// The number of calls that hang now, and that have ever hung.
    calls: Mutex<(usize, usize)>,
}

impl HangingStorage {
    fn hang(&self, path: PathBuf) {
        self.hung.lock().unwrap().push(path);
    }

    fn recover(&self) {
        self.hung.lock().unwrap().clear();
        self.changed.notify_all();
    }

    fn call(&self, path: &Path) {
        let mut hung = self.hung.lock().unwrap();
        let hangs = |hung: &[PathBuf]| hung.iter().any(|it| path.starts_with(it));
        if !hangs(&hung) {
            return;
        }
        {
            let mut calls = self.calls.lock().unwrap();
            *calls = (calls.0 + 1, calls.1 + 1);
        }
        while hangs(&hung) {
            hung = self.changed.wait(hung).unwrap();
        }
        self.calls.lock().unwrap().0 -= 1;
    }
}

impl Storage for HangingStorage {
    fn children(&self, directory: &Path) -> Result<Vec<String>> {
        self.call(directory);
        LocalStorage.children(directory)
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        self.call(path);
        LocalStorage.exists(path)
    }

    fn files(&self, path: &Path) -> Result<Files> {
        self.call(path);
        LocalStorage.files(path)
    }
}

/// Waits until the condition holds.
#[track_caller]
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        let is_over = begin.elapsed() > Duration::from_secs(60);
        assert!(!is_over, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn hanging_fixture(directories: &[&str]) -> (Fixture, Arc<HangingStorage>) {
    let storage = Arc::<HangingStorage>::default();
    let for_source: Arc<dyn Storage> = Arc::<HangingStorage>::clone(&storage);
    let every = PollWait::Every(Duration::from_millis(10));
    let fixture = Fixture::with_storage(directories, for_source, every);
    (fixture, storage)
}

impl Fixture {
    fn has_heard(&self, model: &str, version: i64) -> bool {
        let heard = self.heard.0.lock().unwrap();
        let is_it = |(name, versions): &(String, Vec<AspiredVersion>)| {
            name == model && versions.iter().any(|it| it.version == version)
        };
        heard.iter().any(is_it)
    }
}

#[test]
fn a_base_path_that_hangs_stops_only_its_model() {
    let (fixture, storage) = hanging_fixture(&["a/1", "hung/1", "z/1"]);
    fixture.watch(&[("a", LATEST), ("hung", LATEST), ("z", LATEST)]);
    fixture.source.poll(Haste::Start).unwrap();
    storage.hang(fixture.root.path().join("hung"));
    fixture.add("hung/2");
    for version in 2..5 {
        for model in ["a", "z"] {
            fixture.add(&format!("{model}/{version}"));
            eventually("it is found", || fixture.has_heard(model, version));
        }
    }
    assert_eq!(fixture.source.model_names().len(), 3);
    eventually("it is reported", || {
        *fixture.source.stalled_models() == ["hung".into()]
    });
    assert!(!fixture.has_heard("hung", 2));
    // Only one call hangs, however often the other models were looked at.
    assert_eq!(*storage.calls.lock().unwrap(), (1, 1));

    storage.recover();
    eventually("it is found", || fixture.has_heard("hung", 2));
    assert!(fixture.source.stalled_models().is_empty());
}

#[test]
fn a_reload_does_not_wait_for_a_base_path_that_hangs() {
    let (fixture, storage) = hanging_fixture(&["a/1", "hung/1"]);
    storage.hang(fixture.root.path().join("hung"));
    for _ in 0..3 {
        fixture.watch(&[("a", LATEST), ("hung", LATEST)]);
        let polled = fixture.source.poll(Haste::Reload).unwrap();
        assert!(matches!(polled[0].1, Ok(1)));
        let error = polled[1].1.as_ref().unwrap_err();
        assert_eq!(error.code(), Code::Unavailable);
        let text = format!(
            "the base path {} of model hung has not answered for",
            fixture.root.path().join("hung").display()
        );
        assert!(error.to_string().starts_with(&text), "{error}");
    }
    assert_eq!(*storage.calls.lock().unwrap(), (1, 1));
    storage.recover();
}

#[test]
fn what_hung_says_nothing_about_models_that_are_gone() {
    let (fixture, storage) = hanging_fixture(&["a/1", "hung/1"]);
    fixture.watch(&[("a", LATEST), ("hung", LATEST)]);
    storage.hang(fixture.root.path().join("hung"));
    fixture.source.poll(Haste::Start).unwrap();
    fixture.watch(&[("a", LATEST)]);
    storage.recover();
    eventually("the call returns", || storage.calls.lock().unwrap().0 == 0);
    fixture.add("a/2");
    fixture.source.poll(Haste::Start).unwrap();
    eventually("the other is found", || fixture.has_heard("a", 2));
    assert!(!fixture.has_heard("hung", 1));
}

#[test]
fn many_base_paths_that_hang_stop_no_other() {
    const HUNG: usize = 40;
    let names: Vec<String> = (0..HUNG).map(|number| format!("hung{number}")).collect();
    let (fixture, storage) = hanging_fixture(&["z/1"]);
    storage.hang(fixture.root.path().join("hung"));
    let mut models: Vec<_> = names
        .iter()
        .map(|name| WatchedModel {
            base_path: fixture.root.path().join("hung").join(name),
            ..fixture.model(name, LATEST)
        })
        .collect();
    models.push(fixture.model("z", LATEST));
    fixture.source.watch(models);
    let polled = fixture.source.poll(Haste::Start).unwrap();
    assert!(matches!(polled[HUNG].1, Ok(1)));
    assert!(polled[..HUNG].iter().all(|(_, found)| found.is_err()));
    fixture.add("z/2");
    eventually("the other is found", || fixture.has_heard("z", 2));
    storage.recover();
    eventually("all calls return", || storage.calls.lock().unwrap().0 == 0);
}

#[test]
fn stopping_does_not_wait_for_a_base_path_that_hangs() {
    let (fixture, storage) = hanging_fixture(&["hung/1"]);
    storage.hang(fixture.root.path().join("hung"));
    fixture.watch(&[("hung", LATEST)]);
    std::thread::scope(|scope| {
        let polled = scope.spawn(|| fixture.source.poll(Haste::Reload).unwrap());
        eventually("it hangs", || storage.calls.lock().unwrap().0 == 1);
        fixture.source.stop();
        // The caller does not wait either.
        let polled = polled.join().unwrap();
        let error = polled[0].1.as_ref().unwrap_err();
        assert_eq!(error.code(), Code::Cancelled);
    });
    assert_eq!(storage.calls.lock().unwrap().0, 1);
    storage.recover();
}
