//! Looks at an artificial disk, and the versions that are aspired afterwards.

use std::cell::{Cell, RefCell};
use std::sync::Mutex;

use super::*;
use base::error::ServingError;
use storage::local::{Files, LocalStorage};

/// Version directories and their files.
#[derive(Default)]
struct Disk(Mutex<BTreeMap<String, Files>>);

impl Storage for Disk {
    fn children(&self, _: &Path) -> Result<Vec<String>> {
        Ok(self.0.lock().unwrap().keys().cloned().collect())
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        Ok(self.files(path).is_ok())
    }

    fn files(&self, path: &Path) -> Result<Files> {
        let name = path.file_name().unwrap().to_str().unwrap();
        let files = self.0.lock().unwrap().get(name).cloned();
        files.ok_or_else(|| ServingError::not_found("not found"))
    }
}

struct Fixture {
    disk: Disk,
    poll: RefCell<ModelPoll>,
    policy: VersionPolicy,
    serving: RefCell<Vec<i64>>,
    loaded: RefCell<BTreeMap<i64, Arc<Files>>>,
    companion_wait: Cell<Duration>,
}

impl Fixture {
    fn new(policy: VersionPolicy) -> Self {
        Self {
            disk: Disk::default(),
            poll: RefCell::default(),
            policy,
            serving: RefCell::default(),
            loaded: RefCell::default(),
            companion_wait: Cell::new(Duration::from_secs(3600)),
        }
    }

    fn put(&self, version: &str, files: &[(&str, u64)]) {
        let mut disk = self.disk.0.lock().unwrap();
        disk.insert(version.to_owned(), Files::of(files));
    }

    fn remove(&self, version: &str) {
        self.disk.0.lock().unwrap().remove(version);
    }

    fn look(&self) -> Found {
        let model = WatchedModel {
            name: "m".into(),
            base_path: "/models/m".into(),
            policy: self.policy.clone(),
        };
        let look = Look {
            model: &model,
            storage: &self.disk,
            serves: &|_, version| self.serving.borrow().contains(&version),
            loaded: &|_, version, _| self.loaded.borrow().get(&version).cloned(),
            gap: Duration::ZERO,
            companion_wait: self.companion_wait.get(),
        };
        self.poll.borrow_mut().look(&look).unwrap()
    }

    /// The versions that are aspired after a look, and the changes to be expected.
    fn aspired(&self) -> (Vec<i64>, Rest) {
        match self.look() {
            Found::Unsure => panic!("a version is new or missed"),
            Found::Aspired { versions, rest } => {
                (versions.iter().map(|it| it.version).collect(), rest)
            }
        }
    }

    /// Versions with a model each, which serve after they are aspired.
    fn serve(&self, versions: &[i64]) {
        for version in versions {
            self.put(&version.to_string(), &[("model.onnx", 9)]);
        }
        assert_eq!(self.look(), Found::Unsure);
        assert_eq!(self.aspired(), (versions.to_vec(), Rest::Settled));
        *self.serving.borrow_mut() = versions.to_vec();
    }
}

const LATEST: VersionPolicy = VersionPolicy::Latest(1);

#[test]
fn a_version_is_aspired_with_the_second_look() {
    let fixture = Fixture::new(LATEST);
    fixture.serve(&[1]);
    fixture.put("2", &[("model.onnx", 1)]);
    assert_eq!(fixture.look(), Found::Unsure);
    assert_eq!(fixture.aspired(), (vec![2], Rest::Settled));
}

#[test]
fn a_version_that_keeps_changing_leaves_the_ones_before() {
    let fixture = Fixture::new(VersionPolicy::Latest(2));
    fixture.serve(&[2, 1]);
    fixture.put("3", &[("model.onnx", 1)]);
    assert_eq!(fixture.look(), Found::Unsure);
    for bytes in 2..5 {
        fixture.put("3", &[("model.onnx", bytes)]);
        assert_eq!(fixture.aspired(), (vec![2, 1], Rest::Version));
    }
    assert_eq!(fixture.aspired(), (vec![3, 2], Rest::Settled));
}

