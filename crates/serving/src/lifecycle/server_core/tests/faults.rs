//! Faults around a server: files, directories, disks, configurations. Models that serve never
//! stop.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::support::*;
use crate::lifecycle::ConfigPoller;
use crate::servable::ServableLookup;
use base::error::{Code, Result, ServingError};
use base::vocabulary::ManagerState;
use proto::tensorflow::serving::ModelServerConfig;
use storage::local::{Files, LocalStorage, Storage};

/// A disk on which everything under some paths fails.
#[derive(Default)]
pub(super) struct FaultyStorage {
    bad: Mutex<Vec<String>>,
}

impl FaultyStorage {
    fn break_under(&self, path: &Path) {
        let path = path.to_str().unwrap().to_owned();
        self.bad.lock().unwrap().push(path);
    }

    fn mend(&self) {
        self.bad.lock().unwrap().clear();
    }

    fn check(&self, path: &Path) -> Result<()> {
        let bad = self.bad.lock().unwrap();
        if bad.iter().any(|bad| path.starts_with(bad)) {
            return Err(ServingError::new(Code::Unknown, "Input/output error"));
        }
        Ok(())
    }
}

impl Storage for FaultyStorage {
    fn children(&self, directory: &Path) -> Result<Vec<String>> {
        self.check(directory)?;
        LocalStorage.children(directory)
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        self.check(path)?;
        LocalStorage.exists(path)
    }

    fn files(&self, path: &Path) -> Result<Files> {
        self.check(path)?;
        LocalStorage.files(path)
    }
}

#[test]
fn vanished_base_path_freezes_only_its_model() {
    let fixture = Fixture::new();
    fixture.add_version("a", "1");
    fixture.add_version("b", "1");
    let config = list([fixture.model("a"), fixture.model("b")]);
    fixture.core.start(config).unwrap();
    fs::rename(fixture.path("a"), fixture.path("elsewhere")).unwrap();
    // TensorFlow Serving stops updating all models.
    fixture.add_version("b", "2");
    fixture.await_state("b", 2, ManagerState::Available);
    fixture.await_state("b", 1, ManagerState::End);
    assert_eq!(fixture.latest("a"), Some(1));

    fs::rename(fixture.path("elsewhere"), fixture.path("a")).unwrap();
    fixture.add_version("a", "2");
    fixture.await_state("a", 2, ManagerState::Available);
}

#[test]
fn deleted_files_do_no_harm_to_a_loaded_version() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    fixture.core.start(list([fixture.model("m")])).unwrap();
    let m = id("m", 1);
    fixture
        .loader
        .fail(&m, usize::MAX, || ServingError::not_found("no model"));
    fs::remove_file(fixture.path("m/1/model.onnx")).unwrap();
    fixture.add_version("other", "1");
    let config = list([fixture.model("m"), fixture.model("other")]);
    fixture.core.reload(config).unwrap();
    fixture.await_polls("other");
    assert_eq!(fixture.latest("m"), Some(1));
    assert_eq!(fixture.state("m", 1), Some(ManagerState::Available));
}

// lifecycle.md 2.3: no version left means that all are unloaded
#[test]
fn last_version_directory_gone_unloads_it() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    fixture.core.start(list([fixture.model("m")])).unwrap();
    fixture.remove_version("m", "1");
    fixture.await_state("m", 1, ManagerState::End);
    fixture.add_version("m", "1");
    fixture.await_state("m", 1, ManagerState::Available);
}

#[test]
fn corrupt_model_among_good_ones_stays_alone() {
    let fixture = Fixture::new();
    for model in ["a", "corrupt", "z"] {
        fixture.add_version(model, "1");
    }
    let corrupt = id("corrupt", 1);
    fixture.loader.fail(&corrupt, usize::MAX, || {
        ServingError::invalid_argument("not a model")
    });
    fixture.core.start(list([fixture.model("a")])).unwrap();
    let all = list(["a", "corrupt", "z"].map(|model| fixture.model(model)));
    assert_eq!(fixture.core.reload(all).unwrap_err().code(), Code::Unknown);
    assert_eq!(fixture.latest("a"), Some(1));
    assert_eq!(fixture.latest("z"), Some(1));
}

#[test]
fn regular_file_named_like_a_version_is_tried() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    fixture.core.start(list([fixture.model("m")])).unwrap();
    let five = id("m", 5);
    fixture
        .loader
        .fail(&five, usize::MAX, || ServingError::not_found("no model"));
    fs::write(fixture.path("m/5"), "").unwrap();
    fixture.await_state("m", 5, ManagerState::End);
    assert_eq!(fixture.latest("m"), Some(1));
}

#[test]
fn two_directories_of_one_number_load_once() {
    let fixture = Fixture::new();
    for version in ["1", "001", "0001"] {
        fixture.add_version("m", version);
    }
    let model = fixture.model("m").policy(all());
    fixture.core.start(list([model])).unwrap();
    assert_eq!(fixture.latest("m"), Some(1));
    assert_eq!(fixture.loader.calls().len(), 1);
}

