//! Texts are from the recorded exchanges `grpc_regress` and `rest_regress`, or from `regressor.cc` if
//! nothing was recorded.

use bytes::Bytes;

use super::*;
use crate::inference::Examples;
use crate::inference::testing::{Stub, floats, service_of};
use base::error::Code;
use base::tensor::DataType;

fn two_examples() -> ExamplesRequest {
    ExamplesRequest {
        signature_name: "regress".to_owned(),
        examples: Examples {
            examples: vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")],
            context: None,
        },
        deadline: None,
    }
}

async fn regress(stub: Stub, request: ExamplesRequest) -> Result<RegressionResponse> {
    let servable = Stub::servable([stub]);
    service_of(&servable).regress(&servable, request).await
}

#[track_caller]
fn check_error<T: std::fmt::Debug>(result: Result<T>, text: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(error.to_string(), text);
}

fn stub() -> Stub {
    Stub::new("regress")
}

#[tokio::test]
async fn outputs_of_either_rank_make_values() {
    for shape in [&[2][..], &[2, 1]] {
        let stub = stub().output("outputs", floats(shape, &[12.0, 14.0]));
        let response = regress(stub, two_examples()).await.unwrap();
        assert_eq!(response.servable, ServableId::new("model", 123));
        assert_eq!(response.signature_name, "regress");
        assert_eq!(response.values, [12.0, 14.0]);
    }
}

#[tokio::test]
async fn missing_signature_is_named() {
    check_error(
        regress(Stub::new("other"), two_examples()).await,
        "No signature was found with the name: regress",
    );
}

#[tokio::test]
async fn method_name_is_checked_on_demand() {
    let stub = stub()
        .method("tensorflow/serving/classify")
        .output("outputs", floats(&[2], &[1.0, 2.0]));
    let servable = Stub::servable([stub]);
    let strict = service_of(&servable).with_options(InferenceOptions {
        check_method_name: true,
        ..InferenceOptions::default()
    });
    check_error(
        strict.regress(&servable, two_examples()).await,
        "Expected regression signature method_name to be tensorflow/serving/regress. \
         Was: tensorflow/serving/classify",
    );
}

#[tokio::test]
async fn unfit_signatures_are_refused() {
    let two_inputs = [("inputs", DataType::String), ("more", DataType::String)];
    check_error(
        regress(
            stub().inputs(&two_inputs).output("outputs", None),
            two_examples(),
        )
        .await,
        "Expected one input Tensor.",
    );
    check_error(
        regress(
            stub().output("outputs", None).output("more", None),
            two_examples(),
        )
        .await,
        "Expected one output Tensor.",
    );
    let other_input = stub()
        .inputs(&[("x", DataType::String)])
        .output("outputs", None);
    let other_output = stub().output("foo", None);
    for (stub, start) in [
        (
            other_input,
            "No regression inputs found in SignatureDef: inputs {\n",
        ),
        (
            other_output,
            "No regression outputs found in SignatureDef: inputs {\n",
        ),
    ] {
        let error = regress(stub, two_examples()).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.to_string().starts_with(start), "{error}");
    }
}

#[tokio::test]
async fn no_example_is_refused() {
    let request = ExamplesRequest {
        examples: Examples::default(),
        ..two_examples()
    };
    check_error(
        regress(stub().output("outputs", None), request).await,
        "Input is empty.",
    );
}

#[tokio::test]
async fn unfit_outputs_are_refused() {
    for (output, text) in [
        (
            floats(&[2, 2], &[0.0; 4]),
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got \
             [2,2]",
        ),
        (
            floats(&[], &[0.0]),
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got []",
        ),
        (
            floats(&[3], &[0.0; 3]),
            "Input batch size did not match output batch size: 2 vs. 3",
        ),
        (
            Tensor::from_vec(&[2], vec![1.0f64, 2.0]),
            "Expected output Tensor of DT_FLOAT.  Got: DT_DOUBLE",
        ),
    ] {
        check_error(
            regress(stub().output("outputs", output), two_examples()).await,
            text,
        );
    }
    check_error(
        regression_values(&[], 1),
        "Expected output_tensors and output_tensor_names to have the same size.",
    );
}
