//! The meaning of a request's bytes, and which bytes are refused.

use bytes::{Bytes, BytesMut};
use prost::{Message, encoding};

use super::{DTYPES, decode, decode_proto, decode_with, message, shape_proto};
use crate::tensor_proto::{ExpansionBudget, MAX_EXPANSION};
use base::tensor::{DataType, Tensor};
use proto::tensorflow::TensorProto;

fn floats(shape: &[usize], values: &[f32]) -> Option<Tensor> {
    Tensor::from_vec(shape, values.to_vec())
}

fn with_floats(shape: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        float_val: values.to_vec(),
        ..message(DataType::Float, shape)
    }
}

fn with_content(dtype: DataType, shape: &[i64], content: &[u8]) -> TensorProto {
    TensorProto {
        tensor_content: Bytes::copy_from_slice(content),
        ..message(dtype, shape)
    }
}

#[test]
fn last_value_is_repeated_and_surplus_ignored() {
    for (sent, meant) in [
        (&[][..], [0.0, 0.0, 0.0]),
        (&[1.5], [1.5, 1.5, 1.5]),
        (&[1.5, 2.5], [1.5, 2.5, 2.5]),
        (&[1.5, 2.5, 3.5], [1.5, 2.5, 3.5]),
        (&[1.5, 2.5, 3.5, 4.5], [1.5, 2.5, 3.5]),
    ] {
        assert_eq!(
            decode_proto(&with_floats(&[3], sent)),
            floats(&[3], &meant),
            "{sent:?}"
        );
    }
}

#[test]
fn strings_are_repeated_and_cut_off_likewise() {
    for (sent, meant) in [
        (&[][..], [&b""[..], b""]),
        (&[&b"a\xff\0"[..]], [b"a\xff\0", b"a\xff\0"]),
        (&[b"a", b"b", b"c"], [b"a", b"b"]),
    ] {
        let proto = TensorProto {
            string_val: sent.iter().map(|it| Bytes::copy_from_slice(it)).collect(),
            ..message(DataType::String, &[2])
        };
        let meant = meant.map(Bytes::copy_from_slice).to_vec();
        assert_eq!(
            decode_proto(&proto),
            Tensor::from_strings(&[2], meant),
            "{sent:?}"
        );
    }
}

#[test]
fn shape_alone_means_zeros_of_every_dtype() {
    for dtype in DTYPES {
        let decoded = decode_proto(&message(dtype, &[2, 1]));
        assert_eq!(decoded, Tensor::zeros(dtype, &[2, 1]), "{dtype}");
    }
}

#[test]
fn no_shape_means_a_scalar() {
    let mut proto = with_floats(&[], &[2.0]);
    proto.tensor_shape = None;
    assert_eq!(decode_proto(&proto), floats(&[], &[2.0]));
}

#[test]
fn empty_shapes_ignore_their_values() {
    for dtype in DTYPES {
        let mut proto = with_content(dtype, &[2, 0], b"not even the right length");
        proto.float_val = vec![1.0];
        let decoded = decode_proto(&proto);
        assert_eq!(decoded, Tensor::zeros(dtype, &[2, 0]), "{dtype}");
    }
}

#[test]
fn values_in_another_dtypes_field_are_not_seen() {
    let mut proto = message(DataType::Int64, &[2]);
    proto.int_val = vec![5, 6];
    proto.float_val = vec![5.0];
    proto.string_val = vec![Bytes::from_static(b"5")];
    assert_eq!(decode_proto(&proto), Tensor::zeros(DataType::Int64, &[2]));
}

#[test]
fn int_val_is_truncated_to_the_width() {
    let decoded = |dtype| {
        let mut proto = message(dtype, &[3]);
        proto.int_val = vec![-1, 300, 65537];
        decode_proto(&proto).unwrap().bytes().unwrap().to_vec()
    };
    assert_eq!(decoded(DataType::UInt8), [255, 44, 1]);
    assert_eq!(decoded(DataType::Int8), [255, 44, 1]);
    assert_eq!(decoded(DataType::UInt16), [255, 255, 44, 1, 1, 0]);
    assert_eq!(
        decoded(DataType::Int32),
        [255, 255, 255, 255, 44, 1, 0, 0, 1, 0, 1, 0]
    );
}

#[test]
fn half_of_a_complex_number_does_not_count() {
    let mut proto = message(DataType::Complex64, &[2]);
    proto.scomplex_val = vec![1.0, 2.0, 3.0];
    let pair: Vec<u8> = [1f32, 2.0].iter().flat_map(|it| it.to_le_bytes()).collect();
    assert_eq!(
        decode_proto(&proto).unwrap().bytes().unwrap()[..],
        pair.repeat(2)[..]
    );
}

