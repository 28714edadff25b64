//! Serves every model of the zoo and plays its cases, whose answers are TensorFlow's own, over both
//! ports; and compares the metadata with the `saved_model.pb` of the SavedModel.
//!
//! The small models are in the repository (`tests/data/zoo`); all of them are next to a developer's
//! clone. A table goes to stderr. The models that each backend serves have to match `docs/backends.md`.

mod case;
mod documented;
mod play;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use base::error::ServingError;
use prost_reflect::{DynamicMessage, Value};

use self::case::Entry;
use self::documented::{Backend, Documented};
use crate::golden::print;
use crate::support::json::Tolerance;
use crate::support::predict::model_version;
use crate::support::proto::{Comparison, POOL};
use crate::support::server::{TestServer, model_config};
use crate::support::{material, server};

/// Cases with a different result: model, case, reason. They are played and counted; one with the
/// recorded result fails the test.
const DIFFERS: &[(&str, &str, &str)] = &[];

#[tokio::test(flavor = "multi_thread")]
async fn models_in_the_repository_answer_as_tensorflow_did() {
    play_repository(Backend::OnnxRuntime).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_models_answer_as_tensorflow_did() {
    play_all(Backend::OnnxRuntime).await;
}

/// Models that the server once refused or answered wrongly, or that ended the process. Small ones are
/// in the repository; those outside of it are of the same kinds.
#[tokio::test(flavor = "multi_thread")]
async fn models_with_faults_in_the_repository_answer() {
    play_faults(&material::data().join("zoo_faults")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_models_with_faults_answer() {
    match material::shared("zoo_faults") {
        Some(folder) => play_faults(&folder).await,
        None => print("zoo: zoo_faults is not next to this clone; nothing played\n"),
    }
}

async fn play_faults(folder: &Path) {
    let mut failures = Vec::new();
    for entry in case::read_zoo(folder) {
        let outcome = play_entry(&entry, Backend::OnnxRuntime).await;
        if outcome.passed == 0 {
            failures.push(format!("{}: nothing was played", entry.name));
        }
        failures.extend(outcome.failures);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[cfg(feature = "tract")]
#[tokio::test(flavor = "multi_thread")]
async fn models_in_the_repository_answer_on_tract_as_tensorflow_did() {
    play_repository(Backend::Tract).await;
}

#[cfg(feature = "tract")]
#[tokio::test(flavor = "multi_thread")]
async fn all_models_answer_on_tract_as_tensorflow_did() {
    play_all(Backend::Tract).await;
}

async fn play_repository(backend: Backend) {
    let folder = material::data().join("zoo");
    play_zoo(&folder, "models in the repository", backend).await;
}

async fn play_all(backend: Backend) {
    for name in ["zoo", "zoo_real"] {
        match material::shared(name) {
            Some(folder) => play_zoo(&folder, name, backend).await,
            None => print(&format!(
                "zoo: {name} is not next to this clone; nothing played\n"
            )),
        }
    }
}

async fn play_zoo(folder: &Path, title: &str, backend: Backend) {
    let mut table = format!("zoo, {title}, {}: passed/total\n", backend.flag());
    let mut all = PlayOutcome::default();
    let documented = Documented::read(backend);
    for entry in case::read_zoo(folder) {
        let mut outcome = play_entry(&entry, backend).await;
        let as_documented = documented.check(&entry.name, outcome.refusal.as_deref());
        if let Err(error) = as_documented {
            outcome.failures.push(error);
        }
        outcome.write(&mut table, &entry.name);
        all.failures.extend(outcome.failures);
        all.stale.extend(outcome.stale);
    }
    print(&table);
    let PlayOutcome {
        failures, stale, ..
    } = all;
    assert!(
        failures.is_empty(),
        "{} fail:\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert!(
        stale.is_empty(),
        "these pass: remove them from the list DIFFERS: {stale:?}"
    );
}

/// The result of a model.
#[derive(Default)]
struct PlayOutcome {
    passed: usize,
    differs: usize,
    /// Why the model is not served.
    refusal: Option<String>,
    failures: Vec<String>,
    /// Cases of [`DIFFERS`] with the recorded result.
    stale: Vec<String>,
}

impl PlayOutcome {
    fn add(&mut self, entry: &Entry, case: &str, port: &str, result: Result<(), String>) {
        let is_listed = DIFFERS
            .iter()
            .any(|(model, name, _)| (*model, *name) == (entry.name.as_str(), case));
        let name = &entry.name;
        match (result, is_listed) {
            (Ok(()), false) => self.passed += 1,
            (Ok(()), true) => self.stale.push(format!("{name}, {case}, {port}")),
            (Err(_), true) => self.differs += 1,
            (Err(error), false) => self
                .failures
                .push(format!("{name}, {case}, {port}: {error}")),
        }
    }

    fn write(&self, table: &mut String, name: &str) {
        let (passed, differs) = (self.passed, self.differs);
        let total = passed + differs + self.failures.len() + self.stale.len();
        let mut note = String::new();
        if differs > 0 {
            note = format!("  differs {differs}");
        }
        if self.refusal.is_some() {
            note += "  refused";
        }
        writeln!(table, "  {name:28} {passed:4}/{total}{note}").expect("writing to a string");
    }
}

async fn play_entry(entry: &Entry, backend: Backend) -> PlayOutcome {
    let mut outcome = PlayOutcome::default();
    let server = match start(entry, backend).await {
        Ok(server) => server,
        Err(error) => {
            let error = error.to_string();
            // Models that tract refuses are listed only in the documentation.
            let refusal = match backend {
                Backend::OnnxRuntime => check_refusal(entry, &error),
                Backend::Tract => Ok(()),
            };
            outcome.add(entry, "the load", "", refusal);
            outcome.refusal = Some(error);
            return outcome;
        }
    };
    if entry.serves == "no" {
        outcome.add(entry, "the load", "", Err("it must be refused".to_owned()));
    }
    server.settled(&[&entry.model]).await;
    for case in &entry.cases {
        if entry.serves == "errors" {
            let result = play::fails(&server, &entry.model, case).await;
            outcome.add(entry, &case.name, "both ports", result);
            continue;
        }
        if let Some(result) = play::over_rest(&server, case).await {
            outcome.add(entry, &case.name, "REST", result);
        }
        if let Some(result) = play::over_grpc(&server, &entry.model, case).await {
            outcome.add(entry, &case.name, "gRPC", result);
        }
    }
    let versions: BTreeSet<i64> = entry.cases.iter().map(|case| case.version).collect();
    for version in versions {
        if let Some(result) = check_metadata(&server, entry, version).await {
            outcome.add(
                entry,
                &format!("metadata of version {version}"),
                "gRPC",
                result,
            );
        }
    }
    server.stop().await;
    outcome
}

async fn start(entry: &Entry, backend: Backend) -> Result<TestServer, ServingError> {
    let files = tempfile::tempdir().unwrap();
    let config = files.path().join("models.config");
    fs::write(&config, model_config(&[(&entry.model, &entry.base_path)])).unwrap();
    let flags = [
        format!("--model_config_file={}", config.display()),
        "--max_num_load_retries=0".to_owned(),
        format!("--backend={}", backend.flag()),
    ];
    server::TestServer::try_start(&flags, files).await
}

/// Whether a refusal of this model with this error is expected.
fn check_refusal(entry: &Entry, error: &str) -> Result<(), String> {
    let is_fine = match entry.serves.as_str() {
        "map" => error.contains("signature_map.pbtxt"),
        // One of the operators that the notes name.
        "no" | "may" => entry
            .notes
            .split(|letter: char| !letter.is_alphanumeric())
            .filter(|word| word.chars().filter(|letter| letter.is_uppercase()).count() > 1)
            .any(|word| error.contains(word)),
        _ => false,
    };
    if is_fine {
        Ok(())
    } else {
        Err(error.to_owned())
    }
}

/// Whether GetModelMetadata answers with the signatures of `saved_model.pb`, to the letter; `None`
/// without that file, or with a map that changes them.
async fn check_metadata(
    server: &TestServer,
    entry: &Entry,
    version: i64,
) -> Option<Result<(), String>> {
    let directory = entry.base_path.join(version.to_string());
    let saved_model = fs::read(directory.join("saved_model.pb")).ok()?;
    if directory.join("signature_map.pbtxt").exists() {
        return None;
    }
    let expected = original_signatures(&saved_model);
    let actual = served_signatures(server, &entry.model, version).await;
    let comparison = Comparison {
        tolerance: Tolerance::default(),
        ignored_fields: &BTreeSet::new(),
    };
    Some(actual.and_then(|actual| comparison.check_value(&expected, &actual, "signature_def")))
}

fn original_signatures(saved_model: &[u8]) -> Value {
    let descriptor = POOL
        .get_message_by_name("tensorflow.SavedModel")
        .expect("its descriptor");
    let message = DynamicMessage::decode(descriptor, saved_model).unwrap();
    let graphs = message.get_field_by_name("meta_graphs").expect("a field");
    let graph = graphs
        .as_list()
        .and_then(<[Value]>::first)
        .and_then(Value::as_message);
    let signatures = graph.expect("a graph").get_field_by_name("signature_def");
    signatures.expect("a field").into_owned()
}

async fn served_signatures(
    server: &TestServer,
    model: &str,
    version: i64,
) -> Result<Value, String> {
    use proto::tensorflow::serving::{GetModelMetadataRequest, GetModelMetadataResponse};
    let method = "/tensorflow.serving.PredictionService/GetModelMetadata";
    let request = GetModelMetadataRequest {
        model_spec: Some(model_version(model, version, "")),
        metadata_field: vec!["signature_def".to_owned()],
    };
    let response: GetModelMetadataResponse = server
        .grpc
        .call_as(method, &request)
        .await
        .map_err(|status| status.to_string())?;
    let any = response
        .metadata
        .get("signature_def")
        .ok_or("no signature_def")?;
    let descriptor = POOL
        .get_message_by_name("tensorflow.serving.SignatureDefMap")
        .expect("its descriptor");
    let map = DynamicMessage::decode(descriptor, any.value.as_slice())
        .map_err(|error| error.to_string())?;
    Ok(map
        .get_field_by_name("signature_def")
        .expect("a field")
        .into_owned())
}
