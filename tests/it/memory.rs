//! The memory of the process: one copy of the weights, no more for concurrent runs, and less again
//! after a large request and after a model is unloaded.
//!
//! Each test measures a process of its own from outside, so that tests do not disturb each other.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use proto::tensorflow::serving::{
    ModelServerConfig, ReloadConfigRequest, ReloadConfigResponse, model_server_config,
};
use serde_json::Value;

use crate::support::big_model::{CLASSES, Model, WIDTH, weight_at};
use crate::support::grpc::GrpcClient;
use crate::support::http;
use crate::support::process::{Process, TIMEOUT, free_port};

/// These tests are about memory, so on a busy machine they can take their time.
const PATIENCE: &str = "--rest_api_timeout_in_ms=150000";
/// The approximate weights of the models.
const WEIGHTS_MB: f64 = 100.0;

/// A server process with a model named `default`.
struct Measured {
    process: Process,
    rest: SocketAddr,
    grpc: SocketAddr,
}

impl Measured {
    fn start(base_path: &Path) -> Self {
        let (grpc, rest) = (free_port(), free_port());
        let mut process = Process::start(base_path, &[PATIENCE], grpc, rest);
        process.wait_for("Entering the event loop ...");
        Self {
            process,
            rest: (Ipv4Addr::LOCALHOST, rest).into(),
            grpc: (Ipv4Addr::LOCALHOST, grpc).into(),
        }
    }

    /// A line of `/proc/<pid>/status`, in MB.
    fn megabytes(&self, key: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        let kibibytes = line.split_whitespace().nth(1).unwrap();
        kibibytes.parse::<f64>().unwrap() * 1024.0 / 1e6
    }

    fn resident(&self) -> f64 {
        self.megabytes("VmRSS:")
    }

