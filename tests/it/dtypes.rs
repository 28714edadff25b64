//! Tensors of every dtype go through a graph that returns its input, and come back unchanged.
//!
//! They are written by the real client's rules (`support::tensor`), in every form that protobuf
//! allows: typed field, `tensor_content`, packed and unpacked.

use bytes::{BufMut, BytesMut};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use prost::Message;
use proto::tensorflow::{DataType, TensorProto};
use tempfile::TempDir;

use crate::support::model::{self, DTYPES};
use crate::support::predict::{self, PREDICT};
use crate::support::server::TestServer;
use crate::support::tensor::{TestTensor, Values};

#[tokio::test(flavor = "multi_thread")]
async fn every_dtype_and_shape_comes_back_unchanged() {
    let (server, _models) = identity_server().await;
    for (signature, dtype, _) in DTYPES {
        for shape in [
            &[][..],
            &[1],
            &[0],
            &[3, 0, 2],
            &[2, 3],
            &[1, 2, 1, 3, 1, 1, 2, 1],
        ] {
            let tensor = sample(*dtype, shape);
            for proto in [tensor.to_typed(), tensor.to_content()] {
                let request = predict::request(predict::model("identity", signature), "x", proto);
                let outputs = predict::call(&server.grpc, &request).await;
                assert_eq!(outputs.unwrap()["y"], tensor, "{signature} {shape:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_tensors_come_back_unchanged() {
    let (server, _models) = identity_server().await;
    let handle = tokio::runtime::Handle::current();
    let played = tokio::task::spawn_blocking(move || {
        let config = Config {
            cases: 300,
            failure_persistence: None,
            ..Config::default()
        };
        TestRunner::new(config).run(&(tensors(), any::<bool>()), |(tensor, in_content)| {
            let (name, _, _) = DTYPES.iter().find(|it| it.1 == tensor.dtype()).unwrap();
            let proto = if in_content {
                tensor.to_content()
            } else {
                tensor.to_typed()
            };
            let request = predict::request(predict::model("identity", name), "x", proto);
            let outputs = handle
                .block_on(predict::call(&server.grpc, &request))
                .unwrap();
            prop_assert!(same(&outputs["y"], &tensor), "{:?}", outputs["y"]);
            Ok(())
        })
    });
    played.await.unwrap().unwrap();
}

// Writers can leave repeated numbers unpacked; proto3 readers have to accept both.
#[tokio::test(flavor = "multi_thread")]
async fn unpacked_values_are_read() {
    let (server, _models) = identity_server().await;
    let header = TestTensor {
        shape: vec![2],
        values: Values::Float(vec![]),
    };
    for (signature, field, wire_type, first, second) in [
        (
            "float",
            5_u8,
            5_u8,
            1.5_f32.to_le_bytes().to_vec(),
            2.5_f32.to_le_bytes().to_vec(),
        ),
        (
            "double",
            6,
            1,
            1.5_f64.to_le_bytes().to_vec(),
            2.5_f64.to_le_bytes().to_vec(),
        ),
        ("int32", 7, 0, vec![3], vec![4]),
        ("int64", 10, 0, vec![3], vec![4]),
        ("bool", 11, 0, vec![1], vec![0]),
    ] {
        let (_, dtype, _) = DTYPES.iter().find(|it| it.0 == signature).unwrap();
        let mut tensor = header.to_typed();
        tensor.dtype = (*dtype).into();
        let mut bytes = BytesMut::from(tensor.encode_to_vec().as_slice());
        for value in [first, second] {
            bytes.put_u8(field << 3 | wire_type);
            bytes.put_slice(&value);
        }

        let message = request_bytes(signature, &bytes);
        let reply = server.grpc.call(PREDICT, message).await;

        let response = proto::tensorflow::serving::PredictResponse::decode(reply.message);
        let expected = match dtype {
            DataType::DtFloat => Values::Float(vec![1.5, 2.5]),
            DataType::DtDouble => Values::Double(vec![1.5, 2.5]),
            DataType::DtInt32 => Values::Int32(vec![3, 4]),
            DataType::DtInt64 => Values::Int64(vec![3, 4]),
            _ => Values::Bool(vec![true, false]),
        };
        let actual = TestTensor::from_proto(&response.unwrap().outputs["y"]).unwrap();
        assert_eq!(actual.values, expected, "{signature}: {}", reply.details);
    }
}

/// A PredictRequest with these bytes as the tensor `x`.
fn request_bytes(signature: &str, tensor: &[u8]) -> Vec<u8> {
    let empty = TensorProto::default();
    let mut request = predict::request(predict::model("identity", signature), "x", empty);
    request.inputs.clear();
    let mut bytes = request.encode_to_vec();
    let mut entry = vec![0x0a, 1, b'x', 0x12];
    prost::encoding::encode_varint(tensor.len() as u64, &mut entry);
    entry.extend_from_slice(tensor);
    bytes.push(0x12);
    prost::encoding::encode_varint(entry.len() as u64, &mut bytes);
    bytes.extend_from_slice(&entry);
    bytes
}

async fn identity_server() -> (TestServer, TempDir) {
    let models = tempfile::tempdir().unwrap();
    model::write_identity(models.path());
    let server = TestServer::with_models(&[("identity", models.path())], &[]).await;
    (server, models)
}

/// Values that reveal a lossy conversion: extremes, signs, bit patterns.
fn sample(dtype: DataType, shape: &[i64]) -> TestTensor {
    let count = usize::try_from(shape.iter().product::<i64>()).unwrap();
    let values = if dtype == DataType::DtString {
        let texts: [&[u8]; 4] = [b"", b"\0a\0", b"\xff\xfe", "chữ".as_bytes()];
        Values::String(
            texts
                .iter()
                .cycle()
                .take(count)
                .map(|text| text.to_vec())
                .collect(),
        )
    } else {
        let size = 8 / elements(dtype);
        let one = |index: usize| match dtype {
            DataType::DtBool => vec![u8::from(index.is_multiple_of(2))],
            // All ones except next to the sign: large, negative, and not a NaN.
            _ if index.is_multiple_of(2) => [vec![0xff; size - 1], vec![0xbf]].concat(),
            _ => [vec![0x01; size - 1], vec![0x7b]].concat(),
        };
        let bytes: Vec<u8> = (0..count).flat_map(one).collect();
        Values::from_bytes(dtype, &bytes).expect("a dtype of fixed size")
    };
    TestTensor {
        shape: shape.to_vec(),
        values,
    }
}

/// Elements in eight bytes.
fn elements(dtype: DataType) -> usize {
    match dtype {
        DataType::DtDouble | DataType::DtInt64 | DataType::DtUint64 => 1,
        DataType::DtFloat | DataType::DtInt32 | DataType::DtUint32 => 2,
        DataType::DtInt8 | DataType::DtUint8 | DataType::DtBool => 8,
        _ => 4,
    }
}

/// Equality of bits: even NaNs have to come back as they were sent.
fn same(left: &TestTensor, right: &TestTensor) -> bool {
    let bytes = |tensor: &TestTensor| tensor.values.to_bytes();
    (left.dtype(), &left.shape, bytes(left)) == (right.dtype(), &right.shape, bytes(right))
        && (left.dtype() != DataType::DtString || left.values == right.values)
}

/// Tensors of any dtype, of rank 0 to 5, with any bits.
fn tensors() -> impl Strategy<Value = TestTensor> {
    let shapes = prop::collection::vec(0..4_i64, 0..5);
    (0..DTYPES.len(), shapes).prop_flat_map(|(index, shape)| {
        let dtype = DTYPES[index].1;
        let count = usize::try_from(shape.iter().product::<i64>()).expect("small");
        let values = if dtype == DataType::DtString {
            let text = prop::collection::vec(any::<u8>(), 0..9);
            prop::collection::vec(text, count)
                .prop_map(Values::String)
                .boxed()
        } else {
            prop::collection::vec(any::<u8>(), count * 8 / elements(dtype))
                .prop_map(move |bytes| Values::from_bytes(dtype, &bytes).expect("fixed size"))
                .boxed()
        };
        values.prop_map(move |values| TestTensor {
            shape: shape.clone(),
            values,
        })
    })
}