#[test]
fn unpacked_and_mixed_fields_are_read() {
    let mut bytes = BytesMut::from(&message(DataType::Float, &[4]).encode_to_vec()[..]);
    encoding::float::encode_repeated(5, &[1.0, 2.0], &mut bytes);
    encoding::float::encode_packed(5, &[3.0], &mut bytes);
    encoding::float::encode_repeated(5, &[4.0], &mut bytes);
    assert_eq!(decode(bytes), floats(&[4], &[1.0, 2.0, 3.0, 4.0]));

    let mut bytes = BytesMut::from(&message(DataType::Int64, &[3]).encode_to_vec()[..]);
    encoding::int64::encode_packed(10, &[-1], &mut bytes);
    encoding::int64::encode_repeated(10, &[i64::MIN, 7], &mut bytes);
    assert_eq!(decode(bytes), Tensor::from_vec(&[3], vec![-1, i64::MIN, 7]));

    let mut bytes = BytesMut::from(&message(DataType::Bool, &[3]).encode_to_vec()[..]);
    encoding::bool::encode_repeated(11, &[true, false], &mut bytes);
    // A two-byte varint, 128, within a packed field: true.
    bytes.extend_from_slice(&[11 << 3 | 2, 2, 0x80, 1]);
    let decoded = decode(bytes).unwrap();
    assert_eq!(decoded.bytes().unwrap()[..], [1, 0, 1]);
}

#[test]
fn values_of_another_wire_type_are_unknown_fields() {
    let mut bytes = BytesMut::from(&message(DataType::Double, &[2]).encode_to_vec()[..]);
    encoding::float::encode_repeated(6, &[1.0], &mut bytes);
    encoding::uint64::encode_repeated(6, &[1], &mut bytes);
    encoding::double::encode_repeated(6, &[2.5], &mut bytes);
    assert_eq!(decode(bytes), Tensor::from_vec(&[2], vec![2.5f64, 2.5]));
}

#[test]
fn packed_values_are_whole() {
    for (dtype, field) in [(DataType::Float, 5u8), (DataType::Double, 6)] {
        let mut bytes = message(dtype, &[1]).encode_to_vec();
        bytes.extend([field << 3 | 2, 3, 0, 0, 0]);
        assert_eq!(decode(bytes), None, "{dtype}");
    }
    let mut bytes = message(DataType::Int64, &[1]).encode_to_vec();
    bytes.extend([10 << 3 | 2, 1, 0x80]);
    assert_eq!(decode(bytes), None);
}

#[test]
fn tensor_content_wins_over_the_typed_field() {
    let mut proto = with_content(DataType::Float, &[1], &2.5f32.to_le_bytes());
    proto.float_val = vec![7.0];
    assert_eq!(decode_proto(&proto), floats(&[1], &[2.5]));
    // Empty content counts as none.
    proto.tensor_content = Bytes::new();
    assert_eq!(decode_proto(&proto), floats(&[1], &[7.0]));
}

#[test]
fn tensor_content_has_exactly_the_shapes_length() {
    for dtype in DTYPES {
        let Some(size) = dtype.size() else { continue };
        for len in [2 * size - 1, 2 * size, 2 * size + 1] {
            let decoded = decode_proto(&with_content(dtype, &[2], &vec![0; len]));
            assert_eq!(decoded.is_some(), len == 2 * size, "{dtype}, {len} bytes");
        }
    }
}

#[test]
fn tensor_content_is_shared_with_the_message() {
    let proto = with_content(DataType::UInt8, &[1000], &[7; 1000]);
    let bytes = Bytes::from(proto.encode_to_vec());
    let decoded = decode(bytes.clone()).unwrap();
    let start = decoded.bytes().unwrap().as_ptr() as usize;
    assert!((bytes.as_ptr() as usize..bytes.as_ptr() as usize + bytes.len()).contains(&start));
}

#[test]
fn tensor_content_of_booleans_becomes_zero_and_one() {
    let decoded = decode_proto(&with_content(DataType::Bool, &[4], &[0, 1, 2, 255])).unwrap();
    assert_eq!(decoded.bytes().unwrap()[..], [0, 1, 1, 1]);
}