#[test]
fn the_last_version_stays_until_its_successor_has_settled() {
    let fixture = Fixture::new(LATEST);
    fixture.serve(&[1]);
    fixture.remove("1");
    fixture.put("2", &[("model.onnx", 1)]);
    assert_eq!(fixture.look(), Found::Unsure);
    fixture.put("2", &[("model.onnx", 2)]);
    assert_eq!(fixture.aspired(), (vec![1], Rest::Version));
    assert_eq!(fixture.aspired(), (vec![2], Rest::Settled));
    // Without a successor it is no longer aspired.
    fixture.remove("2");
    assert_eq!(fixture.aspired(), (vec![], Rest::Settled));
}

#[test]
fn versions_named_one_by_one_have_no_stand_in() {
    let fixture = Fixture::new(VersionPolicy::Specific(vec![1, 3]));
    fixture.serve(&[3, 1]);
    fixture.put("2", &[("model.onnx", 1)]);
    fixture.remove("3");
    assert_eq!(fixture.look(), Found::Unsure);
    assert_eq!(fixture.aspired(), (vec![1], Rest::Settled));
    fixture.put("3", &[("model.onnx", 1)]);
    assert_eq!(fixture.look(), Found::Unsure);
    fixture.put("3", &[("model.onnx", 2)]);
    assert_eq!(fixture.aspired(), (vec![1], Rest::Version));
}

#[test]
fn files_that_change_later_count_once_they_have_settled() {
    let fixture = Fixture::new(LATEST);
    fixture.serve(&[1]);
    let fingerprint = |found| match found {
        Found::Aspired { versions, rest } => (versions[0].fingerprint, rest),
        Found::Unsure => panic!("it is known"),
    };
    let before = fingerprint(fixture.look());
    fixture.put("1", &[("model.onnx", 9), ("signature_map.pbtxt", 1)]);
    assert_eq!(fingerprint(fixture.look()), (before.0, Rest::Changing));
    let after = fingerprint(fixture.look());
    assert_ne!(after.0, before.0);
    assert_eq!(after.1, Rest::Settled);
}

#[test]
fn a_version_that_comes_back_is_new_unless_it_is_the_same() {
    let fixture = Fixture::new(LATEST);
    fixture.serve(&[1]);
    fixture.put("2", &[("model.onnx", 1)]);
    fixture.look();
    assert_eq!(fixture.aspired(), (vec![2], Rest::Settled));
    *fixture.serving.borrow_mut() = vec![1, 2];
    fixture.remove("2");
    assert_eq!(fixture.look(), Found::Unsure);
    assert_eq!(fixture.aspired(), (vec![1], Rest::Settled));
    fixture.put("2", &[("model.onnx", 2)]);
    assert_eq!(fixture.look(), Found::Unsure);
    assert_eq!(fixture.aspired(), (vec![2], Rest::Settled));
}

#[test]
fn a_new_version_waits_for_what_the_serving_one_has() {
    const MODEL: (&str, u64) = ("model.onnx", 9);
    const MAP: (&str, u64) = ("signature_map.pbtxt", 1);
    let fixture = Fixture::new(LATEST);
    fixture.put("1", &[MODEL, MAP]);
    fixture.look();
    assert_eq!(fixture.aspired(), (vec![1], Rest::Settled));
    *fixture.serving.borrow_mut() = vec![1];

    fixture.put("2", &[MODEL]);
    assert_eq!(fixture.look(), Found::Unsure);
    for _ in 0..3 {
        assert_eq!(fixture.aspired(), (vec![1], Rest::Version));
    }
    fixture.put("2", &[MODEL, MAP]);
    assert_eq!(fixture.aspired(), (vec![1], Rest::Version));
    assert_eq!(fixture.aspired(), (vec![2], Rest::Settled));

    // Without a waiting time, or after it, the version goes without them.
    fixture.put("3", &[MODEL]);
    *fixture.serving.borrow_mut() = vec![2];
    fixture.look();
    assert_eq!(fixture.aspired(), (vec![2], Rest::Version));
    fixture.companion_wait.set(Duration::ZERO);
    assert_eq!(fixture.aspired(), (vec![3], Rest::Settled));
    // A version that went without them does not wait again.
    fixture.companion_wait.set(Duration::from_secs(3600));
    assert_eq!(fixture.aspired(), (vec![3], Rest::Settled));
}

