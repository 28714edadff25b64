//! Compares with the results that TensorFlow's own operation gave for the same bytes
//! (`tests/data/examples/make_cases.py`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use base::error::Code;
use base::tensor::Tensor;

fn declare(
    dense: Vec<DenseFeature>,
    sparse: Vec<SparseFeature>,
    ragged: Vec<RaggedFeature>,
) -> Result<ExampleSpec> {
    ExampleSpec::try_new(DeclaredFeatures {
        dense,
        sparse,
        ragged,
    })
}

#[test]
fn parse_agrees_with_the_original_operation() {
    let cases = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/data/examples/cases.json"
    ));
    let cases: Value = serde_json::from_str(cases).unwrap();
    for case in list(&cases["cases"]) {
        let spec = spec(&cases["specs"][text(&case["spec"])]);
        let examples: Vec<Bytes> = list(&case["examples"]).iter().map(bytes).collect();
        let name = text(&case["name"]);
        check(name, spec.parse(&examples), &case["expect"]);
        if let (Some(expect), [example]) = (case.get("scalar"), examples.as_slice()) {
            check(name, spec.parse_scalar(example), expect);
        }
    }
}

#[track_caller]
fn check(name: &str, parsed: Result<ParsedExamples>, expect: &Value) {
    match (parsed, expect.get("error")) {
        (Ok(parsed), None) => assert_eq!(parsed, expected(expect), "{name}"),
        (Err(error), Some(expected)) => {
            assert_eq!(error.code(), Code::InvalidArgument, "{name}");
            let actual = error.to_string();
            // The recording leaves out the bytes that this text quotes.
            let actual = actual.split(", value: '").next().unwrap();
            assert_eq!(actual, text(expected), "{name}");
        }
        (parsed, expected) => panic!("{name}: {parsed:?}, not {expected:?}"),
    }
}

#[test]
fn string_values_share_the_request_memory() {
    let example = Bytes::from_static(b"\x0a\x0f\x0a\x0d\x0a\x01x\x12\x08\x0a\x06\x0a\x04data");
    let parsed = strings(&[]).parse(std::slice::from_ref(&example)).unwrap();
    let value = &parsed.dense[0].strings().unwrap()[0];
    assert_eq!(value, "data");
    assert!(example.as_ptr_range().contains(&value.as_ptr()));
}

#[test]
fn map_entry_without_value_is_missing() {
    // Some encoders leave out empty map values; protobuf reads them as empty.
    let error = strings(&[]).parse(&[Bytes::from_static(b"\x0a\x05\x0a\x03\x0a\x01x")]);
    assert_eq!(
        error.unwrap_err().to_string(),
        "Name: <unknown>, Feature: x (data type: string) is required but could not be found."
    );
}

#[test]
fn malformed_example_is_quoted_in_part() {
    let error = strings(&[]).parse(&[Bytes::from(vec![b'\xff'; 1 << 20])]);
    let text = error.unwrap_err().to_string();
    assert!(text.starts_with("Could not parse example input, value: '\u{fffd}"));
    assert!(text.len() < 4096);
}

#[test]
fn padding_beyond_all_requests_is_refused() {
    // One example of 50 values, and two million empty ones.
    let value = delimited(1, &b"\x0a\x00".repeat(50));
    let entry = [delimited(1, b"x"), delimited(2, &value)].concat();
    let mut examples = vec![Bytes::new(); 1 << 21];
    examples[0] = delimited(1, &delimited(1, &entry)).into();
    let parsed = strings(&[None]).parse(&examples[..3]).unwrap();
    assert_eq!(parsed.bytes(), 3 * 50 * size_of::<Bytes>());
    let error = strings(&[None]).parse(&examples).unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert_eq!(
        error.to_string(),
        "OOM when allocating tensor with shape[2097152,50] and type string"
    );
}

#[test]
fn specification_refuses_what_cannot_be_read() {
    let feature = |dtype, shape: &[Option<usize>], default| DenseFeature {
        key: "x".to_owned(),
        dtype,
        shape: shape.to_vec(),
        default,
    };
    let floats = |shape: &[usize]| Tensor::zeros(DataType::Float, shape);
    let refused = [
        feature(DataType::Int32, &[Some(1)], None),
        feature(DataType::Float, &[Some(1), None], None),
        feature(DataType::Float, &[Some(usize::MAX), Some(2)], None),
        feature(DataType::Float, &[None, Some(0)], None),
        feature(DataType::Float, &[Some(2)], floats(&[3])),
        feature(DataType::Float, &[None], floats(&[2])),
        feature(DataType::Int64, &[Some(1)], floats(&[1])),
    ];
    for feature in refused {
        let error = declare(vec![feature], vec![], vec![]).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
    }

    let sparse = SparseFeature {
        key: "x".to_owned(),
        dtype: DataType::Float,
    };
    let twice = vec![sparse.clone(), sparse];
    assert!(declare(vec![], twice, vec![]).is_err());
    let splits = RaggedFeature {
        key: "x".to_owned(),
        dtype: DataType::Float,
        splits_dtype: DataType::Float,
    };
    assert!(declare(vec![], vec![], vec![splits]).is_err());
}

