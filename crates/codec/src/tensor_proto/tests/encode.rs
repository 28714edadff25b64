//! Compares the bytes of a response with those that prost writes for the same tensor.

use bytes::Bytes;
use prost::Message;

use super::{DTYPES, message, typed_proto};
use crate::tensor_proto::{Encoder, Form};
use base::tensor::{DataType, Tensor};

fn encoded(tensor: &Tensor, form: Form) -> Vec<u8> {
    let encoder = Encoder::new(tensor, form);
    let mut bytes = Vec::new();
    encoder.write(&mut bytes);
    assert_eq!(bytes.len(), encoder.encoded_len(), "{tensor:?}");
    bytes
}

/// Six elements with a variety of bits.
fn sample(dtype: DataType) -> Tensor {
    let shape = [2, 3];
    match dtype.size() {
        None => {
            let strings = [&b""[..], b"a", b"\xff\0\xfe", b"", b"long enough", b"\n"];
            Tensor::from_strings(&shape, strings.map(Bytes::from_static).to_vec())
        }
        Some(size) => {
            let mut bytes: Vec<u8> = (0..6 * size).map(|it| (it * 89 + 131) as u8).collect();
            if dtype == DataType::Bool {
                bytes.iter_mut().for_each(|byte| *byte &= 1);
            }
            Tensor::from_bytes(dtype, &shape, bytes.into())
        }
    }
    .unwrap()
}

#[test]
fn every_dtype_stands_in_its_typed_field() {
    for dtype in DTYPES {
        let tensor = sample(dtype);
        let bytes = encoded(&tensor, Form::TypedField);
        assert_eq!(bytes, typed_proto(&tensor).encode_to_vec(), "{dtype}");
    }
}

#[test]
fn every_dtype_stands_in_tensor_content() {
    for dtype in DTYPES {
        let tensor = sample(dtype);
        let mut proto = message(dtype, &[2, 3]);
        proto.tensor_content = match tensor.bytes() {
            Some(bytes) => bytes.clone(),
            // `port::EncodeStringList`: the lengths, then the strings.
            None => Bytes::from_static(b"\0\x01\x03\0\x0b\x01a\xff\0\xfelong enough\n"),
        };
        let bytes = encoded(&tensor, Form::TensorContent);
        assert_eq!(bytes, proto.encode_to_vec(), "{dtype}");
    }
}

#[test]
fn scalars_have_an_empty_shape_message() {
    let tensor = Tensor::from_vec(&[], vec![2.5f32]).unwrap();
    let expected = [8, 1, 18, 0, 42, 4, 0, 0, 32, 64];
    assert_eq!(encoded(&tensor, Form::TypedField), expected);
}

#[test]
fn empty_tensors_have_no_values() {
    for dtype in DTYPES {
        let tensor = Tensor::zeros(dtype, &[2, 0]).unwrap();
        let expected = message(dtype, &[2, 0]).encode_to_vec();
        assert_eq!(encoded(&tensor, Form::TypedField), expected, "{dtype}");
        assert_eq!(encoded(&tensor, Form::TensorContent), expected, "{dtype}");
    }
}

#[test]
fn equal_values_are_not_shortened() {
    let tensor = Tensor::zeros(DataType::Int32, &[100]).unwrap();
    let proto = typed_proto(&tensor);
    assert_eq!(proto.int_val.len(), 100);
    assert_eq!(encoded(&tensor, Form::TypedField), proto.encode_to_vec());
}

#[test]
fn bytes_that_are_no_booleans_are_sent_as_true() {
    let tensor = Tensor::from_bytes(DataType::Bool, &[3], Bytes::from_static(&[0, 1, 255]));
    let tensor = tensor.unwrap();
    assert_eq!(
        encoded(&tensor, Form::TypedField),
        typed_proto(&tensor).encode_to_vec()
    );
}