#[test]
fn a_version_before_the_serving_one_waits_for_nothing() {
    let fixture = Fixture::new(LATEST);
    fixture.put("1", &[("model.onnx", 1)]);
    fixture.put("2", &[("model.onnx", 2), ("signature_map.pbtxt", 1)]);
    fixture.look();
    assert_eq!(fixture.aspired(), (vec![2], Rest::Settled));
    *fixture.serving.borrow_mut() = vec![2];
    fixture.remove("2");
    assert_eq!(fixture.look(), Found::Unsure);
    assert_eq!(fixture.aspired(), (vec![1], Rest::Settled));
}

#[test]
fn nothing_serves_so_nothing_is_waited_for() {
    let fixture = Fixture::new(VersionPolicy::All);
    fixture.put("1", &[("model.onnx", 1), ("signature_map.pbtxt", 1)]);
    fixture.put("2", &[("model.onnx", 1)]);
    fixture.look();
    assert_eq!(fixture.aspired(), (vec![2, 1], Rest::Settled));
}

const OLD: &[(&str, u64)] = &[("model.onnx", 1), ("signature_map.pbtxt", 1)];
const HALF: &[(&str, u64)] = &[("model.onnx", 2)];
const WHOLE: &[(&str, u64)] = &[("model.onnx", 2), ("signature_map.pbtxt", 2)];

impl Fixture {
    /// Version 1 with the files of `OLD`, which serves.
    fn serve_old() -> Self {
        let fixture = Self::new(LATEST);
        fixture.put("1", OLD);
        fixture.look();
        assert_eq!(fixture.aspired(), (vec![1], Rest::Settled));
        fixture.load(1, OLD);
        fixture
    }

    /// From now on a version serves, loaded with these files.
    fn load(&self, version: i64, files: &[(&str, u64)]) {
        *self.serving.borrow_mut() = vec![version];
        let files = Arc::new(Files::of(files));
        self.loaded.borrow_mut().insert(version, files);
    }

    fn unload(&self) {
        self.serving.borrow_mut().clear();
        self.loaded.borrow_mut().clear();
    }

    /// Checks that after two more looks version 1 is aspired with these files.
    #[track_caller]
    fn check_aspired_as(&self, files: &[(&str, u64)], expected: Rest) {
        let mut found = self.look();
        if found == Found::Unsure {
            found = self.look();
        }
        let mut last = found;
        for _ in 0..2 {
            last = self.look();
        }
        let Found::Aspired { versions, rest } = last else {
            panic!("nothing is said");
        };
        let versions: Vec<_> = versions.iter().map(|it| it.fingerprint).collect();
        assert_eq!(versions, [Files::of(files).fingerprint()]);
        assert_eq!(rest, expected);
    }
}