proptest! {
    #[test]
    fn parse_survives_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = everything().parse(&[bytes.into()]);
    }

    #[test]
    fn parse_survives_damage(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut example = WHOLE.to_vec();
        for (index, byte) in damage {
            example[index.index(WHOLE.len())] = byte;
        }
        let cut = cut.index(2 * WHOLE.len());
        example.truncate(cut.max(1));
        let _ = everything().parse(&[example.clone().into(), example.into()]);
    }
}

/// x: float 1.0, i: int64 300, s: "ab"; all lengths are right.
const WHOLE: &[u8] = b"\x0a\x2d\
    \x0a\x0d\x0a\x01x\x12\x08\x12\x06\x0a\x04\x00\x00\x80\x3f\
    \x0a\x0b\x0a\x01i\x12\x06\x1a\x04\x0a\x02\xac\x02\
    \x0a\x0d\x0a\x01s\x12\x08\x0a\x06\x0a\x02ab\x0a\x00";

/// A field of the wire format; `payload` has less than 128 bytes.
fn delimited(field: u8, payload: &[u8]) -> Vec<u8> {
    let header = [field << 3 | 2, u8::try_from(payload.len()).unwrap()];
    assert!(payload.len() < 128);
    [&header, payload].concat()
}

/// One feature of every layout.
fn everything() -> ExampleSpec {
    let dense = DenseFeature {
        key: "x".to_owned(),
        dtype: DataType::Float,
        shape: vec![None],
        default: None,
    };
    let sparse = SparseFeature {
        key: "i".to_owned(),
        dtype: DataType::Int64,
    };
    let ragged = RaggedFeature {
        key: "s".to_owned(),
        dtype: DataType::String,
        splits_dtype: DataType::Int32,
    };
    declare(vec![dense], vec![sparse], vec![ragged]).unwrap()
}

/// One required string feature `x`.
fn strings(shape: &[Option<usize>]) -> ExampleSpec {
    let feature = DenseFeature {
        key: "x".to_owned(),
        dtype: DataType::String,
        shape: shape.to_vec(),
        default: None,
    };
    declare(vec![feature], vec![], vec![]).unwrap()
}

fn spec(json: &Value) -> ExampleSpec {
    let key = |it: &Value| text(&it["key"]).to_owned();
    let dense = list(&json["dense"]).iter().map(|it| {
        let dtype = dtype(&it["dtype"]);
        let dim = |it: &Value| it.as_u64().map(|it| it as usize);
        let shape: Vec<_> = list(&it["shape"]).iter().map(dim).collect();
        let default = it["default"]
            .as_array()
            .map(|values| elements(dtype, &[values.len()], values));
        DenseFeature {
            key: key(it),
            dtype,
            shape,
            default,
        }
    });
    let sparse = list(&json["sparse"]).iter().map(|it| SparseFeature {
        key: key(it),
        dtype: dtype(&it["dtype"]),
    });
    let ragged = list(&json["ragged"]).iter().map(|it| RaggedFeature {
        key: key(it),
        dtype: dtype(&it["dtype"]),
        splits_dtype: dtype(&it["splits_dtype"]),
    });
    declare(dense.collect(), sparse.collect(), ragged.collect()).unwrap()
}

fn expected(json: &Value) -> ParsedExamples {
    let sparse = |it: &Value| SparseTensor {
        indices: tensor(&it["indices"]),
        values: tensor(&it["values"]),
        dense_shape: tensor(&it["dense_shape"]),
    };
    let ragged = |it: &Value| RaggedTensor {
        values: tensor(&it["values"]),
        row_splits: tensor(&it["row_splits"]),
    };
    ParsedExamples {
        dense: list(&json["dense"]).iter().map(tensor).collect(),
        sparse: list(&json["sparse"]).iter().map(sparse).collect(),
        ragged: list(&json["ragged"]).iter().map(ragged).collect(),
    }
}

fn tensor(json: &Value) -> Tensor {
    let shape: Vec<usize> = list(&json["shape"])
        .iter()
        .map(|it| it.as_u64().unwrap() as usize)
        .collect();
    elements(dtype(&json["dtype"]), &shape, list(&json["values"]))
}

fn elements(dtype: DataType, shape: &[usize], values: &[Value]) -> Tensor {
    let float = |it: &Value| it.as_f64().unwrap() as f32;
    let int = |it: &Value| it.as_i64().unwrap();
    match dtype {
        DataType::Float => Tensor::from_vec(shape, values.iter().map(float).collect()),
        DataType::Int64 => Tensor::from_vec(shape, values.iter().map(int).collect()),
        DataType::Int32 => {
            Tensor::from_vec(shape, values.iter().map(|it| int(it) as i32).collect())
        }
        _ => Tensor::from_strings(shape, values.iter().map(bytes).collect()),
    }
    .unwrap()
}

/// NumPy and TensorFlow spell two of these differently.
fn dtype(json: &Value) -> DataType {
    match text(json) {
        "float" | "float32" => DataType::Float,
        "int64" => DataType::Int64,
        "int32" => DataType::Int32,
        "string" => DataType::String,
        other => panic!("no dtype {other}"),
    }
}

fn bytes(json: &Value) -> Bytes {
    STANDARD.decode(text(json)).unwrap().into()
}

fn list(json: &Value) -> &[Value] {
    json.as_array().unwrap()
}

fn text(json: &Value) -> &str {
    json.as_str().unwrap()
}