    /// Waits until less than `megabytes` are resident.
    fn wait_until_below(&self, megabytes: f64) {
        let deadline = Instant::now() + TIMEOUT;
        while self.resident() >= megabytes {
            let resident = self.resident();
            assert!(
                Instant::now() < deadline,
                "{resident:.0} MB, not {megabytes:.0}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The peak of resident memory during `work`.
    async fn peak_during(&self, work: impl Future<Output = ()>) -> f64 {
        fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5").unwrap();
        work.await;
        self.megabytes("VmHWM:")
    }

    /// The answer to `rows` rows.
    async fn predict(&self, signature: &str, row: &str, rows: usize) -> Vec<Value> {
        let rows = vec![row; rows].join(",");
        let body = format!(r#"{{"signature_name": "{signature}", "instances": [{rows}]}}"#);
        let path = "/v1/models/default:predict";
        let request = http::request("POST", path, &[], Some(body.as_bytes()));
        let reply = http::exchange(self.rest, &request).await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        let mut reply: Value = serde_json::from_slice(&reply.body).unwrap();
        match reply["predictions"].take() {
            Value::Array(predictions) => predictions,
            other => panic!("{other}"),
        }
    }
}

fn row(columns: usize) -> String {
    format!("[{}]", vec!["1"; columns].join(","))
}

fn signature_map(outputs: &[&str]) -> String {
    let signature = |name: &&str| {
        format!(
            "signature {{ name: '{name}' input {{ alias: 'x' tensor: 'x' }} \
             output {{ alias: '{name}' tensor: '{name}' }} }}\n"
        )
    };
    outputs.iter().map(signature).collect()
}

fn floats(value: &Value) -> Vec<f64> {
    let values = value.as_array().unwrap().iter();
    values.map(|it| it.as_f64().unwrap()).collect()
}

#[tokio::test]
async fn signatures_of_one_file_share_their_weights() {
    let files = tempfile::tempdir().unwrap();
    let (one, three) = (files.path().join("one"), files.path().join("three"));
    let outputs = ["features", "logits", "probabilities"];
    Model::dense(&outputs[2..]).write(&one, "");
    Model::dense(&outputs).write(&three, &signature_map(&outputs));

    let of_one = Measured::start(&one).resident();
    let server = Measured::start(&three);
    let of_three = server.resident();

    println!("one signature: {of_one:.0} MB, three: {of_three:.0} MB");
    assert!(of_one > WEIGHTS_MB, "{of_one}");
    assert!(
        of_three < 1.25 * of_one,
        "{of_three:.0} MB, one: {of_one:.0} MB"
    );
    // Each signature is its own output; the definitions of MatMul and Softmax connect them.
    let row = row(WIDTH);
    let features = floats(&server.predict("features", &row, 1).await[0]);
    let logits = floats(&server.predict("logits", &row, 1).await[0]);
    let probabilities = floats(&server.predict("probabilities", &row, 1).await[0]);
    let exps: Vec<f64> = logits.iter().map(|it| it.exp()).collect();
    for class in 0..CLASSES {
        let weights = (0..WIDTH).map(|row| f64::from(weight_at("head", row * CLASSES + class)));
        let logit: f64 = features.iter().zip(weights).map(|(a, b)| a * b).sum();
        assert!((logits[class] - logit).abs() < 1e-4, "{logits:?}");
        let probability = exps[class] / exps.iter().sum::<f64>();
        assert!((probabilities[class] - probability).abs() < 1e-5);
    }
}

/// Nesting that cannot be a tensor is not stored while it is read: 16 MB of body need only a few times
/// that.
#[tokio::test]
async fn deeply_nested_json_takes_a_few_times_its_size() {
    const LEVELS: usize = 8_000_000;
    let files = tempfile::tempdir().unwrap();
    Model::embedding().write(files.path(), "");
    let server = Measured::start(files.path());
    server.predict("serving_default", "3", 1).await;
    let (open, close) = ("[".repeat(LEVELS), "]".repeat(LEVELS));
    for (name, body) in [
        ("unclosed", format!(r#"{{"instances":{open}{open}"#)),
        ("a value", format!(r#"{{"instances":{open}1{close}}}"#)),
        ("a column", format!(r#"{{"inputs":{open}{close}}}"#)),
        (
            "another member",
            format!(r#"{{"other":{open}{close},"instances":[[[1],[1,1]]]}}"#),
        ),
    ] {
        let before = server.resident();
        let asked = async {
            let path = "/v1/models/default:predict";
            let request = http::request("POST", path, &[], Some(body.as_bytes()));
            let reply = http::exchange(server.rest, &request).await.unwrap();
            assert_eq!(reply.status, 400, "{name}: {}", reply.text());
        };
        let peak = server.peak_during(asked).await;
        println!("{name}: {before:.0} MB before, at most {peak:.0} MB");
        assert!(peak < before + 100.0, "{name}: {before:.0}, {peak:.0} MB");
    }
}

/// The lookup table is used in place, so it is shared by the session, by the model that is kept for the
/// second graph, and by that graph. Without sharing, two of them would always have a copy each.
#[tokio::test]
async fn second_graph_for_other_ranks_shares_the_weights() {
    let files = tempfile::tempdir().unwrap();
    Model::embedding().write(files.path(), "");
    let server = Measured::start(files.path());
    let flat = server.predict("serving_default", "3", 1).await;
    let before = server.resident();

    let nested = server.predict("serving_default", "[3]", 1).await;

    let after = server.resident();
    println!("one graph: {before:.0} MB, with the second: {after:.0} MB");
    let table_row = (0..WIDTH).map(|column| f64::from(weight_at("table", 3 * WIDTH + column)));
    for (got, expected) in floats(&flat[0]).iter().zip(table_row) {
        assert!((got - expected).abs() < 1e-7, "{got}, not {expected}");
    }
    assert_eq!(nested[0][0], flat[0]);
    assert!(before > WEIGHTS_MB, "{before:.0} MB");
    assert!(
        before.max(after) < 2.0 * WEIGHTS_MB,
        "{before:.0} MB, then {after:.0} MB"
    );
}

#[tokio::test]
async fn runs_beside_each_other_share_the_weights() {
    let image = vec![vec![row(7); 7]; 512];
    let image: Vec<String> = image
        .iter()
        .map(|it| format!("[{}]", it.join(",")))
        .collect();
    let image = format!("[{}]", image.join(","));
    let dense = (Model::dense(&["probabilities"]), row(WIDTH));
    for (name, (model, row)) in [("MatMul", dense), ("Conv", (Model::convolutional(), image))] {
        let files = tempfile::tempdir().unwrap();
        model.write(files.path(), "");
        let server = Measured::start(files.path());
        let run = || async {
            server.predict("serving_default", &row, 1).await;
        };
        run().await;

        let of_one = server.peak_during(run()).await;
        let runs = async {
            tokio::join!(run(), run(), run(), run());
        };
        let of_four = server.peak_during(runs).await;

        println!("{name}: one run {of_one:.0} MB, four at a time {of_four:.0} MB");
        assert!(of_one > WEIGHTS_MB, "{name}: {of_one}");
        assert!(
            of_four < 1.3 * of_one,
            "{name}: {of_four:.0} MB, one: {of_one:.0} MB"
        );
    }
}

#[tokio::test]
async fn memory_of_an_outlier_comes_back() {
    let files = tempfile::tempdir().unwrap();
    Model::spacious().write(files.path(), "");
    let server = Measured::start(files.path());
    let row = row(64);
    server.predict("serving_default", &row, 4).await;
    let before = server.resident();

    let mut answer = Vec::new();
    let outlier = async { answer = server.predict("serving_default", &row, 6000).await };
    let peak = server.peak_during(outlier).await;

    // The mean of 8192 elements of |-(64 / 64)|.
    assert_eq!(answer.len(), 6000);
    assert!(answer.iter().all(|it| it.as_f64() == Some(1.0)));
    println!(
        "before {before:.0} MB, at the peak {peak:.0} MB, then {:.0} MB",
        server.resident()
    );
    assert!(
        peak > before + 190.0,
        "{peak:.0} MB, before: {before:.0} MB"
    );
    server.wait_until_below(before + 60.0);
}

#[tokio::test]
async fn memory_of_an_unloaded_model_comes_back() {
    let files = tempfile::tempdir().unwrap();
    Model::dense(&["probabilities"]).write(files.path(), "");
    let server = Measured::start(files.path());
    let row = row(WIDTH);
    server.predict("serving_default", &row, 8).await;
    let loaded = server.resident();

    let empty = model_server_config::Config::ModelConfigList(Default::default());
    let request = ReloadConfigRequest {
        config: Some(ModelServerConfig {
            config: Some(empty),
        }),
        ..ReloadConfigRequest::default()
    };
    let method = "/tensorflow.serving.ModelService/HandleReloadConfigRequest";
    let client = GrpcClient::new(server.grpc);
    let _: ReloadConfigResponse = client.call_as(method, &request).await.unwrap();

    println!("loaded: {loaded:.0} MB");
    server.wait_until_below(loaded - 0.9 * WEIGHTS_MB);
}