#[test]
fn a_serving_version_that_is_rewritten_waits_for_what_it_has() {
    let fixture = Fixture::serve_old();
    for (files, expected, rest) in [
        (&OLD[1..], OLD, Rest::Settled),
        (&[], OLD, Rest::Settled),
        (HALF, OLD, Rest::Changing),
        (WHOLE, WHOLE, Rest::Settled),
    ] {
        fixture.put("1", files);
        fixture.check_aspired_as(expected, rest);
    }
    // Until the waiting time is over.
    fixture.load(1, WHOLE);
    fixture.put("1", &[("model.onnx", 3)]);
    fixture.check_aspired_as(WHOLE, Rest::Changing);
    fixture.companion_wait.set(Duration::ZERO);
    fixture.check_aspired_as(&[("model.onnx", 3)], Rest::Settled);
    fixture.companion_wait.set(Duration::from_secs(3600));
    fixture.check_aspired_as(&[("model.onnx", 3)], Rest::Settled);
}

/// A directory is deleted and made again between two looks, or one look misses it.
#[test]
fn a_serving_version_that_is_exchanged_waits_for_what_it_has() {
    for is_missed in [false, true] {
        let fixture = Fixture::serve_old();
        fixture.remove("1");
        if is_missed {
            assert_eq!(fixture.look(), Found::Unsure);
        }
        fixture.put("1", HALF);
        fixture.check_aspired_as(OLD, Rest::Changing);
        fixture.put("1", WHOLE);
        fixture.check_aspired_as(WHOLE, Rest::Settled);
    }
}

/// The version was unloaded meanwhile, or is being unloaded.
#[test]
fn a_version_that_was_gone_waits_for_what_it_had() {
    for (is_unloaded, is_looked_for) in [(false, true), (true, false), (true, true)] {
        for number in [1, 2] {
            let fixture = Fixture::serve_old();
            fixture.remove("1");
            assert_eq!(fixture.look(), Found::Unsure);
            assert_eq!(fixture.aspired(), (vec![], Rest::Settled));
            if is_unloaded {
                fixture.unload();
            }
            if is_looked_for {
                fixture.aspired();
            }
            fixture.put(&number.to_string(), HALF);
            assert_eq!(fixture.look(), Found::Unsure);
            for _ in 0..2 {
                assert_eq!(fixture.aspired(), (vec![], Rest::Version));
            }
            fixture.put(&number.to_string(), WHOLE);
            assert_eq!(fixture.aspired(), (vec![], Rest::Version));
            assert_eq!(fixture.aspired(), (vec![number], Rest::Settled));
        }
    }
}

#[test]
fn deleting_what_broke_a_second_load_is_a_change() {
    let fixture = Fixture::serve_old();
    let new = WHOLE;
    let broken = &[new, &[("batching_params.pbtxt", 7)]].concat();
    for files in [broken, new, broken, OLD, broken, &OLD[..1]] {
        fixture.put("1", files);
        let expected = if files.len() == 1 { OLD } else { files };
        fixture.check_aspired_as(expected, Rest::Settled);
    }
}

#[test]
fn a_wait_counts_from_the_last_file_that_came() {
    let mut version = Version::new("m/1".into());
    let (begin, wait) = (Instant::now(), Duration::from_secs(10));
    let mut waits = |seconds: u64, missing| {
        version.waits_for(missing, wait, begin + Duration::from_secs(seconds))
    };
    assert!(waits(0, 3));
    assert!(waits(9, 2));
    assert!(waits(18, 2));
    assert!(!waits(19, 2));
    assert!(!waits(20, 0));
}

#[test]
fn a_wait_counts_from_the_last_change_of_any_file() {
    let mut version = Version::new("m/1".into());
    let (begin, wait) = (Instant::now(), Duration::from_secs(10));
    for (seconds, bytes, waits) in [(0, 1, true), (9, 2, true), (18, 2, true), (19, 2, false)] {
        let now = begin + Duration::from_secs(seconds);
        version.note(
            Some(Files::of(&[("model.onnx", bytes)])),
            now,
            Duration::ZERO,
        );
        assert_eq!(version.waits_for(1, wait, now), waits, "{seconds}");
    }
}

/// Why no version is aspired, after two looks.
fn remark(policy: VersionPolicy, children: &[&str]) -> Option<String> {
    let fixture = Fixture::new(policy);
    for child in children {
        fixture.put(child, &[("model.onnx", 9)]);
    }
    fixture.look();
    fixture.look();
    fixture.poll.borrow().remark().map(str::to_owned)
}

