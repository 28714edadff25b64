//! Texts are from the recorded exchanges `grpc_classify`, or from `classifier.cc` if nothing was recorded.

use bytes::Bytes;

use super::*;
use crate::inference::Examples;
use crate::inference::testing::{Stub, classes, floats, service_of, strings};
use base::error::Code;

fn two_examples() -> ExamplesRequest {
    ExamplesRequest {
        signature_name: String::new(),
        examples: Examples {
            examples: vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")],
            context: None,
        },
        deadline: None,
    }
}

async fn classify(stub: Stub, request: ExamplesRequest) -> Result<ClassificationResponse> {
    let servable = Stub::servable([stub]);
    service_of(&servable).classify(&servable, request).await
}

#[track_caller]
fn check_error<T: std::fmt::Debug>(result: Result<T>, text: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(error.to_string(), text);
}

fn rows(result: &ClassificationResult) -> Vec<Vec<(&str, f32)>> {
    let rows = result.examples();
    rows.map(|row| row.map(pair).collect()).collect()
}

fn pair(class: Class<'_>) -> (&str, f32) {
    (std::str::from_utf8(class.label).unwrap(), class.score)
}

fn stub() -> Stub {
    Stub::new("serving_default")
}

#[tokio::test]
async fn classes_and_scores_make_rows() {
    let stub = stub()
        .output("scores", floats(&[2, 2], &[0.1, 1.0, 0.2, 0.3]))
        .output("classes", strings(&[2, 2], &["cat", "dog", "cat", "dog"]));
    let response = classify(stub, two_examples()).await.unwrap();
    assert_eq!(response.servable, ServableId::new("model", 123));
    assert_eq!(response.signature_name, "serving_default");
    assert_eq!(
        rows(&response.result),
        [[("cat", 0.1), ("dog", 1.0)], [("cat", 0.2), ("dog", 0.3)]]
    );
}

#[tokio::test]
async fn scores_alone_have_empty_labels() {
    let stub = stub().output("scores", floats(&[2, 1], &[2.5, 3.0]));
    let response = classify(stub, two_examples()).await.unwrap();
    assert_eq!(rows(&response.result), [[("", 2.5)], [("", 3.0)]]);
}

#[tokio::test]
async fn classes_alone_have_zero_scores() {
    let stub = stub().output("classes", strings(&[2, 1], &["a", "b"]));
    let response = classify(stub, two_examples()).await.unwrap();
    assert_eq!(rows(&response.result), [[("a", 0.0)], [("b", 0.0)]]);
}

#[tokio::test]
async fn no_classes_leave_empty_rows() {
    let stub = stub().output("scores", floats(&[2, 0], &[]));
    let response = classify(stub, two_examples()).await.unwrap();
    assert_eq!(rows(&response.result), [vec![], vec![]]);
}

// signature-map.md: labels belong to the columns, in the tensor's order.
#[tokio::test]
async fn declared_labels_become_the_classes() {
    let stub = stub()
        .output("scores", floats(&[2, 2], &[0.1, 0.9, 0.8, 0.2]))
        .classes(classes(&["cat", "dog"], 0));
    let response = classify(stub, two_examples()).await.unwrap();
    assert_eq!(
        rows(&response.result),
        [[("cat", 0.1), ("dog", 0.9)], [("cat", 0.8), ("dog", 0.2)]]
    );
}

#[tokio::test]
async fn declared_top_k_keeps_the_best_first() {
    let stub = stub()
        .output("scores", floats(&[2, 3], &[0.1, 0.2, 0.7, 0.4, 0.4, 0.2]))
        .classes(classes(&["cat", "dog", "emu"], 2));
    let response = classify(stub, two_examples()).await.unwrap();
    assert_eq!(
        rows(&response.result),
        [[("emu", 0.7), ("dog", 0.2)], [("cat", 0.4), ("dog", 0.4)]]
    );
}

#[tokio::test]
async fn classes_of_the_model_stand_over_declared_labels() {
    let stub = stub()
        .output("classes", strings(&[2, 2], &["a", "b", "c", "d"]))
        .output("scores", floats(&[2, 2], &[0.1, 0.9, 0.8, 0.2]))
        .classes(classes(&["only one"], 1));
    let response = classify(stub, two_examples()).await.unwrap();
    assert_eq!(rows(&response.result), [[("b", 0.9)], [("c", 0.8)]]);
}

#[tokio::test]
async fn labels_of_another_number_are_refused_after_the_shape() {
    let labels = || classes(&["cat", "dog"], 1);
    let three = floats(&[2, 3], &[0.0; 6]);
    check_error(
        classify(
            stub().output("scores", three).classes(labels()),
            two_examples(),
        )
        .await,
        "Expected as many labels as scores in dim_size(1). Got 2 vs. 3",
    );
    let flat = floats(&[2], &[0.0; 2]);
    check_error(
        classify(
            stub().output("scores", flat).classes(labels()),
            two_examples(),
        )
        .await,
        "Expected Tensor shape: [batch_size num_classes] but got [2]",
    );
}

#[tokio::test]
async fn output_of_another_name_is_not_fetched() {
    let stub = stub()
        .output("scores", floats(&[2, 1], &[2.5, 3.0]))
        .output("other", None);
    classify(stub, two_examples()).await.unwrap();
}

