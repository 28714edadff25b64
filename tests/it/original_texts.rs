//! Requests that TensorFlow Serving 2.20 refuses, and the texts of its errors, with the models of
//! `tests/data/golden2`. The texts were recorded from it, or follow from the source that a test names.

use std::path::{Path, PathBuf};

use prost::Message;
use proto::tensorflow::serving as pb;
use proto::tensorflow::serving::internal::{
    SerializedExampleList, SerializedInput, serialized_input,
};
use proto::tensorflow::{DataType, TensorProto, TensorShapeProto, tensor_shape_proto::Dim};
use tonic::Code;

use crate::support::server::TestServer;
use crate::support::{material, predict};

pub(crate) const SERVICE: &str = "/tensorflow.serving.PredictionService";

fn models() -> PathBuf {
    material::data().join("golden2/models")
}

pub(crate) async fn server(names: &[&str], flags: &[&str]) -> TestServer {
    let paths: Vec<PathBuf> = names.iter().map(|name| models().join(name)).collect();
    let models = names.iter().zip(&paths);
    let models: Vec<(&str, &Path)> = models.map(|(name, path)| (*name, path.as_path())).collect();
    TestServer::with_models(&models, flags).await
}

fn empty(dtype: i32) -> TensorProto {
    TensorProto {
        dtype,
        ..shaped(&[0])
    }
}

pub(crate) fn shaped(dims: &[i64]) -> TensorProto {
    let dim = dims.iter().map(|&size| Dim {
        size,
        ..Dim::default()
    });
    TensorProto {
        dtype: DataType::DtFloat as i32,
        tensor_shape: Some(TensorShapeProto {
            dim: dim.collect(),
            unknown_rank: false,
        }),
        ..TensorProto::default()
    }
}

#[track_caller]
pub(crate) fn check(reply: &crate::support::grpc::GrpcReply, code: Code, text: &str) {
    assert_eq!((reply.code, reply.details.as_str()), (code, text));
}

pub(crate) fn wrong(index: usize, declared: &str, sent: &str) -> String {
    format!("Expects arg[{index}] to be {declared} but {sent} is provided")
}

