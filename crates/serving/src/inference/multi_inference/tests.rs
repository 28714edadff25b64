//! Texts are from the recorded exchanges `grpc_multi_inference`, or from `multi_inference.cc` if
//! nothing was recorded.

use bytes::Bytes;

use super::*;
use crate::inference::Class;
use crate::inference::testing::{Stub, classes, floats, service_of};
use base::error::Code;

const CLASSIFY: &str = "tensorflow/serving/classify";
const REGRESS: &str = "tensorflow/serving/regress";

/// `regress_x_to_y` and `classify_x_to_y` of half_plus_two, with the results for 1 and 2.
fn half_plus_two() -> ServableHandle {
    let answer = || floats(&[2, 1], &[2.5, 3.0]);
    Stub::servable([
        Stub::new("regress_x_to_y").output("outputs", answer()),
        Stub::new("classify_x_to_y").output("scores", answer()),
    ])
}

fn request(tasks: &[(&str, &str, &str)]) -> MultiInferenceRequest {
    let task = |&(model_name, signature_name, method_name): &(&str, &str, &str)| InferenceTask {
        model_name: model_name.to_owned(),
        signature_name: signature_name.to_owned(),
        method_name: method_name.to_owned(),
    };
    MultiInferenceRequest {
        tasks: tasks.iter().map(task).collect(),
        examples: Examples {
            examples: vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")],
            context: None,
        },
        deadline: None,
    }
}

async fn check_error(tasks: &[(&str, &str, &str)], code: Code, text: &str) {
    let servable = half_plus_two();
    let service = service_of(&servable);
    let result = service.multi_inference(&servable, request(tasks)).await;
    let error = result.unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (code, text));
}

/// Recorded exchange grpc/102.
#[tokio::test]
async fn results_are_in_task_order() {
    let servable = half_plus_two();
    let tasks = [
        ("model", "regress_x_to_y", REGRESS),
        ("model", "classify_x_to_y", CLASSIFY),
    ];
    let response = service_of(&servable)
        .multi_inference(&servable, request(&tasks))
        .await
        .unwrap();
    assert_eq!(response.servable, ServableId::new("model", 123));
    let [regression, classification] = response.results.as_slice() else {
        panic!("two tasks have two results: {response:?}");
    };
    assert_eq!(regression.signature_name, "regress_x_to_y");
    assert!(
        matches!(&regression.outcome, InferenceOutcome::Regression(values) if *values == [2.5, 3.0])
    );
    assert_eq!(classification.signature_name, "classify_x_to_y");
    let InferenceOutcome::Classification(result) = &classification.outcome else {
        panic!("the second task classifies");
    };
    let classes: Vec<Class<'_>> = result.examples().flatten().collect();
    assert_eq!(classes, [2.5, 3.0].map(|score| Class { label: b"", score }));
}

#[tokio::test]
async fn declared_labels_go_with_their_task() {
    let scores = || floats(&[2, 1], &[2.5, 3.0]);
    let servable = Stub::servable([
        Stub::new("named")
            .output("scores", scores())
            .classes(classes(&["y"], 0)),
        Stub::new("unnamed").output("scores", scores()),
    ]);
    let tasks = [("model", "named", CLASSIFY), ("model", "unnamed", CLASSIFY)];
    let response = service_of(&servable)
        .multi_inference(&servable, request(&tasks))
        .await
        .unwrap();
    let labels = response
        .results
        .iter()
        .flat_map(|result| match &result.outcome {
            InferenceOutcome::Classification(result) => result.examples().flatten(),
            InferenceOutcome::Regression(_) => panic!("both tasks classify"),
        });
    let labels: Vec<&[u8]> = labels.map(|class| class.label).collect();
    assert_eq!(labels, [&b"y"[..], b"y", b"", b""]);
}

#[tokio::test]
async fn tasks_name_one_model() {
    let regress = ("model", "regress_x_to_y", REGRESS);
    check_error(
        &[regress, ("", "classify_x_to_y", CLASSIFY)],
        Code::InvalidArgument,
        "Found ModelSpec with an empty model name.",
    )
    .await;
    check_error(
        &[regress, ("ex", "regress", REGRESS)],
        Code::InvalidArgument,
        "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
    )
    .await;
}

#[tokio::test]
async fn signatures_exist_and_differ() {
    let regress = ("model", "regress_x_to_y", REGRESS);
    check_error(
        &[regress, ("model", "regress_x_to_y", CLASSIFY)],
        Code::InvalidArgument,
        "Duplicate evaluation of signature: regress_x_to_y",
    )
    .await;
    check_error(
        &[("model", "nope", REGRESS)],
        Code::InvalidArgument,
        "Requested signature not found in model graph: nope",
    )
    .await;
    check_error(
        &[("model", "", REGRESS)],
        Code::InvalidArgument,
        "Requested signature not found in model graph: serving_default",
    )
    .await;
}

#[tokio::test]
async fn other_methods_are_unimplemented() {
    check_error(
        &[("model", "regress_x_to_y", "tensorflow/serving/predict")],
        Code::Unimplemented,
        "Unsupported signature method_name: tensorflow/serving/predict",
    )
    .await;
}

#[tokio::test]
async fn signature_has_to_fit_the_method() {
    let servable = half_plus_two();
    let tasks = [("model", "classify_x_to_y", REGRESS)];
    let error = service_of(&servable)
        .multi_inference(&servable, request(&tasks))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let start = "No regression outputs found in SignatureDef: ";
    assert!(error.to_string().starts_with(start), "{error}");
}

/// Recorded exchange grpc/105; the tasks are checked first.
#[tokio::test]
async fn no_example_is_refused_after_the_tasks() {
    let servable = half_plus_two();
    let service = service_of(&servable);
    for (signature_name, text) in [
        ("regress_x_to_y", "Input is empty."),
        ("nope", "Requested signature not found in model graph: nope"),
    ] {
        let mut request = request(&[("model", signature_name, REGRESS)]);
        request.examples = Examples::default();
        let error = service.multi_inference(&servable, request).await;
        assert_eq!(error.unwrap_err().to_string(), text);
    }
}

#[tokio::test]
async fn all_tasks_run_before_results_are_checked() {
    let servable = Stub::servable([
        Stub::new("unfit").output("outputs", floats(&[3], &[0.0; 3])),
        Stub::new("fails").output("outputs", None),
    ]);
    let tasks = [("model", "unfit", REGRESS), ("model", "fails", REGRESS)];
    let error = service_of(&servable)
        .multi_inference(&servable, request(&tasks))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "the stub fails");
}
