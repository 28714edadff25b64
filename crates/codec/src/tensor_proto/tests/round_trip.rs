//! Random tensors, encoded in all ways that clients use, are the same after decoding.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use prost::{Message, encoding};

use super::{DTYPES, decode, decode_proto, message, typed_proto};
use crate::tensor_proto::{Encoder, Form};
use base::tensor::{DataType, Tensor};
use proto::tensorflow::TensorProto;

/// Any dtype, ranks 0 to 8, dims 0 to 3, any bits.
fn tensors() -> impl Strategy<Value = Tensor> {
    (select(&DTYPES[..]), vec(0usize..4, 0..=8)).prop_flat_map(|(dtype, shape)| {
        let count: usize = shape.iter().product();
        let size = dtype.size().unwrap_or(0);
        let strings = if size == 0 { count } else { 0 };
        (
            vec(any::<u8>(), count * size),
            vec(vec(any::<u8>(), 0..9), strings),
        )
            .prop_map(move |(mut bytes, strings)| {
                if dtype == DataType::Bool {
                    bytes.iter_mut().for_each(|byte| *byte &= 1);
                }
                let strings = strings.into_iter().map(Bytes::from).collect();
                match dtype {
                    DataType::String => Tensor::from_strings(&shape, strings),
                    _ => Tensor::from_bytes(dtype, &shape, bytes.into()),
                }
                .unwrap()
            })
    })
}

/// As `tf.make_tensor_proto` does (`tensor_util.py`): arrays of numbers of more than one element
/// go to `tensor_content`; scalars, strings, booleans and complex numbers to the typed field.
fn client_proto(tensor: &Tensor) -> TensorProto {
    use DataType::{Bool, Complex64, Complex128, String};
    let typed = typed_proto(tensor);
    if tensor.len() <= 1 || matches!(tensor.dtype(), Bool | Complex64 | Complex128 | String) {
        return typed;
    }
    let shape: Vec<i64> = tensor.shape().iter().map(|&dim| dim as i64).collect();
    TensorProto {
        tensor_content: tensor.bytes().unwrap().clone(),
        ..message(tensor.dtype(), &shape)
    }
}

/// The typed field without the values that the decoder repeats by itself, as
/// `base::tensor::CompressTensorProtoInPlace` leaves it.
fn without_repetition(mut proto: TensorProto) -> TensorProto {
    macro_rules! shorten {
        ($($field:ident)*) => {
            $(while let [.., a, b] = &proto.$field[..] && a == b {
                proto.$field.pop();
            })*
        };
    }
    shorten!(int_val half_val int64_val uint32_val uint64_val bool_val string_val);
    proto
}

/// One tag for each value, which proto2 clients are allowed to write.
fn unpacked(proto: &TensorProto) -> BytesMut {
    let header = TensorProto {
        dtype: proto.dtype,
        tensor_shape: proto.tensor_shape.clone(),
        ..TensorProto::default()
    };
    let mut bytes = BytesMut::from(&header.encode_to_vec()[..]);
    encoding::float::encode_repeated(5, &proto.float_val, &mut bytes);
    encoding::double::encode_repeated(6, &proto.double_val, &mut bytes);
    encoding::int32::encode_repeated(7, &proto.int_val, &mut bytes);
    encoding::bytes::encode_repeated(8, &proto.string_val, &mut bytes);
    encoding::float::encode_repeated(9, &proto.scomplex_val, &mut bytes);
    encoding::int64::encode_repeated(10, &proto.int64_val, &mut bytes);
    encoding::bool::encode_repeated(11, &proto.bool_val, &mut bytes);
    encoding::double::encode_repeated(12, &proto.dcomplex_val, &mut bytes);
    encoding::int32::encode_repeated(13, &proto.half_val, &mut bytes);
    encoding::uint32::encode_repeated(16, &proto.uint32_val, &mut bytes);
    encoding::uint64::encode_repeated(17, &proto.uint64_val, &mut bytes);
    bytes
}

fn response(tensor: &Tensor, form: Form) -> Vec<u8> {
    let mut bytes = Vec::new();
    Encoder::new(tensor, form).write(&mut bytes);
    bytes
}

proptest! {
    #[test]
    fn every_encoding_of_a_tensor_comes_back(tensor in tensors()) {
        let typed = typed_proto(&tensor);
        let some = Some(tensor.clone());
        prop_assert_eq!(&decode_proto(&client_proto(&tensor)), &some);
        prop_assert_eq!(&decode_proto(&typed), &some);
        prop_assert_eq!(&decode(unpacked(&typed)), &some);
        prop_assert_eq!(&decode_proto(&without_repetition(typed)), &some);
        prop_assert_eq!(&decode(response(&tensor, Form::TypedField)), &some);
        prop_assert_eq!(&decode(response(&tensor, Form::TensorContent)), &some);
    }

    #[test]
    fn responses_are_what_prost_writes(tensor in tensors()) {
        let expected = typed_proto(&tensor).encode_to_vec();
        prop_assert_eq!(response(&tensor, Form::TypedField), expected);
    }

    #[test]
    fn any_bytes_decode_or_are_refused(bytes in vec(any::<u8>(), 0..200)) {
        if let Some(tensor) = decode(bytes) {
            prop_assert!(tensor.len() <= crate::tensor_proto::MAX_EXPANSION);
        }
    }

    #[test]
    fn damaged_messages_decode_or_are_refused(
        tensor in tensors(),
        position in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = client_proto(&tensor).encode_to_vec();
        let position = position.index(bytes.len());
        bytes[position] = byte;
        let _ = decode(bytes);
    }
}
