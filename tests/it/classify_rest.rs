//! `POST …:classify` of a scikit-learn model, with classes from its signature map.
//!
//! Scores are scikit-learn's own (`tests/data/zoo/sklearn_zipmap/cases.json`). Other tests of Classify:
//! `golden`.

use std::fs;
use std::path::Path;

use crate::support::json::{Json, Tolerance};
use crate::support::material;
use crate::support::server::TestServer;

/// The second and the third flower.
const BODY: &str = r#"{"signature_name": "SIGNATURE", "examples": [
    {"flower": [5.0, 2.0, 3.5, 1.0]}, {"flower": [6.9, 3.2, 5.7, 2.3]}]}"#;

#[tokio::test(flavor = "multi_thread")]
async fn classes_come_from_zip_map_or_labels() {
    let folder = tempfile::tempdir().unwrap();
    write_iris(folder.path());
    let server =
        TestServer::with_models(&[("iris", folder.path())], &["--max_num_load_retries=0"]).await;
    check(
        &server,
        "zip_map",
        r#"{"results": [
            [["0", 0.05595084], ["1", 0.93747395], ["2", 0.006575092]],
            [["0", 5.6610143e-06], ["1", 0.024064649], ["2", 0.97592974]]]}"#,
    )
    .await;
    check(
        &server,
        "best_two",
        r#"{"results": [
            [["versicolor", 0.93747395], ["setosa", 0.05595084]],
            [["virginica", 0.97592974], ["versicolor", 0.024064649]]]}"#,
    )
    .await;

    let body = BODY.replace("SIGNATURE", "too_few");
    let reply = server.post("/v1/models/iris:classify", body).await;
    assert_eq!(reply.status, 400);
    assert_eq!(
        reply.text(),
        "{\n    \"error\": \"Expected as many labels as scores in dim_size(1). Got 2 vs. 3\"\n}"
    );
}

async fn check(server: &TestServer, signature_name: &str, expected: &str) {
    let body = BODY.replace("SIGNATURE", signature_name);
    let reply = server.post("/v1/models/iris:classify", body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let actual = Json::parse(reply.text().as_bytes()).unwrap();
    let tolerance = Tolerance {
        abs: 1e-5,
        rel: 1e-4,
    };
    let expected = Json::parse(expected.as_bytes()).unwrap();
    expected.check(&actual, tolerance).unwrap();
}

/// Version 1 of a model whose map defines classify signatures of the one graph.
fn write_iris(base_path: &Path) {
    let version = base_path.join("1");
    fs::create_dir(&version).unwrap();
    let model = material::data().join("zoo/sklearn_zipmap/1/model.onnx");
    fs::copy(model, version.join("model.onnx")).unwrap();
    fs::write(
        version.join("flowers.txt"),
        "setosa\nversicolor\nvirginica\n",
    )
    .unwrap();
    let signature = |name: &str, classes: &str| {
        format!(
            "signature {{ name: '{name}' method_name: 'tensorflow/serving/classify'
               example_input {{ alias: 'inputs' feature {{ key: 'flower' dtype: DT_FLOAT
                 shape {{ dim {{ size: 4 }} }} tensor: 'float_input' }} }}
               output {{ alias: 'scores' tensor: 'output_probability' {classes} }} }}\n"
        )
    };
    let map = signature("zip_map", "")
        + &signature("best_two", "labels { file: 'flowers.txt' } top_k: 2")
        + &signature("too_few", "labels { label: 'setosa' label: 'other' }");
    fs::write(version.join("signature_map.pbtxt"), map).unwrap();
}
