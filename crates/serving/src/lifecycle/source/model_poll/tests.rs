//! Looks at an artificial disk, and the versions that are aspired afterwards.
//!
//! Not here: waits for files (`hand_over`), why no version is aspired (`remarks`).

mod hand_over;
mod remarks;

use std::cell::{Cell, RefCell};
use std::sync::Mutex;

use super::*;
use crate::lifecycle::source::VersionPolicy;
use base::error::ServingError;
use storage::local::Files;

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
