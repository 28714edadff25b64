//! The Predict RPC. Values and texts are those of TensorFlow Serving (`predict_impl.cc`,
//! `predict_util.cc`, and `Tensor::FromProto` of `tensor.cc`).

use std::collections::BTreeMap;

use proto::tensorflow::serving::{ModelSpec, PredictRequest, PredictResponse};
use proto::tensorflow::{DataType, TensorProto};
use tonic::Code;
use tonic::codec::CompressionEncoding;

use crate::support::predict::{self, PREDICT, model, model_version, request};
use crate::support::server::{TestServer, half_plus_two};
use crate::support::tensor::{TestTensor, Values, shape_proto};

#[tokio::test(flavor = "multi_thread")]
async fn predict_answers_in_typed_fields() {
    let server = TestServer::half_plus_two().await;

    let request = request(
        model("half_plus_two", ""),
        "x",
        floats(&[3], &[1.0, 2.0, 5.0]),
    );
    let response: PredictResponse = server.grpc.call_as(PREDICT, &request).await.unwrap();

    let expected = PredictResponse {
        model_spec: Some(model_version("half_plus_two", 1, "serving_default")),
        outputs: BTreeMap::from([("y".to_owned(), floats(&[3], &[2.5, 3.0, 4.5]))]),
    };
    assert_eq!(response, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn predict_answers_in_tensor_content_by_flag() {
    let flags = ["--enable_serialization_as_tensor_content=true"];
    let models = [("half_plus_two", half_plus_two())];
    let models = models
        .each_ref()
        .map(|(name, path)| (*name, path.as_path()));
    let server = TestServer::with_models(&models, &flags).await;

    let request = request(model("half_plus_two", ""), "x", floats(&[2], &[1.0, 2.0]));
    let response: PredictResponse = server.grpc.call_as(PREDICT, &request).await.unwrap();

    let expected = TestTensor {
        shape: vec![2],
        values: Values::Float(vec![2.5, 3.0]),
    };
    assert_eq!(response.outputs["y"], expected.to_content());
    // REST has one form, regardless of the flag.
    let reply = server
        .post("/v1/models/half_plus_two:predict", r#"{"inputs":[1.0]}"#)
        .await;
    assert_eq!(reply.text(), "{\n    \"outputs\": [\n        2.5\n    ]\n}");
}

#[tokio::test(flavor = "multi_thread")]
async fn short_and_long_value_lists_fill_the_shape() {
    let server = TestServer::half_plus_two().await;
    for (what, shape, sent, answered) in [
        (
            "the last value is repeated",
            &[3][..],
            &[1.0, 2.0][..],
            &[2.5, 3.0, 3.0][..],
        ),
        ("no value is zeros", &[2], &[], &[2.0, 2.0]),
        ("surplus is ignored", &[1], &[1.0, 2.0], &[2.5]),
        ("no elements need no values", &[0], &[1.0], &[]),
        ("a scalar stays one", &[], &[4.0], &[4.0]),
        ("rank 3", &[1, 2, 1], &[1.0, 2.0], &[2.5, 3.0]),
    ] {
        let request = request(model("half_plus_two", ""), "x", floats(shape, sent));
        let response: PredictResponse = server.grpc.call_as(PREDICT, &request).await.unwrap();
        assert_eq!(response.outputs["y"], floats(shape, answered), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn predict_refuses_with_the_originals_texts() {
    let server = TestServer::half_plus_two().await;
    let one = || floats(&[1], &[1.0]);
    let known = || model("half_plus_two", "");
    let with = |model: ModelSpec| request(model, "x", one());
    let mut extra = with(known());
    extra.inputs.insert("z".to_owned(), one());
    let filter = |aliases: &[&str]| PredictRequest {
        output_filter: aliases.iter().map(|&alias| alias.to_owned()).collect(),
        ..with(known())
    };
    let no_spec = PredictRequest {
        model_spec: None,
        ..with(known())
    };
    for (request, code, text) in [
        (no_spec, Code::InvalidArgument, "Missing ModelSpec"),
        (
            with(model("", "")),
            Code::InvalidArgument,
            "ModelSpec has no name specified.",
        ),
        (
            with(model("nope", "")),
            Code::NotFound,
            "Servable not found for request: Latest(nope)",
        ),
        (
            with(model_version("half_plus_two", 7, "")),
            Code::NotFound,
            "Servable not found for request: Specific(half_plus_two, 7)",
        ),
        (
            with(model("half_plus_two", "nope")),
            Code::FailedPrecondition,
            "Serving signature key \"nope\" not found.",
        ),
        (
            extra,
            Code::InvalidArgument,
            "input size does not match signature: 2!=1 len({x,z}) != len({x}). Sent extra: {z}. \
             Missing but required: {}.",
        ),
        (
            filter(&["nope"]),
            Code::InvalidArgument,
            "output tensor alias not found in signature: nope Outputs expected to be in the set \
             {y}.",
        ),
        (
            filter(&["y", "y"]),
            Code::InvalidArgument,
            "duplicate output tensor alias: y",
        ),
    ] {
        let status = predict::call(&server.grpc, &request).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (code, text));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_error_texts_are_cut() {
    let server = TestServer::half_plus_two().await;

    let request = request(
        model("half_plus_two", &"s".repeat(3000)),
        "x",
        floats(&[1], &[1.0]),
    );
    let status = predict::call(&server.grpc, &request).await.unwrap_err();

    let whole = format!("Serving signature key \"{}", "s".repeat(3000));
    assert_eq!(status.message(), format!("{}...TRUNCATED", &whole[..1024]));
}

#[tokio::test(flavor = "multi_thread")]
async fn packed_requests_are_unpacked() {
    let server = TestServer::half_plus_two().await;
    let request = request(model("half_plus_two", ""), "x", floats(&[1000], &[2.0]));
    for encoding in [
        CompressionEncoding::Gzip,
        CompressionEncoding::Deflate,
        CompressionEncoding::Zstd,
    ] {
        let client = server.grpc.compressed(encoding);
        let outputs = predict::call(&client, &request).await.unwrap();
        assert_eq!(
            outputs["y"].values,
            Values::Float(vec![3.0; 1000]),
            "{encoding:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_tensors_pass_in_both_directions() {
    let server = TestServer::half_plus_two().await;
    let elements = 8 << 20;
    let tensor = TestTensor {
        shape: vec![elements],
        values: Values::Float((0..elements).map(|number| number as f32).collect()),
    };

    let request = request(model("half_plus_two", ""), "x", tensor.to_content());
    let outputs = predict::call(&server.grpc, &request).await.unwrap();

    let expected = (0..elements)
        .map(|number| number as f32 / 2.0 + 2.0)
        .collect();
    assert!(outputs["y"].values == Values::Float(expected));
}

/// A float tensor with these values, however many.
fn floats(shape: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        dtype: DataType::DtFloat.into(),
        tensor_shape: Some(shape_proto(shape)),
        float_val: values.to_vec(),
        ..TensorProto::default()
    }
}
