//! Replays the recordings with the ONNX files taken away: the server imports the SavedModels.
//!
//! The recordings have no variables, so models that need them keep their ONNX files in the replay. Without
//! these files, they have to be refused.

use std::fs;
use std::path::Path;

use proto::tensorflow::serving::{GetModelStatusRequest, GetModelStatusResponse};
use tempfile::TempDir;

use super::lists::{LEFT_OUT, Listed};
use super::{Report, play};
use crate::support::server::TestServer;
use crate::support::{material, predict};

/// The models of each round whose SavedModel is the whole model.
const IMPORTED: &[(&str, &[&str])] = &[
    ("golden", &["ex", "ident", "multi", "vers"]),
    (
        "golden2",
        &["alias", "exs", "multi", "odd", "ranks", "types", "vv"],
    ),
];

/// The models whose SavedModel is refused by itself, and the reason.
const REFUSED: &[Listed] = &[
    ("half_plus_three", "variable 'a'"),
    ("half_plus_two", "variable 'a'"),
    ("half_plus_two_tf2", "variable 'a'"),
    // It has several, in the order of the file.
    ("mlp", "variable 'Variable"),
];

#[tokio::test(flavor = "multi_thread")]
async fn recorded_answers_of_imported_models() {
    for &(round, imported) in IMPORTED {
        let folder = material::data().join(round);
        let models = without_onnx_files(&folder.join("models"), imported);
        let played = play::play_all(&folder, models.path()).await;
        let report = Report::new(&played, &[], LEFT_OUT);
        report.print(&format!("{round}, imported models"));
        report.judge();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_models_without_their_variables_are_refused() {
    for &(round, imported) in IMPORTED {
        let folder = material::shared(round).unwrap_or_else(|| material::data().join(round));
        let all = saved_models(&folder.join("models"));
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let models = without_onnx_files(&folder.join("models"), &all);
        let refused: Vec<&str> = all
            .into_iter()
            .filter(|it| !imported.contains(it))
            .collect();
        for (name, error) in load_errors(models.path(), &refused).await {
            let listed = REFUSED.iter().find(|(model, _)| *model == name);
            let (_, variable) = listed.unwrap_or_else(|| panic!("{name} is not listed: {error}"));
            for part in [variable, ": variables/variables.index is missing"] {
                assert!(error.contains(part), "{name}: {error}");
            }
        }
    }
}

/// A copy of base paths in which these models have nothing but their SavedModels.
fn without_onnx_files(models: &Path, imported: &[&str]) -> TempDir {
    let copies = tempfile::tempdir().unwrap();
    for (name, base_path) in folders(models) {
        for (version, files) in folders(&base_path) {
            let copy = copies.path().join(&name).join(version);
            fs::create_dir_all(&copy).unwrap();
            for file in fs::read_dir(files).unwrap() {
                let file = file.unwrap();
                let is_saved_model = file.file_name() == "saved_model.pb";
                if is_saved_model || !imported.contains(&name.as_str()) {
                    fs::copy(file.path(), copy.join(file.file_name())).unwrap();
                }
            }
        }
    }
    copies
}

/// The models that have a SavedModel, except for second forms of others.
fn saved_models(models: &Path) -> Vec<String> {
    let has_saved_model = |base_path: &Path| {
        let mut versions = folders(base_path).into_iter();
        versions.any(|(_, version)| version.join("saved_model.pb").is_file())
    };
    let all = folders(models).into_iter();
    let found = all.filter(|(name, it)| !name.ends_with("_cut") && has_saved_model(it));
    found.map(|(name, _)| name).collect()
}

/// The folders in a folder, with their names.
fn folders(folder: &Path) -> Vec<(String, std::path::PathBuf)> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let found = entries.filter(|entry| entry.path().is_dir());
    found
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .collect()
}

/// The errors of the loads of these models.
async fn load_errors(models: &Path, names: &[&str]) -> Vec<(String, String)> {
    let paths: Vec<_> = names.iter().map(|name| models.join(name)).collect();
    let models: Vec<(&str, &Path)> = names
        .iter()
        .copied()
        .zip(paths.iter().map(AsRef::as_ref))
        .collect();
    let flags = ["--wait_for_models=false", "--max_num_load_retries=0"];
    let server = TestServer::with_models(&models, &flags).await;
    let mut errors = Vec::new();
    for name in names {
        let request = GetModelStatusRequest {
            model_spec: Some(predict::model(name, "")),
        };
        let method = "/tensorflow.serving.ModelService/GetModelStatus";
        let status: GetModelStatusResponse = server.grpc.call_as(method, &request).await.unwrap();
        let versions = status.model_version_status.into_iter();
        let error = versions.filter_map(|it| Some(it.status?.error_message));
        errors.push(((*name).to_owned(), error.collect()));
    }
    server.stop().await;
    errors
}
