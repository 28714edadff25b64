//! Compiles `proto/` into Rust messages, service traits and the descriptor sets that reflection
//! and the text format need. Pure Rust: no `protoc` has to be installed.

use std::env;
use std::error::Error;
use std::path::PathBuf;

use protox::prost::Message;

/// The files that clients see by reflection, and that generated messages are needed for.
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

/// Read only through descriptors, so no code is generated.
const DESCRIBED: &[&str] = &["tensorflow/core/protobuf/config.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    // `crates/proto`, to which this script belongs.
    let package = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let root = package.join("../..");
    let proto = root.join("proto");
    println!("cargo:rerun-if-changed={}", proto.display());
    println!("cargo:rerun-if-changed={}", root.join("build.rs").display());
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);

    let served = protox::compile(SERVED, [&proto])?;
    std::fs::write(out_dir.join("served.bin"), served.encode_to_vec())?;
    let described = protox::compile(DESCRIBED, [&proto])?;
    std::fs::write(out_dir.join("described.bin"), described.encode_to_vec())?;
    let onnx = protox::compile(["onnx/onnx.proto"], [&proto])?;
    std::fs::write(out_dir.join("onnx.bin"), onnx.encode_to_vec())?;

    let mut config = prost_build::Config::new();
    config
        .bytes(["."])
        .btree_map(["."])
        .enable_type_names()
        // Every node of a graph has a map of attributes, with places for eleven: a tensor's 400 bytes in each
        // would make a decoded graph thirty times as large as the file.
        .boxed(".tensorflow.AttrValue.value.tensor")
        .boxed(".tensorflow.AttrValue.value.list")
        // The examples of a request are passed on as bytes (see serialized_input.proto).
        .extern_path(
            ".tensorflow.serving.Input",
            "crate::tensorflow::serving::internal::SerializedInput",
        );
    let mut served_code = served;
    // `Predict` bypasses tonic: `crates/api/src/tfs/grpc/predict.rs`.
    let services = served_code.file.iter_mut().flat_map(|it| &mut it.service);
    for service in services {
        service.method.retain(|method| method.name() != "Predict");
    }
    tonic_prost_build::configure()
        .build_client(false)
        .include_file("messages.rs")
        .compile_fds_with_config(served_code, config)?;

    let mut config = prost_build::Config::new();
    config.bytes(["."]);
    config.compile_fds(onnx)?;
    Ok(())
}
