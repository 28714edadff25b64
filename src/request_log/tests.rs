use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use prost::Message;
use tempfile::TempDir;

use super::buffer::{MAX_BYTES, Next};
use super::*;
use base::id::ServableId;
use base::tensor::{DataType, Tensor};
use codec::tfrecord::RecordReader;
use mapper::signature::RequestTensor;
use proto::tensorflow::serving as pb;
use proto::tensorflow::serving::prediction_log::LogType;
use serving::inference::{PredictRequest, PredictResponse};

struct Fixture {
    log: RequestLog,
    metrics: Arc<Metrics>,
    folder: TempDir,
}

impl Fixture {
    fn new(max_file_bytes: u64) -> Self {
        let metrics = Arc::new(Metrics::new());
        let options = RequestLogOptions {
            max_file_bytes,
            allowed_folders: Vec::new(),
            saved_model_tags: vec!["serve".to_owned()],
        };
        Self {
            log: RequestLog::start(options, Arc::clone(&metrics)).unwrap(),
            metrics,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// A model that logs everything to `<folder>/<prefix>-…`.
    fn model(&self, name: &str, prefix: &str) -> ModelConfig {
        model(name, "file", &self.folder.path().join(prefix), 1.0)
    }

    fn call(&self, version: i64, bytes: usize) {
        assert!(self.log.samples("m"));
        self.log.log(call(version, bytes));
    }

    /// The value of our page's counter for the model `m`.
    fn count(&self, outcome: &str) -> u64 {
        let start = format!(
            "onnx_model_server_request_log_records_total{{model=\"m\",outcome=\"{outcome}\"}} "
        );
        let page = self.metrics.page();
        let line = page.lines().find_map(|line| line.strip_prefix(&start));
        line.map_or(0, |value| value.parse().unwrap())
    }

    fn wait_for(&self, outcome: &str, count: u64) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.count(outcome) < count {
            assert!(Instant::now() < deadline, "{}", self.metrics.page());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn model(name: &str, kind: &str, prefix: &Path, sampling_rate: f64) -> ModelConfig {
    ModelConfig {
        name: name.to_owned(),
        logging_config: Some(pb::LoggingConfig {
            log_collector_config: Some(pb::LogCollectorConfig {
                r#type: kind.to_owned(),
                filename_prefix: prefix.display().to_string(),
            }),
            sampling_config: Some(pb::SamplingConfig {
                sampling_rate,
                ..pb::SamplingConfig::default()
            }),
            custom_logging_config: None,
        }),
        ..ModelConfig::default()
    }
}

/// A Predict of model `m` with an input of this many bytes.
fn call(version: i64, bytes: usize) -> LoggedCall {
    let x = Tensor::zeros(DataType::UInt8, &[bytes]).unwrap();
    let request = PredictRequest {
        signature_name: String::new(),
        inputs: [("x".to_owned(), RequestTensor::Valid(x))].into(),
        output_filter: Vec::new(),
        deadline: None,
    };
    let response = PredictResponse {
        servable: ServableId::new("m", version),
        signature_name: "serving_default".to_owned(),
        outputs: Vec::new(),
    };
    LoggedCall::Predict(request, response)
}

/// The versions that answered the calls in each file, in the order of the files' names.
fn files(folder: &Path) -> Vec<Vec<i64>> {
    let entries = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    let mut paths: Vec<PathBuf> = entries.collect();
    paths.sort();
    paths.iter().map(|path| versions(path)).collect()
}

fn versions(path: &Path) -> Vec<i64> {
    let bytes = fs::read(path).unwrap();
    let mut reader = RecordReader::new(&bytes[..], bytes.len() as u64);
    let mut versions = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        let log = pb::PredictionLog::decode(&record[..]).unwrap();
        assert!(matches!(log.log_type, Some(LogType::PredictLog(_))));
        let metadata = log.log_metadata.unwrap();
        assert_eq!(metadata.saved_model_tags, ["serve"]);
        match metadata.model_spec.unwrap().version_choice {
            Some(pb::model_spec::VersionChoice::Version(version)) => versions.push(version),
            other => panic!("{other:?}"),
        }
    }
    versions
}

#[track_caller]
fn check_refused(fixture: &Fixture, model: ModelConfig, code: Code, text: &str) {
    let error = fixture.log.configure(&[model]).unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (code, text));
}

#[test]
fn calls_are_written_as_records() {
    let fixture = Fixture::new(1 << 20);
    let model = fixture.model("m", "new/folder/log");
    fixture.log.configure(&[model]).unwrap();
    for version in 1..=3 {
        fixture.call(version, 10);
    }
    fixture.wait_for("written", 3);
    // Readable before the file is closed.
    assert_eq!(
        files(&fixture.folder.path().join("new/folder")),
        [[1, 2, 3]]
    );
    let page = fixture.metrics.tensorflow_page();
    let line = ":tensorflow:serving:request_log_count{model_name=\"m\",status_code=\"OK\"} 3";
    assert!(page.lines().any(|it| it == line), "{page}");
}

#[test]
fn large_files_are_followed_by_new_ones() {
    let fixture = Fixture::new(1000);
    fixture.log.configure(&[fixture.model("m", "log")]).unwrap();
    for version in 1..=3 {
        fixture.call(version, 2000);
        fixture.wait_for("written", version as u64);
    }
    assert_eq!(files(fixture.folder.path()), [[1], [2], [3]]);
}

#[test]
fn shutdown_writes_what_is_buffered() {
    let fixture = Fixture::new(1 << 20);
    fixture.log.configure(&[fixture.model("m", "log")]).unwrap();
    for version in 1..=500 {
        fixture.call(version, 10);
    }
    fixture.log.shutdown();
    let all: Vec<i64> = files(fixture.folder.path()).concat();
    assert_eq!(all, (1..=500).collect::<Vec<_>>());
    // No thread would write it.
    fixture.call(1, 10);
    assert_eq!(fixture.count("dropped"), 1);
}

#[test]
fn models_with_one_prefix_share_their_files() {
    let fixture = Fixture::new(1 << 20);
    let models = [fixture.model("n", "log"), fixture.model("m", "log")];
    fixture.log.configure(&models).unwrap();
    fixture.call(1, 10);
    fixture.wait_for("written", 1);
    // An equal configuration continues with the file.
    fixture.log.configure(&models).unwrap();
    fixture.call(2, 10);
    fixture.wait_for("written", 2);
    assert_eq!(files(fixture.folder.path()), [[1, 2]]);
}

#[test]
fn changes_take_effect_as_a_whole() {
    let fixture = Fixture::new(1 << 20);
    assert!(!fixture.log.samples("m"));
    let good = fixture.model("m", "log");
    fixture.log.configure(std::slice::from_ref(&good)).unwrap();
    let bad = model("n", "file", &fixture.folder.path().join("log"), -1.0);
    let error = fixture.log.configure(&[bad, fixture.model("o", "log")]);
    assert_eq!(error.unwrap_err().code(), Code::InvalidArgument);
    assert!(fixture.log.samples("m") && !fixture.log.samples("o"));
    let none = model("m", "file", &fixture.folder.path().join("log"), 0.0);
    fixture.log.configure(&[none]).unwrap();
    assert!(!fixture.log.samples("m"));
    fixture.log.configure(&[good]).unwrap();
    assert!(fixture.log.samples("m"));
    fixture.log.configure(&[]).unwrap();
    assert!(!fixture.log.samples("m"));
}

#[test]
fn wrong_configurations_are_refused() {
    let fixture = Fixture::new(1 << 20);
    let invalid = Code::InvalidArgument;
    let path = Path::new("/var/log/m");
    // The text of monitoring.md, section 2.
    check_refused(
        &fixture,
        model("m", "kafka", path, 1.0),
        Code::NotFound,
        "Cannot find LogCollector::Factory for type: kafka",
    );
    for rate in [1.5, f64::NAN] {
        let text = format!("sampling_rate has to be between 0 and 1. Was: {rate}");
        check_refused(&fixture, model("m", "file", path, rate), invalid, &text);
    }
    for (prefix, reason) in [
        ("", "has to be an absolute path without '..'"),
        ("logs/m", "has to be an absolute path without '..'"),
        ("/logs/../m", "has to be an absolute path without '..'"),
        ("/", "has to end with the beginning of a file name"),
        ("/logs/", "has to end with the beginning of a file name"),
    ] {
        let text = format!("filename_prefix '{prefix}' {reason}");
        let model = model("m", "file", Path::new(prefix), 1.0);
        check_refused(&fixture, model, invalid, &text);
    }
}

#[test]
fn an_allowlist_bounds_where_files_go() {
    let mut fixture = Fixture::new(1 << 20);
    fixture.log.options.allowed_folders = vec!["/var/log".into(), "/data".into()];
    for prefix in ["/var/log/m", "/data/a/b/m"] {
        let model = model("m", "file", Path::new(prefix), 1.0);
        fixture.log.configure(&[model]).unwrap();
    }
    for prefix in ["/etc/m", "/data", "/database/m"] {
        let text = format!("filename_prefix '{prefix}' is outside of --request_log_path_allowlist");
        let model = model("m", "file", Path::new(prefix), 1.0);
        check_refused(&fixture, model, Code::InvalidArgument, &text);
    }
}

#[test]
fn a_full_buffer_refuses() {
    let buffer = Buffer::default();
    let path = Path::new("/var/log/m");
    let config = model("m", "file", path, 1.0).logging_config.unwrap();
    let logging = ModelLogging::try_new(&config, &[]).unwrap();
    let mut pushed = 0;
    while buffer.push(logging.clone(), call(1, MAX_BYTES / 4)) {
        pushed += 1;
    }
    assert_eq!(pushed, 3);
    assert!(buffer.push(logging.clone(), call(1, 10)));
    assert!(matches!(buffer.next(Duration::ZERO), Next::Entry(_)));
    assert!(buffer.push(logging.clone(), call(1, MAX_BYTES / 4)));
    let mut pushed = 4;
    while buffer.push(logging.clone(), call(1, 0)) {
        pushed += 1;
        assert!(pushed <= 20_000, "calls without tensors are bounded, too");
    }
}

#[test]
fn a_disk_that_fails_is_counted_and_tried_again() {
    let fixture = Fixture::new(1 << 20);
    let folder = fixture.folder.path().join("folder");
    fs::write(&folder, "no folder").unwrap();
    fixture
        .log
        .configure(&[fixture.model("m", "folder/log")])
        .unwrap();
    fixture.call(1, 10);
    fixture.wait_for("failed", 1);
    fs::remove_file(&folder).unwrap();
    fixture.call(2, 10);
    fixture.wait_for("written", 1);
    assert_eq!(files(&folder), [[2]]);
}
