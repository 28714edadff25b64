//! Serialized `tensorflow.Example`.

use bytes::Bytes;
use prost::Message;

use base::tensor::{DataType, Tensor};
use codec::example::{
    DeclaredFeatures, DenseFeature, ExampleSpec, ParsedExamples, RaggedFeature, SparseFeature,
};
use proto::tensorflow::{Example, feature};

/// Parses the bytes as one example and as two.
pub fn check(data: &[u8]) {
    let message = Bytes::copy_from_slice(data);
    let (dense, lists) = (dense_spec(), list_spec());
    for examples in [
        vec![message.clone()],
        vec![message.slice(..data.len() / 2), message.clone()],
    ] {
        for spec in [&dense, &lists] {
            if let Ok(parsed) = spec.parse(&examples) {
                check_sizes(&parsed, examples.len(), data.len());
            }
        }
    }
    check_canonical(&lists, data);
}

/// Fixed and padded features with and without defaults, of all kinds.
fn dense_spec() -> ExampleSpec {
    let dense = |key: &str, dtype, shape: &[Option<usize>], default| DenseFeature {
        key: key.to_owned(),
        dtype,
        shape: shape.to_vec(),
        default,
    };
    let sevens = Tensor::from_vec(&[2], vec![7i64, 7]);
    let features = vec![
        dense(
            "x",
            DataType::Float,
            &[],
            Tensor::from_vec(&[], vec![0.5f32]),
        ),
        dense("i", DataType::Int64, &[Some(2)], sevens),
        dense("s", DataType::String, &[None], None),
        dense("y", DataType::Float, &[None, Some(2)], None),
    ];
    let features = DeclaredFeatures {
        dense: features,
        ..DeclaredFeatures::default()
    };
    ExampleSpec::try_new(features).expect("a right specification")
}

/// Features with any number of values.
fn list_spec() -> ExampleSpec {
    let sparse = |key: &str, dtype| SparseFeature {
        key: key.to_owned(),
        dtype,
    };
    let ragged = RaggedFeature {
        key: "i".to_owned(),
        dtype: DataType::Int64,
        splits_dtype: DataType::Int32,
    };
    let sparse = vec![sparse("x", DataType::Float), sparse("s", DataType::String)];
    let features = DeclaredFeatures {
        sparse,
        ragged: vec![ragged],
        ..DeclaredFeatures::default()
    };
    ExampleSpec::try_new(features).expect("a right specification")
}

/// Shapes fit together, and apart from padding nothing is larger than the input.
fn check_sizes(parsed: &ParsedExamples, examples: usize, bytes: usize) {
    for tensor in &parsed.dense {
        assert_eq!(tensor.shape().first(), Some(&examples));
        assert!(
            tensor.len() <= (bytes + 2) * examples * 2,
            "too much padding"
        );
    }
    for sparse in &parsed.sparse {
        let count = sparse.values.len();
        assert_eq!(sparse.indices.shape(), [count, 2]);
        assert!(count <= bytes * examples, "more values than bytes");
    }
    for ragged in &parsed.ragged {
        assert_eq!(ragged.row_splits.shape(), [examples + 1]);
        let splits = ragged.row_splits.as_slice::<i32>();
        let last = splits.and_then(|it| it.last().copied());
        assert_eq!(
            last.and_then(|it| usize::try_from(it).ok()),
            Some(ragged.values.len())
        );
    }
}

/// An example in protobuf's canonical form has the same values as protobuf reads.
fn check_canonical(spec: &ExampleSpec, data: &[u8]) {
    let Ok(example) = Example::decode(data) else {
        return;
    };
    let Ok(parsed) = spec.parse(&[example.encode_to_vec().into()]) else {
        return;
    };
    let features = example.features.unwrap_or_default();
    let kind = |key: &str| features.feature.get(key).and_then(|it| it.kind.as_ref());
    let floats: &[f32] = match kind("x") {
        Some(feature::Kind::FloatList(list)) => &list.value,
        _ => &[],
    };
    let bits = |values: &[f32]| values.iter().map(|it| it.to_bits()).collect::<Vec<u32>>();
    let parsed_floats = parsed.sparse[0].values.as_slice::<f32>();
    assert_eq!(parsed_floats.map(bits), Some(bits(floats)));
    let strings: &[Bytes] = match kind("s") {
        Some(feature::Kind::BytesList(list)) => &list.value,
        _ => &[],
    };
    assert_eq!(parsed.sparse[1].values.strings(), Some(strings));
    let integers: &[i64] = match kind("i") {
        Some(feature::Kind::Int64List(list)) => &list.value,
        _ => &[],
    };
    assert_eq!(parsed.ragged[0].values.as_slice(), Some(integers));
}
