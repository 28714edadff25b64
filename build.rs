//! Compiles `proto/` into Rust messages, service traits and the descriptor sets that reflection
//! and the text format need. Pure Rust: no `protoc` has to be installed.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};

use protox::prost::Message;
use tonic_build::manual::{Method, Service};

/// What clients see by reflection, and what generated messages are needed for.
const SERVED: &[&str] = &[
    "onnx_model_server/auth_config.proto",
    "onnx_model_server/signature_map.proto",
    "tensorflow/core/example/example.proto",
    "tensorflow/core/protobuf/saved_model.proto",
    "tensorflow/core/profiler/profiler_service.proto",
    "tensorflow_serving/apis/internal/serialized_input.proto",
    "tensorflow_serving/apis/model_service.proto",
    "tensorflow_serving/apis/prediction_log.proto",
    "tensorflow_serving/apis/prediction_service.proto",
    "tensorflow_serving/config/monitoring_config.proto",
    "tensorflow_serving/config/platform_config.proto",
    "tensorflow_serving/config/ssl_config.proto",
    "tensorflow_serving/servables/tensorflow/session_bundle_config.proto",
];

/// Read through descriptors only, so no code is generated.
const DESCRIBED: &[&str] = &["tensorflow/core/protobuf/config.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=build.rs");
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);

    let served = protox::compile(SERVED, ["proto"])?;
    std::fs::write(out_dir.join("served.bin"), served.encode_to_vec())?;
    let described = protox::compile(DESCRIBED, ["proto"])?;
    std::fs::write(out_dir.join("described.bin"), described.encode_to_vec())?;
    let onnx = protox::compile(["onnx/onnx.proto"], ["proto"])?;

    let mut config = prost_build::Config::new();
    config
        .bytes(["."])
        .btree_map(["."])
        .enable_type_names()
        // The examples of a request are handed on as bytes (see serialized_input.proto).
        .extern_path(
            ".tensorflow.serving.Input",
            "crate::proto::tensorflow::serving::internal::SerializedInput",
        );
    let mut served_code = served;
    // PredictionService is generated below, with codecs of our own.
    for file in &mut served_code.file {
        file.service
            .retain(|service| service.name() != "PredictionService");
    }
    tonic_prost_build::configure()
        .build_client(false)
        .include_file("messages.rs")
        .compile_fds_with_config(served_code, config)?;

    let mut config = prost_build::Config::new();
    config.bytes(["."]);
    config.compile_fds(onnx)?;

    prediction_service(&out_dir);
    Ok(())
}

/// `PredictionService`, whose `Predict` goes straight between the socket's buffer and tensors.
fn prediction_service(out_dir: &Path) {
    let method = |name: &str, route: &str, input: &str, output: &str, codec: &str| {
        Method::builder()
            .name(name)
            .route_name(route)
            .input_type(input)
            .output_type(output)
            .codec_path(codec)
            .build()
    };
    let message = |name: &str| format!("crate::proto::tensorflow::serving::{name}");
    let prost = "tonic_prost::ProstCodec";
    let service = Service::builder()
        .name("PredictionService")
        .package("tensorflow.serving")
        .method(method(
            "predict",
            "Predict",
            "crate::transport::grpc::codec::ReceivedPredict",
            "crate::transport::grpc::codec::PredictAnswer",
            "crate::transport::grpc::codec::PredictCodec",
        ))
        .method(method(
            "classify",
            "Classify",
            &message("ClassificationRequest"),
            &message("ClassificationResponse"),
            prost,
        ))
        .method(method(
            "regress",
            "Regress",
            &message("RegressionRequest"),
            &message("RegressionResponse"),
            prost,
        ))
        .method(method(
            "multi_inference",
            "MultiInference",
            &message("MultiInferenceRequest"),
            &message("MultiInferenceResponse"),
            prost,
        ))
        .method(method(
            "get_model_metadata",
            "GetModelMetadata",
            &message("GetModelMetadataRequest"),
            &message("GetModelMetadataResponse"),
            prost,
        ))
        .build();
    tonic_build::manual::Builder::new()
        .build_client(false)
        .out_dir(out_dir)
        .compile(&[service]);
}
