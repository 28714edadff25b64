//! Round trips, and the agreement of the two readers.

use std::fmt::Write as _;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::{Inputs, decode_both};
use base::tensor::{DataType, Element, Tensor};
use codec::json::base64;

const INPUTS: Inputs<'_> = &[
    ("bool", DataType::Bool),
    ("double", DataType::Double),
    ("float", DataType::Float),
    ("int16", DataType::Int16),
    ("int32", DataType::Int32),
    ("int64", DataType::Int64),
    ("int8", DataType::Int8),
    ("string", DataType::String),
    ("uint32", DataType::UInt32),
    ("uint64", DataType::UInt64),
    ("uint8", DataType::UInt8),
];

/// One element as JSON; `salt` picks one of several forms.
fn element(tensor: &Tensor, index: usize, salt: u8) -> String {
    fn at<T: Element>(tensor: &Tensor, index: usize) -> T {
        tensor.as_slice::<T>().unwrap()[index]
    }
    match tensor.dtype() {
        DataType::Bool => (tensor.bytes().unwrap()[index] != 0).to_string(),
        DataType::Double => float(at(tensor, index), salt),
        // A double represents every float, so parsing its text gives the float back.
        DataType::Float => float(at::<f32>(tensor, index).into(), salt),
        DataType::Int16 => at::<i16>(tensor, index).to_string(),
        DataType::Int32 => at::<i32>(tensor, index).to_string(),
        DataType::Int64 => at::<i64>(tensor, index).to_string(),
        DataType::Int8 => at::<i8>(tensor, index).to_string(),
        DataType::UInt32 => at::<u32>(tensor, index).to_string(),
        DataType::UInt64 => at::<u64>(tensor, index).to_string(),
        DataType::UInt8 => at::<u8>(tensor, index).to_string(),
        _ => string(&tensor.strings().unwrap()[index], salt),
    }
}

fn float(value: f64, salt: u8) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        let long = if salt.is_multiple_of(2) { "inity" } else { "" };
        return format!("{}Inf{long}", if value < 0.0 { "-" } else { "" });
    }
    match salt % 3 {
        0 => format!("{value:e}"),
        1 => format!("{value:.17e}"),
        _ if value.abs() < 1e25 && value.abs() > 1e-25 => format!("{value:.45}"),
        _ => format!("{value:?}"),
    }
}