#[test]
fn tensor_content_of_strings_is_lengths_then_bytes() {
    let decoded = decode_proto(&with_content(DataType::String, &[3], b"\x02\0\x01a\xffb"));
    let strings = [&b"a\xff"[..], b"", b"b"].map(Bytes::from_static).to_vec();
    assert_eq!(decoded, Tensor::from_strings(&[3], strings));
    for malformed in [
        &b"\x02\0"[..],                                        // two lengths of three
        b"\x02\0\x01a\xff",                                    // a byte short
        b"\x02\0\x01a\xffbc",                                  // a byte too many
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\0\x01aaaa", // a length beyond all memory
        b"\x80\x80\x80",                                       // a length without an end
    ] {
        let decoded = decode_proto(&with_content(DataType::String, &[3], malformed));
        assert_eq!(decoded, None, "{malformed:?}");
    }
}

#[test]
fn dtypes_without_tensors_are_refused() {
    // DT_INVALID, resource, variant, int4, float4, unknown, references (101..), negative.
    for number in [
        0,
        20,
        21,
        29,
        30,
        33,
        34,
        99,
        101,
        107,
        119,
        133,
        -1,
        i32::MAX,
    ] {
        let mut proto = with_floats(&[1], &[1.0]);
        proto.dtype = number;
        assert_eq!(decode_proto(&proto), None, "{number}");
        proto.tensor_shape = Some(shape_proto(&[0]));
        assert_eq!(decode_proto(&proto), None, "{number}, empty");
    }
}

#[test]
fn impossible_shapes_are_refused() {
    for shape in [
        &[-1][..],
        &[2, -1],
        &[i64::MIN],
        &[0, -1],
        &[1 << 62, 1 << 62],
        &[1 << 62, 1 << 62, 0],
        &[1 << 61],
        &[1 << 40],
        &[1; 255],
    ] {
        assert_eq!(
            decode_proto(&with_floats(shape, &[1.0])),
            None,
            "{:?}",
            &shape[..shape.len().min(3)]
        );
    }
}

/// Recorded: `grpc/035_predict_unknown_rank`.
#[test]
fn unknown_rank_means_the_dims_that_are_there() {
    let mut unknown = with_floats(&[], &[1.0]);
    unknown.tensor_shape.as_mut().unwrap().unknown_rank = true;
    assert_eq!(decode_proto(&unknown), floats(&[], &[1.0]));
}

#[test]
fn largest_rank_and_largest_empty_shape_are_fine() {
    let decoded = decode_proto(&with_floats(&[1; 254], &[1.0])).unwrap();
    assert_eq!(decoded.shape().len(), 254);
    // After the zero nothing is multiplied any more.
    let empty = decode_proto(&message(DataType::Float, &[0, 1 << 62, 1 << 62])).unwrap();
    assert!(empty.is_empty());
}

#[test]
fn expansion_ends_at_its_bound() {
    let elements = (MAX_EXPANSION / 4) as i64;
    assert!(decode_proto(&with_floats(&[elements], &[1.0])).is_some());
    assert_eq!(decode_proto(&with_floats(&[elements + 1], &[1.0])), None);
    let strings = (MAX_EXPANSION / size_of::<Bytes>()) as i64;
    assert_eq!(
        decode_proto(&message(DataType::String, &[strings + 1])),
        None
    );
}

#[test]
fn expansions_of_one_request_share_the_bound() {
    let mut budget = ExpansionBudget::default();
    let half: Bytes = with_floats(&[MAX_EXPANSION as i64 / 8], &[1.0])
        .encode_to_vec()
        .into();
    assert!(decode_with(&half, &mut budget).is_some());
    assert!(decode_with(&half, &mut budget).is_some());
    assert!(decode_with(&half, &mut budget).is_none());
    // A tensor sent with all of its values is not limited.
    let whole: Bytes = with_floats(&[3], &[1.0, 2.0, 3.0]).encode_to_vec().into();
    assert!(decode_with(&whole, &mut budget).is_some());
}

#[test]
fn parts_of_a_message_are_merged() {
    let mut bytes = message(DataType::Double, &[2]).encode_to_vec();
    bytes.extend(with_floats(&[3], &[1.0]).encode_to_vec());
    // The later dtype counts, dims are appended.
    assert_eq!(decode(bytes), floats(&[2, 3], &[1.0; 6]));
}

#[test]
fn truncated_messages_never_decode_to_more_than_was_sent() {
    let good = with_floats(&[3], &[1.0, 2.0, 3.0]).encode_to_vec();
    for len in 0..good.len() {
        if let Some(tensor) = decode(good[..len].to_vec()) {
            assert!(tensor.bytes().unwrap().iter().all(|&byte| byte == 0));
        }
    }
}