/// `is_decoded` is the result of TensorFlow 2.21's `ParseTensor` for the same bytes.
#[tokio::test(flavor = "multi_thread")]
async fn unserved_dtypes_are_named_as_wrong_ones() {
    let server = server(&["vv"], &[]).await;
    let call = async |tensor: TensorProto| {
        let request = predict::request(predict::model("vv", ""), "x", tensor);
        let method = format!("{SERVICE}/Predict");
        server.grpc.call(&method, request.encode_to_vec()).await
    };
    for (dtype, name) in [
        (DataType::DtResource, "resource"),
        (DataType::DtVariant, "variant"),
        (DataType::DtFloat8E5m2, "float8_e5m2"),
        (DataType::DtFloat8E4m3fn, "float8_e4m3fn"),
        (DataType::DtFloat8E4m3fnuz, "float8_e4m3fnuz"),
        (DataType::DtFloat8E4m3b11fnuz, "float8_e4m3b11fnuz"),
        (DataType::DtFloat8E5m2fnuz, "float8_e5m2fnuz"),
        (DataType::DtInt4, "int4"),
        (DataType::DtUint4, "uint4"),
        (DataType::DtInt2, "int2"),
        (DataType::DtUint2, "uint2"),
        (DataType::DtFloat4E2m1fn, "float4_e2m1fn"),
    ] {
        let text = wrong(0, "float", name);
        let dtype = dtype as i32;
        check(&call(empty(dtype)).await, Code::InvalidArgument, &text);
        let two = TensorProto {
            dtype,
            ..shaped(&[2])
        };
        check(&call(two.clone()).await, Code::InvalidArgument, &text);
        // One byte for each element, even for dtypes of fewer bits; no number of bytes makes a variant.
        for (bytes, is_decoded) in [
            (1, false),
            (2, dtype > DataType::DtVariant as i32),
            (3, false),
        ] {
            let content = TensorProto {
                tensor_content: vec![1; bytes].into(),
                ..two.clone()
            };
            let text = match is_decoded {
                true => text.as_str(),
                false => "tensor parsing error: x",
            };
            check(&call(content).await, Code::InvalidArgument, text);
        }
    }
    // References and unknown numbers are not dtypes of values.
    for dtype in [0, 34, 101, 129] {
        let reply = call(empty(dtype)).await;
        check(&reply, Code::InvalidArgument, "tensor parsing error: x");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn first_wrong_tensor_by_name_is_named() {
    let server = server(&["alias", "types"], &[]).await;
    let call = async |model: pb::ModelSpec, inputs: &[(&str, DataType)]| {
        let inputs = inputs.iter();
        let request = pb::PredictRequest {
            model_spec: Some(model),
            inputs: inputs
                .map(|&(alias, dtype)| (alias.to_owned(), empty(dtype as i32)))
                .collect(),
            ..pb::PredictRequest::default()
        };
        let method = format!("{SERVICE}/Predict");
        server.grpc.call(&method, request.encode_to_vec()).await
    };
    let (float, int, double) = (DataType::DtFloat, DataType::DtInt32, DataType::DtDouble);
    // Tensors s0/i0:0, s0/i1:0 and s0/i2:0, whose aliases sort the other way.
    for (inputs, index, sent) in [
        (
            [("Upper", int), ("upper", double), ("ünï/çø dé", float)],
            1,
            "int32",
        ),
        (
            [("Upper", int), ("upper", float), ("ünï/çø dé", double)],
            0,
            "double",
        ),
        (
            [("Upper", float), ("upper", int), ("ünï/çø dé", float)],
            2,
            "int32",
        ),
    ] {
        let reply = call(predict::model("alias", ""), &inputs).await;
        check(&reply, Code::InvalidArgument, &wrong(index, "float", sent));
    }
    let reply = call(
        predict::model("types", "two_int"),
        &[("b", double), ("a", int)],
    )
    .await;
    check(&reply, Code::InvalidArgument, &wrong(1, "int64", "double"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn output_that_is_an_input_is_refused_where_it_is_wanted() {
    let server = server(&["alias"], &[]).await;
    for (filter, expected) in [
        (&["x"][..], None),
        (&["z", "x"], Some("s12/i0:0 is both fed and fetched.")),
        (&["y"], Some("s12/i0:0 is both fed and fetched.")),
        (&[], Some("s12/i0:0 is both fed and fetched.")),
    ] {
        // The names are checked before the dtype.
        for dtype in [DataType::DtFloat, DataType::DtInt32] {
            let request = pb::PredictRequest {
                output_filter: filter.iter().map(|&it| it.to_owned()).collect(),
                ..predict::request(predict::model("alias", "dup"), "x", empty(dtype as i32))
            };
            let method = format!("{SERVICE}/Predict");
            let reply = server.grpc.call(&method, request.encode_to_vec()).await;
            match (expected, dtype) {
                (Some(text), _) => check(&reply, Code::InvalidArgument, text),
                (None, DataType::DtFloat) => assert_eq!(reply.code, Code::Ok, "{reply:?}"),
                (None, _) => {
                    check(&reply, Code::InvalidArgument, &wrong(0, "float", "int32"));
                }
            }
        }
    }
    server.stop().await;
}

/// A field with a length in front.
pub(crate) fn delimited(number: u8, content: &[u8]) -> Vec<u8> {
    let head = [number << 3 | 2, u8::try_from(content.len()).unwrap()];
    [&head, content].concat()
}

/// gRPC refuses a request that does not parse, regardless of other errors in it. Long, because it is a table
/// of messages in bytes.
#[tokio::test(flavor = "multi_thread")]
async fn malformed_message_within_a_request_is_internal() {
    let server = server(&["vv", "exs"], &[]).await;
    let float = b"\x08\x01";
    for (tensor, code) in [
        (vec![], Code::InvalidArgument),
        // A shape, a dim and its name that are truncated or not UTF-8.
        (
            [&float[..], &delimited(2, b"\x12")].concat(),
            Code::Internal,
        ),
        (
            [&float[..], &delimited(2, &delimited(2, b"\x08"))].concat(),
            Code::Internal,
        ),
        (
            [
                &float[..],
                &delimited(2, &delimited(2, &delimited(2, b"\xff"))),
            ]
            .concat(),
            Code::Internal,
        ),
        // Packed numbers that are truncated: floats, and others that are not read.
        ([&float[..], &delimited(5, b"123")].concat(), Code::Internal),
        (
            [&float[..], &delimited(10, b"\x80")].concat(),
            Code::Internal,
        ),
        (
            [&float[..], &delimited(12, b"1234567")].concat(),
            Code::Internal,
        ),
        // A variant's name and a resource's container.
        (
            [&float[..], &delimited(15, &delimited(1, b"\xff"))].concat(),
            Code::Internal,
        ),
        (
            [&float[..], &delimited(14, &delimited(2, b"\xff"))].concat(),
            Code::Internal,
        ),
        // A negative size is a valid message, but not a valid tensor.
        (
            [
                &float[..],
                &delimited(
                    2,
                    &delimited(2, b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
                ),
            ]
            .concat(),
            Code::InvalidArgument,
        ),
    ] {
        let entry = [delimited(1, b"x"), delimited(2, &tensor)].concat();
        let spec = predict::model("vv", "").encode_to_vec();
        let request = [delimited(1, &spec), delimited(2, &entry)].concat();
        let reply = server
            .grpc
            .call(&format!("{SERVICE}/Predict"), request)
            .await;
        assert_eq!(reply.code, code, "{tensor:?}: {reply:?}");
    }

    let feature = |feature: &[u8]| {
        let entry = [delimited(1, b"x"), delimited(2, feature)].concat();
        delimited(1, &delimited(1, &entry))
    };
    for (example, code) in [
        (feature(&delimited(2, &delimited(1, &[0; 4]))), Code::Ok),
        (
            feature(&delimited(2, &delimited(1, &[0; 5]))),
            Code::Internal,
        ),
        (
            feature(&delimited(3, &delimited(1, b"\x80"))),
            Code::Internal,
        ),
        (feature(b"\x12\x7f"), Code::Internal),
        (
            delimited(1, &delimited(1, &delimited(1, b"\xff"))),
            Code::Internal,
        ),
        (b"garbage".to_vec(), Code::Internal),
    ] {
        let list = SerializedExampleList {
            examples: vec![example.clone().into()],
        };
        let request = pb::ClassificationRequest {
            model_spec: Some(predict::model("exs", "c_scores")),
            input: Some(SerializedInput {
                kind: Some(serialized_input::Kind::ExampleList(list)),
            }),
        };
        let method = format!("{SERVICE}/Classify");
        let reply = server.grpc.call(&method, request.encode_to_vec()).await;
        assert_eq!(reply.code, code, "{example:?}: {reply:?}");
    }
    server.stop().await;
}

/// `CEscape` of Abseil, which protobuf's text format uses.
#[tokio::test(flavor = "multi_thread")]
async fn definitions_in_errors_escape_bytes_in_octal() {
    let server = server(&["alias"], &[]).await;
    let request = pb::RegressionRequest {
        model_spec: Some(predict::model("alias", "emoji😀")),
        input: None,
    };
    let method = format!("{SERVICE}/Regress");
    let reply = server.grpc.call(&method, request.encode_to_vec()).await;
    let start = "No regression inputs found in SignatureDef: inputs {\n  \
                 key: \"\\360\\237\\230\\200\"\n";
    assert!(reply.details.starts_with(start), "{}", reply.details);
    let output = "\n  key: \"\\360\\237\\230\\200out\"\n";
    assert!(reply.details.contains(output), "{}", reply.details);
    server.stop().await;
}