fn string(bytes: &Bytes, salt: u8) -> String {
    let mut out = Vec::new();
    match str::from_utf8(bytes) {
        Ok(text) if salt.is_multiple_of(2) => return serde_json::to_string(text).unwrap(),
        _ => base64::encode(bytes, &mut out),
    }
    format!(r#"{{"b64" : "{}"}}"#, String::from_utf8(out).unwrap())
}

/// Elements of a tensor, beginning with number `from`, in lists of shape `shape`.
fn nested(tensor: &Tensor, from: usize, shape: &[usize], salt: u8, out: &mut String) {
    let Some((&count, rest)) = shape.split_first() else {
        out.push_str(&element(tensor, from, salt.wrapping_add(from as u8)));
        return;
    };
    let size: usize = rest.iter().product();
    out.push('[');
    for part in 0..count {
        out.push_str(if part > 0 { "," } else { "" });
        out.push_str(if salt.is_multiple_of(4) { " " } else { "" });
        nested(tensor, from + part * size, rest, salt, out);
    }
    out.push(']');
}

fn tensor(dtype: DataType, shape: Vec<usize>) -> BoxedStrategy<Tensor> {
    fn of<T: Element>(
        shape: Vec<usize>,
        element: impl Strategy<Value = T> + 'static,
    ) -> BoxedStrategy<Tensor> {
        let count = shape.iter().product();
        let elements = vec(element, count..=count);
        elements
            .prop_map(move |all| Tensor::from_vec(&shape, all).unwrap())
            .boxed()
    }
    let count: usize = shape.iter().product();
    match dtype {
        DataType::Bool => vec(0..2u8, count..=count)
            .prop_map(move |all| Tensor::from_bytes(dtype, &shape, Bytes::from(all)).unwrap())
            .boxed(),
        DataType::Double => of(shape, any::<u64>().prop_map(canonical_f64)),
        DataType::Float => of(shape, any::<u32>().prop_map(canonical_f32)),
        DataType::Int16 => of(shape, any::<i16>()),
        DataType::Int32 => of(shape, any::<i32>()),
        DataType::Int64 => of(shape, any::<i64>()),
        DataType::Int8 => of(shape, any::<i8>()),
        DataType::UInt32 => of(shape, any::<u32>()),
        DataType::UInt64 => of(shape, any::<u64>()),
        DataType::UInt8 => of(shape, any::<u8>()),
        _ => {
            let text = any::<String>().prop_map(|text| Bytes::from(text.into_bytes()));
            let string = prop_oneof![vec(any::<u8>(), 0..20).prop_map(Bytes::from), text];
            vec(string, count..=count)
                .prop_map(move |all| Tensor::from_strings(&shape, all).unwrap())
                .boxed()
        }
    }
}

/// JSON has only one NaN.
fn canonical_f64(bits: u64) -> f64 {
    let value = f64::from_bits(bits);
    if value.is_nan() { f64::NAN } else { value }
}

fn canonical_f32(bits: u32) -> f32 {
    let value = f32::from_bits(bits);
    if value.is_nan() { f32::NAN } else { value }
}

fn any_tensor() -> impl Strategy<Value = (&'static str, Tensor)> {
    let shape = vec(prop_oneof![4 => 1..5usize, 1 => 0..2usize], 1..4);
    (select(INPUTS), shape).prop_flat_map(|((alias, dtype), mut shape)| {
        // An empty list contains no further lists.
        if let Some(empty) = shape.iter().position(|&size| size == 0) {
            shape.truncate(empty + 1);
        }
        tensor(dtype, shape).prop_map(move |tensor| (alias, tensor))
    })
}

/// Valid bodies: row and columnar, with and without names.
fn any_body() -> impl Strategy<Value = (&'static str, Tensor, String)> {
    (any_tensor(), any::<u8>(), 0..4).prop_map(|((alias, tensor), salt, form)| {
        let mut json = String::new();
        let shape = tensor.shape();
        if form == 3 && shape[0] > 0 {
            let size: usize = shape[1..].iter().product();
            json.push_str(r#"{"signature_name": "s", "instances": ["#);
            for row in 0..shape[0] {
                let comma = if row > 0 { ", " } else { "" };
                write!(json, r#"{comma}{{"{alias}": "#).unwrap();
                nested(&tensor, row * size, &shape[1..], salt, &mut json);
                json.push('}');
            }
            json.push_str("]}");
        } else {
            // An empty `instances` is an error.
            let key = if form == 0 && shape[0] > 0 {
                "instances"
            } else {
                "inputs"
            };
            let named = form == 1;
            write!(json, r#"{{"other":[1,{{}}],"{key}":"#).unwrap();
            if named {
                write!(json, r#"{{"{alias}":"#).unwrap();
            }
            nested(&tensor, 0, shape, salt, &mut json);
            json.push_str(if named { "}" } else { "" });
            json.push_str(r#","signature_name":""}"#);
        }
        (alias, tensor, json)
    })
}

fn input_of(alias: &str) -> Vec<(&'static str, DataType)> {
    let inputs = INPUTS.iter().copied();
    inputs.filter(|input| input.0 == alias).collect()
}

/// The fast reader gives up, or agrees with the exact one.
#[track_caller]
fn check_agreement(inputs: Inputs<'_>, body: &[u8]) {
    let (fast, exact) = decode_both(inputs, body);
    if let Some(fast) = fast {
        let shown = String::from_utf8_lossy(body);
        assert_eq!(
            fast,
            exact.unwrap_or_else(|error| panic!("{error}: {shown}")),
            "{shown}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn tensors_survive_the_way_through_json((alias, tensor, json) in any_body()) {
        let (fast, exact) = decode_both(&input_of(alias), json.as_bytes());
        let exact = exact.unwrap();
        prop_assert_eq!(&exact.inputs[alias], &tensor);
        prop_assert_eq!(fast, Some(exact));
    }

    #[test]
    fn readers_agree_on_broken_bodies(
        (alias, _, json) in any_body(),
        edits in vec((any::<Index>(), select(&b"[]{},:\"\\01.eE-+NaInfxb\x00 \n"[..]), 0..3), 1..4),
    ) {
        let mut body = json.into_bytes();
        for (place, byte, edit) in edits {
            let place = place.index(body.len());
            match edit {
                0 => body[place] = byte,
                1 => body.insert(place, byte),
                _ => {
                    body.remove(place);
                    if body.is_empty() {
                        break;
                    }
                }
            }
        }
        check_agreement(&input_of(alias), &body);
    }

    #[test]
    fn readers_agree_on_small_grammar(
        tokens in vec(select(&[
            "[", "]", "{", "}", ",", ":", "\"x\"", "\"y\"", "\"instances\"", "\"inputs\"",
            "\"signature_name\"", "\"b64\"", "1", "2.5", "-0", "NaN", "true", "null", "\"\"",
        ][..]), 0..24),
        several in any::<bool>(),
    ) {
        let body = format!("{{\"instances\":[{}", tokens.concat());
        let inputs: Inputs<'_> = &[("x", DataType::Float), ("y", DataType::String)];
        check_agreement(&inputs[..1 + usize::from(several)], body.as_bytes());
        check_agreement(&inputs[1..], body.as_bytes());
    }

    #[test]
    fn any_bytes_do_no_harm(body in vec(any::<u8>(), 0..200)) {
        check_agreement(super::X_FLOAT, &body);
        let _ = crate::tfs::json::decode_examples(&body);
    }
}
