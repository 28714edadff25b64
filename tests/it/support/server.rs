//! A server in this process, on ports that the system picks.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base::error::Result;
use onnx_model_server::config::{Flags, ParsedFlags};
use onnx_model_server::server::{Server, ServerOptions};
use proto::tensorflow::serving::model_version_status::State;
use proto::tensorflow::serving::{GetModelStatusRequest, GetModelStatusResponse};
use tempfile::TempDir;

use super::grpc::GrpcClient;
use super::http::{self, HttpReply};
use super::{material, predict};

/// The longest wait for models to load.
const SETTLING: Duration = Duration::from_secs(60);

/// A running server and its clients.
pub(crate) struct TestServer {
    server: Server,
    pub(crate) rest: SocketAddr,
    pub(crate) grpc: GrpcClient,
    /// Files that the flags name.
    _files: TempDir,
}

impl TestServer {
    /// Starts a server with `half_plus_two` of `models/`: y = x / 2 + 2, `x: float[?]`.
    pub(crate) async fn half_plus_two() -> Self {
        Self::with_models(&[("half_plus_two", &half_plus_two())], &[]).await
    }

    /// Starts a server with these models, given by base path, and further flags.
    pub(crate) async fn with_models(models: &[(&str, &Path)], flags: &[&str]) -> Self {
        let files = tempfile::tempdir().unwrap();
        let config = files.path().join("models.config");
        fs::write(&config, model_config(models)).unwrap();
        let mut all = vec![format!("--model_config_file={}", config.display())];
        all.extend(flags.iter().map(|&flag| flag.to_owned()));
        let server = Self::try_start(&all, files).await.expect("a server");
        let names: Vec<&str> = models.iter().map(|(name, _)| *name).collect();
        server.settled(&names).await;
        server
    }

    /// As the others, but does not wait for all versions; `files` lives as long as the server.
    pub(crate) async fn try_start(flags: &[String], files: TempDir) -> Result<Self> {
        let mut arguments = vec![OsString::from("onnx_model_server")];
        arguments.push(format!("--onnxruntime_library={}", onnxruntime().display()).into());
        arguments.extend(flags.iter().map(OsString::from));
        let ParsedFlags::Run { flags, .. } = Flags::parse(arguments) else {
            panic!("these flags do not start a server: {flags:?}");
        };
        let mut options = ServerOptions::from_flags(&flags)?;
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        options.grpc_address = Some(any_port);
        options.rest_address = Some(any_port);
        let server = Server::start(options).await?;
        Ok(Self {
            rest: server.rest_address().expect("a REST port"),
            grpc: GrpcClient::new(server.grpc_address().expect("a gRPC port")),
            server,
            _files: files,
        })
    }

    /// A REST request with this body.
    pub(crate) async fn post(&self, path: &str, body: impl AsRef<[u8]>) -> HttpReply {
        let request = http::request("POST", path, &[], Some(body.as_ref()));
        http::exchange(self.rest, &request).await.unwrap()
    }

    /// A REST request without a body.
    pub(crate) async fn get(&self, path: &str) -> HttpReply {
        let request = http::request("GET", path, &[], None);
        http::exchange(self.rest, &request).await.unwrap()
    }

    /// Waits until every version of these models is loaded or has failed. The ports open as soon as one
    /// version of each is loaded.
    pub(crate) async fn settled(&self, models: &[&str]) {
        for model in models {
            let request = GetModelStatusRequest {
                model_spec: Some(predict::model(model, "")),
            };
            let deadline = Instant::now() + SETTLING;
            while !self.has_settled(&request).await {
                assert!(Instant::now() < deadline, "{model} is still loading");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    async fn has_settled(&self, request: &GetModelStatusRequest) -> bool {
        let method = "/tensorflow.serving.ModelService/GetModelStatus";
        let response: GetModelStatusResponse = self.grpc.call_as(method, request).await.unwrap();
        let mut versions = response.model_version_status.iter();
        versions.all(|version| matches!(version.state(), State::Available | State::End))
    }

    /// Stops the server and waits for its end.
    pub(crate) async fn stop(self) {
        self.server.stop().await;
    }
}

/// The base path of `half_plus_two`.
pub(crate) fn half_plus_two() -> PathBuf {
    material::root().join("models/half_plus_two")
}

/// ONNX Runtime's library: `ORT_DYLIB_PATH`, else where `make onnxruntime` puts it.
pub(crate) fn onnxruntime() -> PathBuf {
    std::env::var_os("ORT_DYLIB_PATH").map_or_else(
        || material::root().join(".onnxruntime/lib/libonnxruntime.so"),
        PathBuf::from,
    )
}

/// A `--model_config_file` with these models.
pub(crate) fn model_config(models: &[(&str, &Path)]) -> String {
    let mut text = String::from("model_config_list {\n");
    for (name, base_path) in models {
        let base_path = base_path.display();
        writeln!(
            text,
            "config {{ name: '{name}' base_path: '{base_path}' model_platform: 'tensorflow' \
             model_version_policy {{ all {{}} }} }}"
        )
        .expect("writing to a string");
    }
    text + "}\n"
}