#[test]
fn read_errors_pass_by() {
    let storage = Arc::<FaultyStorage>::default();
    let for_core: Arc<dyn Storage> = Arc::<FaultyStorage>::clone(&storage);
    let fixture = Fixture::with_storage(fast(), for_core);
    fixture.add_version("m", "1");
    fixture.add_version("other", "1");
    let config = list([fixture.model("m"), fixture.model("other")]);
    fixture.core.start(config).unwrap();

    storage.break_under(&fixture.path("m"));
    fixture.add_version("m", "2");
    fixture.add_version("other", "2");
    fixture.await_state("other", 2, ManagerState::Available);
    assert_eq!(fixture.latest("m"), Some(1));
    assert_eq!(fixture.state("m", 2), None);
    storage.mend();
    fixture.await_state("m", 2, ManagerState::Available);
}

#[test]
fn version_that_cannot_be_read_fails_and_is_retried_once_it_can() {
    let storage = Arc::<FaultyStorage>::default();
    let for_core: Arc<dyn Storage> = Arc::<FaultyStorage>::clone(&storage);
    let fixture = Fixture::with_storage(fast(), for_core);
    fixture.add_version("m", "1");
    storage.break_under(&fixture.path("m/1"));
    let error = fixture.core.start(list([fixture.model("m")])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "1 servable(s) did not become available: {{{name: m version: 1} due to error: UNKNOWN: \
         Error while attempting to reserve resources to load servable {name: m version: 1}: \
         Input/output error}, }"
    );
    storage.mend();
    fixture.await_state("m", 1, ManagerState::Available);
}

#[test]
fn flat_model_is_version_one() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.path("m")).unwrap();
    fs::write(fixture.path("m/model.onnx"), "").unwrap();
    fixture.core.start(list([fixture.model("m")])).unwrap();
    assert_eq!(fixture.latest("m"), Some(1));
    let (loaded, directory) = fixture.loader.calls().remove(0);
    assert_eq!((loaded, directory), (id("m", 1), fixture.path("m")));
}

/// A configuration "file" whose contents a test sets.
#[derive(Default)]
struct ConfigFile {
    config: Mutex<Option<ModelServerConfig>>,
    reads: AtomicUsize,
}

impl ConfigFile {
    fn write(&self, config: Option<ModelServerConfig>) {
        *self.config.lock().unwrap() = config;
    }

    fn read(&self) -> Result<ModelServerConfig> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let config = self.config.lock().unwrap().clone();
        config.ok_or_else(|| ServingError::invalid_argument("Invalid protobuf file: 'c'"))
    }
}

// tensorflow_model_server_test.py testModelConfigReload, at this level
#[test]
fn config_garbage_is_survived_until_it_is_mended() {
    let fixture = Fixture::new();
    for model in ["a", "b", "c"] {
        fixture.add_version(model, "1");
    }
    let file = Arc::<ConfigFile>::default();
    file.write(Some(list([fixture.model("a")])));
    fixture.core.start(file.read().unwrap()).unwrap();
    let to_read = Arc::clone(&file);
    let poller = ConfigPoller::start(
        Arc::clone(&fixture.core),
        Duration::from_millis(5),
        move || to_read.read(),
    );
    file.write(Some(list([fixture.model("a"), fixture.model("b")])));
    eventually("b serves", || fixture.latest("b") == Some(1));

    file.write(None);
    let reads = || file.reads.load(Ordering::Relaxed);
    let before = reads();
    eventually("it is read again and again", || reads() >= before + 3);
    assert_eq!(fixture.latest("a"), Some(1));
    assert_eq!(fixture.latest("b"), Some(1));

    file.write(Some(list([fixture.model("b"), fixture.model("c")])));
    eventually("c serves", || fixture.latest("c") == Some(1));
    fixture.await_state("a", 1, ManagerState::End);
    poller.stop();
}

#[test]
fn dropped_config_poller_reads_no_more() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    let file = Arc::<ConfigFile>::default();
    let to_read = Arc::clone(&file);
    let core = Arc::clone(&fixture.core);
    let poller = ConfigPoller::start(core, Duration::from_millis(1), move || to_read.read());
    drop(poller);
    eventually("the thread lets go", || Arc::strong_count(&file) == 1);
    assert_eq!(fixture.core.states("m"), []);
}

#[test]
fn swaps_leave_no_gap() {
    let fixture = Fixture::new();
    fixture.add_version("m", "1");
    let labelled = |version: i64| fixture.model("m").policy(latest(2)).label("l", version);
    let config = list([fixture.model("m").policy(latest(2))]);
    fixture.core.start(config).unwrap();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                assert!(fixture.latest("m").is_some());
            }
        });
        for version in 2..=30 {
            fixture.add_version("m", &version.to_string());
            fixture.await_state("m", version, ManagerState::Available);
            fixture.core.reload(list([labelled(version)])).unwrap();
            if version % 3 == 0 {
                fixture.remove_version("m", &version.to_string());
                fixture.await_state("m", version, ManagerState::End);
            }
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

// lifecycle, "200 models of 2 versions from one configuration"
#[test]
fn many_models_come_up() {
    let fixture = Fixture::new();
    let names: Vec<String> = (0..200).map(|number| format!("m{number}")).collect();
    for name in &names {
        fixture.add_version(name, "1");
        fixture.add_version(name, "2");
    }
    let models = names.iter().map(|name| fixture.model(name).policy(all()));
    fixture.core.start(list(models)).unwrap();
    for name in &names {
        fixture.await_state(name, 1, ManagerState::Available);
        fixture.await_state(name, 2, ManagerState::Available);
    }
    assert_eq!(fixture.loader.calls().len(), 400);
}