#[test]
fn base_path_that_is_a_model_itself_is_named() {
    for (children, part) in [
        (
            &["assets", "saved_model.pb", "variables"][..],
            "The base path is itself a TensorFlow SavedModel: it holds saved_model.pb. Convert it into a \
             version directory, /models/m/1,",
        ),
        (
            &["net.onnx"],
            "Move it into a version directory: /models/m/1/net.onnx.",
        ),
        (
            &["m.keras"],
            "The base path holds m.keras, by its name a Keras model.",
        ),
        (
            &["m.tflite", "labels.txt"],
            "by its name a TensorFlow Lite model.",
        ),
    ] {
        let remark = remark(LATEST, children).unwrap_or_default();
        assert!(remark.contains(part), "{remark}");
        assert!(!remark.contains("leaf directory"), "{remark}");
    }
    for (child, number) in [("v1", 1), ("1.0", 1), ("2024-01-31", 20_240_131)] {
        let remark = remark(LATEST, &[child]).unwrap_or_default();
        let expected = format!(
            "The base path holds {child}. The name of a version directory is a whole number: rename it to \
             /models/m/{number}."
        );
        assert_eq!(remark, expected);
    }
    // In these cases TensorFlow Serving's own hint is right.
    for children in [&["labels"][..], &[]] {
        let remark = remark(LATEST, children);
        assert_eq!(remark.as_deref(), Some(NO_NUMBER));
    }
}

#[test]
fn base_path_one_level_too_high_is_named() {
    let root = tempfile::tempdir().unwrap();
    let storage = LocalStorage;
    assert_eq!(base_path_below(&storage, root.path()), None);
    for folder in ["notes/2024", "m/export"] {
        std::fs::create_dir_all(root.path().join(folder)).unwrap();
    }
    std::fs::write(root.path().join("m/export/model.onnx"), "").unwrap();
    assert_eq!(base_path_below(&storage, root.path()), None);
    std::fs::create_dir_all(root.path().join("m/12")).unwrap();
    std::fs::write(root.path().join("m/12/model.onnx"), "").unwrap();
    let expected = format!(
        "The base path is one level too high: m/12 in it holds an ONNX model. Name {}/m as the base path.",
        root.path().display()
    );
    assert_eq!(base_path_below(&storage, root.path()), Some(expected));
}

#[test]
fn specific_version_that_is_not_there_is_named_with_those_that_are() {
    let specific = |versions: &[i64]| VersionPolicy::Specific(versions.to_vec());
    for (policy, children, expected) in [
        (
            specific(&[7, 9]),
            &["1", "3", "other"][..],
            "The version policy 'specific' names versions that are not there: 7, 9. There are: 1, 3.",
        ),
        (
            specific(&[7]),
            &[],
            "The version policy 'specific' names versions that are not there: 7. There are no others.",
        ),
        (
            specific(&[]),
            &["1"],
            "The version policy 'specific' names no version.",
        ),
    ] {
        assert_eq!(remark(policy, children).as_deref(), Some(expected));
    }
}

#[test]
fn remark_ends_with_a_version() {
    let fixture = Fixture::new(LATEST);
    fixture.put("saved_model.pb", &[]);
    fixture.look();
    assert!(fixture.poll.borrow().remark().is_some());
    fixture.serve(&[1]);
    assert_eq!(fixture.poll.borrow().remark(), None);
}

#[test]
fn what_is_wrong_is_not_said_with_every_look() {
    let fixture = Fixture::new(LATEST);
    fixture.put("saved_model.pb", &[]);
    fixture.look();
    let said = fixture.poll.borrow().said.clone();
    assert!(said.is_some());
    fixture.look();
    assert_eq!(fixture.poll.borrow().said, said);
}
