//! Requests with examples that TensorFlow Serving 2.20 refuses, and the texts of its errors, with the models
//! of `tests/data/golden2`.

use prost::Message;
use proto::tensorflow::serving as pb;
use proto::tensorflow::serving::internal::{
    SerializedExampleList, SerializedInput, serialized_input,
};
use proto::tensorflow::{DataType, TensorProto};
use tonic::Code;

use crate::original_texts::{SERVICE, check, delimited, server, shaped, wrong};
use crate::support::predict;

fn examples(count: usize) -> Option<SerializedInput> {
    // x: 1.0
    let float = delimited(2, &delimited(1, &1.0_f32.to_le_bytes()));
    let entry = [delimited(1, b"x"), delimited(2, &float)].concat();
    let example = delimited(1, &delimited(1, &entry));
    Some(SerializedInput {
        kind: Some(serialized_input::Kind::ExampleList(SerializedExampleList {
            examples: vec![example.into(); count],
        })),
    })
}

fn multi_inference(tasks: &[(&str, &str)], count: usize) -> Vec<u8> {
    let task = |&(signature, method): &(&str, &str)| pb::InferenceTask {
        model_spec: Some(predict::model("exs", signature)),
        method_name: format!("tensorflow/serving/{method}"),
    };
    pb::MultiInferenceRequest {
        tasks: tasks.iter().map(task).collect(),
        input: examples(count),
    }
    .encode_to_vec()
}

/// `multi_inference.cc`: examples count if the run succeeds, even if its outputs are refused.
#[tokio::test(flavor = "multi_thread")]
async fn multi_inference_counts_examples_once_its_run_succeeds() {
    let monitoring = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(monitoring.path(), "prometheus_config { enable: true }").unwrap();
    let flag = format!("--monitoring_config_file={}", monitoring.path().display());
    let server = server(&["exs"], &[&flag]).await;
    let method = format!("{SERVICE}/MultiInference");
    let count = async || {
        let page = server.get("/monitoring/prometheus/metrics").await.text();
        let name = ":tensorflow:serving:request_example_count_total{model=\"exs\"} ";
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |count| count.parse::<i64>().unwrap())
    };

    let reply = server
        .grpc
        .call(&method, multi_inference(&[("r_int", "regress")], 3))
        .await;
    let text = "Expected output Tensor of DT_FLOAT.  Got: DT_INT64";
    check(&reply, Code::InvalidArgument, text);
    assert_eq!(count().await, 3);

    // The second task's input takes floats: the common run fails.
    let tasks = [("r", "regress"), ("notexf", "regress")];
    let reply = server.grpc.call(&method, multi_inference(&tasks, 5)).await;
    check(&reply, Code::InvalidArgument, &wrong(1, "float", "string"));
    assert_eq!(count().await, 3);
    server.stop().await;
}

/// The index refers to the run of all tasks, by the names of their tensors: `s26/i0:0` comes before
/// `s9/i0:0`.
#[tokio::test(flavor = "multi_thread")]
async fn multi_inference_counts_the_tensors_of_all_tasks() {
    let server = server(&["exs"], &[]).await;
    let method = format!("{SERVICE}/MultiInference");
    for (tasks, index) in [
        (&[("notexf", "regress")][..], 0),
        (&[("notexf", "regress"), ("c_head", "classify")], 0),
        (
            &[
                ("c_scores", "classify"),
                ("notexf", "regress"),
                ("r", "regress"),
            ],
            2,
        ),
    ] {
        let reply = server.grpc.call(&method, multi_inference(tasks, 1)).await;
        check(
            &reply,
            Code::InvalidArgument,
            &wrong(index, "float", "string"),
        );
    }
    server.stop().await;
}

fn serialized(examples: &[Vec<u8>], shape: &[i64]) -> TensorProto {
    TensorProto {
        dtype: DataType::DtString as i32,
        string_val: examples.iter().map(|it| it.clone().into()).collect(),
        ..shaped(shape)
    }
}

/// The texts are those of TensorFlow 2.21's `ParseExampleV2`, followed by the name of its node.
#[tokio::test(flavor = "multi_thread")]
async fn single_example_has_words_of_its_own() {
    let server = server(&["exs"], &[]).await;
    let missing = "Feature: x (data type: float) is required but could not be found.";
    for (shape, text) in [
        (&[][..], missing.to_owned()),
        (&[1], format!("Name: <unknown>, {missing}")),
    ] {
        let tensor = serialized(&[vec![]], shape);
        let request = predict::request(predict::model("exs", "p"), "inputs", tensor);
        let method = format!("{SERVICE}/Predict");
        let reply = server.grpc.call(&method, request.encode_to_vec()).await;
        let text = format!("{text}\n\t [[{{{{node s20/ParseExample/ParseExampleV2}}}}]]");
        check(&reply, Code::InvalidArgument, &text);
    }
    server.stop().await;
}

/// `ComputeInputSize` (`batching_session.cc`) checks the fed tensors, before the graph parses them.
#[tokio::test(flavor = "multi_thread")]
async fn single_example_cannot_be_batched() {
    let server = server(&["exs"], &["--enable_batching=true"]).await;
    let examples = match examples(1).and_then(|input| input.kind) {
        Some(serialized_input::Kind::ExampleList(list)) => list.examples,
        _ => panic!("a list"),
    };
    let example = examples[0].to_vec();
    let method = format!("{SERVICE}/Predict");
    for (example, shape, code, text) in [
        (&example, &[1][..], Code::Ok, ""),
        (
            &example,
            &[],
            Code::InvalidArgument,
            "Batching Run() input tensors must have at least one dimension",
        ),
        (
            &Vec::new(),
            &[],
            Code::InvalidArgument,
            "Batching Run() input tensors must have at least one dimension",
        ),
    ] {
        let tensor = serialized(std::slice::from_ref(example), shape);
        let request = predict::request(predict::model("exs", "p"), "inputs", tensor);
        let reply = server.grpc.call(&method, request.encode_to_vec()).await;
        check(&reply, code, text);
    }
    server.stop().await;
}