#[tokio::test]
async fn context_goes_in_front_of_every_example() {
    let stub = stub().output("scores", floats(&[2, 1], &[2.5, 3.0]));
    let fed = stub.fed();
    let mut request = two_examples();
    request.examples.context = Some(Bytes::from_static(b"ctx:"));
    classify(stub, request).await.unwrap();
    let fed = fed.lock().unwrap();
    assert_eq!(fed[0][0], strings(&[2], &["ctx:one", "ctx:two"]).unwrap());
}

#[tokio::test]
async fn missing_signature_is_named() {
    let mut request = two_examples();
    request.signature_name = "nope".to_owned();
    check_error(
        classify(stub(), request.clone()).await,
        "No signature was found with the name: nope",
    );
    request.signature_name = String::new();
    check_error(
        classify(Stub::new("other"), request).await,
        "No signature was found with the name: serving_default",
    );
}

#[tokio::test]
async fn metadata_only_signature_is_found_and_unfit() {
    let mut request = two_examples();
    request.signature_name = "__saved_model_init_op".to_owned();
    let result = classify(stub(), request).await;
    check_error(result, "Expected one input Tensor.");
}

#[tokio::test]
async fn method_name_is_checked_on_demand() {
    let stub = stub()
        .method("tensorflow/serving/predict")
        .output("scores", floats(&[2, 1], &[2.5, 3.0]));
    let servable = Stub::servable([stub]);
    let service = service_of(&servable);
    assert!(service.classify(&servable, two_examples()).await.is_ok());
    let strict = service.with_options(InferenceOptions {
        check_method_name: true,
        ..InferenceOptions::default()
    });
    check_error(
        strict.classify(&servable, two_examples()).await,
        "Expected classification signature method_name to be tensorflow/serving/classify. \
         Was: tensorflow/serving/predict",
    );
}

#[tokio::test]
async fn unfit_signatures_are_refused() {
    let scores = || floats(&[2, 1], &[2.5, 3.0]);
    let two_inputs = [("inputs", DataType::String), ("more", DataType::String)];
    check_error(
        classify(
            stub().inputs(&two_inputs).output("scores", scores()),
            two_examples(),
        )
        .await,
        "Expected one input Tensor.",
    );
    let three = stub()
        .output("classes", None)
        .output("scores", None)
        .output("more", None);
    check_error(
        classify(three, two_examples()).await,
        "Expected one or two output Tensors, found 3",
    );
    let other_input = stub()
        .inputs(&[("x", DataType::String)])
        .output("scores", scores());
    let text = classify(other_input, two_examples()).await.unwrap_err();
    let text = text.to_string();
    let start = "No classification inputs found in SignatureDef: inputs {\n  key: \"x\"\n";
    assert!(text.starts_with(start), "{text}");
    let other_output = stub()
        .method("tensorflow/serving/classify")
        .output("foo", scores());
    let text = classify(other_output, two_examples()).await.unwrap_err();
    let text = text.to_string();
    let start = "Expected classification signature outputs to contain at least one of \
                 \"classes\" or \"scores\". Signature was: inputs {\n";
    assert!(text.starts_with(start), "{text}");
    assert!(text.ends_with("method_name: \"tensorflow/serving/classify\"\n"));
}

#[tokio::test]
async fn no_example_is_refused_after_the_signature() {
    let no_examples = || ExamplesRequest {
        examples: Examples {
            examples: Vec::new(),
            context: Some(Bytes::from_static(b"ctx")),
        },
        ..two_examples()
    };
    check_error(
        classify(stub().output("scores", None), no_examples()).await,
        "Input is empty.",
    );
    check_error(
        classify(
            ["a", "b", "c"]
                .iter()
                .fold(stub(), |stub, alias| stub.output(alias, None)),
            no_examples(),
        )
        .await,
        "Expected one or two output Tensors, found 3",
    );
}

/// Recorded exchange grpc/113 and rest/314: a signature whose input takes numbers.
#[tokio::test]
async fn examples_for_a_float_input_are_refused() {
    let stub = stub()
        .inputs(&[("inputs", DataType::Float)])
        .output("scores", None);
    check_error(
        classify(stub, two_examples()).await,
        "Expects arg[0] to be float but string is provided",
    );
}

#[tokio::test]
async fn unfit_outputs_are_refused() {
    let integers = Tensor::from_vec(&[2, 1], vec![1i64, 2]);
    let scores = |shape: &[usize]| floats(shape, &vec![0.0; shape.iter().product()]);
    let cases = [
        (
            stub().output("scores", scores(&[2])),
            "Expected Tensor shape: [batch_size num_classes] but got [2]",
        ),
        (
            stub().output("classes", integers.clone()),
            "Expected classes Tensor of DT_STRING. Got: DT_INT64",
        ),
        (
            stub().output("scores", integers),
            "Expected scores Tensor of DT_FLOAT. Got: DT_INT64",
        ),
        (
            stub().output("scores", scores(&[3, 1])),
            "Expected scores output batch size of 2. Got: 3",
        ),
        (
            stub().output("classes", strings(&[1, 1], &["a"])),
            "Expected classes output batch size of 2. Got: 1",
        ),
        (
            stub()
                .output("classes", strings(&[2, 1], &["a", "b"]))
                .output("scores", scores(&[2, 2])),
            "Tensors class and score should match in dim_size(1). Got 1 vs. 2",
        ),
    ];
    for (stub, text) in cases {
        check_error(classify(stub, two_examples()).await, text);
    }
    check_error(
        classification_result(Vec::new(), &["scores".to_owned()], None, 1),
        "Expected 1 output tensor(s).  Got: 0",
    );
}
