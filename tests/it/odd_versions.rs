//! Unusual version directories, and how TensorFlow Serving 2.20 treats them.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use proto::tensorflow::serving::model_version_status::State;
use proto::tensorflow::serving::{
    GetModelStatusRequest, GetModelStatusResponse, ModelVersionStatus,
};

use crate::support::server::{TestServer, half_plus_two};
use crate::support::{material, predict};

/// The longest wait for versions to be found and loaded.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Copies a version directory of the repository.
fn copy(original: &Path, version: &Path) {
    fs::create_dir(version).unwrap();
    for entry in fs::read_dir(original).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), version.join(entry.file_name())).unwrap();
        }
    }
}

/// A server of one model, `m`, whose base path has copies of this version under these names.
async fn server(
    original: &Path,
    names: &[&str],
    flags: &[&str],
) -> (TestServer, tempfile::TempDir) {
    let base_path = tempfile::tempdir().unwrap();
    for name in names {
        copy(original, &base_path.path().join(name));
    }
    let server = TestServer::with_models(&[("m", base_path.path())], flags).await;
    (server, base_path)
}

/// The statuses once there are this many versions, none of them in transition.
async fn settled(server: &TestServer, count: usize) -> Vec<ModelVersionStatus> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let found = statuses(server).await;
        let is_settled =
            |it: &ModelVersionStatus| matches!(it.state(), State::Available | State::End);
        if found.len() == count && found.iter().all(is_settled) {
            return found;
        }
        assert!(Instant::now() < deadline, "{found:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn statuses(server: &TestServer) -> Vec<ModelVersionStatus> {
    let request = GetModelStatusRequest {
        model_spec: Some(predict::model("m", "")),
    };
    let method = "/tensorflow.serving.ModelService/GetModelStatus";
    let response: GetModelStatusResponse = server.grpc.call_as(method, &request).await.unwrap();
    response.model_version_status
}

fn half_plus_two_version() -> std::path::PathBuf {
    let versions = fs::read_dir(half_plus_two()).unwrap();
    let version = versions.map(|it| it.unwrap().path()).find(|it| it.is_dir());
    version.expect("a version")
}

#[tokio::test(flavor = "multi_thread")]
async fn negative_version_is_served() {
    let (server, _base_path) = server(&half_plus_two_version(), &["-3", "7"], &[]).await;
    let statuses = statuses(&server).await;
    let served: Vec<(i64, &str)> = statuses
        .iter()
        .map(|it| (it.version, it.state().as_str_name()))
        .collect();
    assert_eq!(served, [(7, "AVAILABLE"), (-3, "AVAILABLE")]);
    server.stop().await;
}

// `ReadBinaryProto` (TensorFlow's env.cc) reports the status at the end of the file.
#[tokio::test(flavor = "multi_thread")]
async fn broken_saved_model_is_out_of_range() {
    let good = material::data().join("golden2/models/vv/1");
    let flags = ["--max_num_load_retries=0"];
    let (server, base_path) = server(&good, &["7"], &flags).await;
    let whole = fs::read(good.join("saved_model.pb")).unwrap();
    for (version, contents) in [
        ("1", &whole[..whole.len() / 2]),
        ("2", b"this is not a SavedModel at all"),
        ("3", &[0xff; 100]),
    ] {
        let aside = base_path.path().join("aside");
        copy(&good, &aside);
        let file = aside.join("saved_model.pb");
        fs::remove_file(&file).unwrap();
        fs::write(file, contents).unwrap();
        fs::rename(aside, base_path.path().join(version)).unwrap();
    }
    for status in settled(&server, 4).await {
        let (code, text) = match status.version {
            7 => (0, ""),
            _ => (11, "Read less bytes than requested"),
        };
        let version = status.version;
        let status = status.status.unwrap();
        assert_eq!(status.error_code, code, "{version}: {status:?}");
        assert!(
            status.error_message.starts_with(text),
            "{version}: {status:?}"
        );
    }
    server.stop().await;
}

/// `RunSavedModelWarmupUntracked` (`saved_model_warmup_util.cc`): the label has only the reader's
/// error, the version's status has the advice as well.
#[tokio::test(flavor = "multi_thread")]
async fn warmup_status_is_the_readers_error() {
    let monitoring = tempfile::NamedTempFile::new().unwrap();
    fs::write(monitoring.path(), "prometheus_config { enable: true }").unwrap();
    let flag = format!("--monitoring_config_file={}", monitoring.path().display());
    let flags = ["--max_num_load_retries=0", &flag];
    let good = half_plus_two_version();
    let (server, base_path) = server(&good, &["7"], &flags).await;
    let aside = base_path.path().join("aside");
    copy(&good, &aside);
    fs::create_dir(aside.join("assets.extra")).unwrap();
    let warmup = aside.join("assets.extra/tf_serving_warmup_requests");
    fs::write(warmup, b"these are not records").unwrap();
    fs::rename(aside, base_path.path().join("1")).unwrap();
    let failed = settled(&server, 2).await.pop().unwrap().status.unwrap();

    let text = "corrupted record at 0 (Is this even a TFRecord file?)";
    let advice = "Please verify your warmup data is in TFRecord format.";
    assert_eq!(failed.error_message, format!("{text}. {advice}"));
    let page = server.get("/monitoring/prometheus/metrics").await.text();
    let label = format!("status=\"DATA_LOSS: {text}\"}}");
    assert!(page.contains(&label), "{page}");
    server.stop().await;
}
