//! `ParseExample` and `ParseExampleV2` as converters leave them in the file, with many sparse and ragged
//! features. The expected outputs follow from the documentation of `tf.io.parse_example`.

use super::*;
use proto::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TypeProto,
    ValueInfoProto, type_proto,
};
use proto::tensorflow::{Example, Feature, Features, FloatList, Int64List, feature::Kind};

const FLOAT: i32 = 1;
const INT64: i32 = 7;
const STRING: i32 = 8;

/// The number of features of each kind, and of examples.
const KEYS: usize = 40;
const EXAMPLES: usize = 500;

fn value(name: &str, elem_type: i32) -> ValueInfoProto {
    let tensor = type_proto::Tensor {
        elem_type: Some(elem_type),
        shape: None,
    };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}

fn strings(name: &str, dims: &[i64], values: Vec<String>) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims.to_vec(),
        data_type: Some(STRING),
        string_data: values.into_iter().map(Bytes::from).collect(),
        ..TensorProto::default()
    }
}

fn ints(name: &str, values: Vec<i64>) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(7),
        ints: values,
        ..AttributeProto::default()
    }
}

fn int(name: &str, value: usize) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(2),
        i: Some(value as i64),
        ..AttributeProto::default()
    }
}

fn keys(kind: char) -> Vec<String> {
    (0..KEYS).map(|key| format!("{kind}{key}")).collect()
}

fn with_suffix<'a>(keys: &'a [String], suffix: &'a str) -> impl Iterator<Item = String> + 'a {
    keys.iter().map(move |key| format!("{key}_{suffix}"))
}

/// A graph that returns the outputs of its parse node, each tensor under the name `out_<tensor>`. Long,
/// because it writes a whole model.
fn model(op_type: &str) -> ModelProto {
    let is_v2 = op_type == "ParseExampleV2";
    let (sparse, dense) = (keys('s'), keys('d'));
    let ragged = if is_v2 { keys('r') } else { Vec::new() };
    let mut node = NodeProto {
        name: Some("parse".to_owned()),
        op_type: Some(op_type.to_owned()),
        input: vec!["serialized".to_owned(), "names".to_owned()],
        attribute: vec![ints("sparse_types", vec![INT64.into(); KEYS])],
        ..NodeProto::default()
    };
    let mut initializer = vec![strings("names", &[0], Vec::new())];
    if is_v2 {
        for (name, keys) in [("sparse", &sparse), ("dense", &dense), ("ragged", &ragged)] {
            let name = format!("{name}_keys");
            initializer.push(strings(&name, &[KEYS as i64], keys.clone()));
            node.input.push(name);
        }
        let types = ints("ragged_value_types", vec![FLOAT.into(); KEYS]);
        node.attribute.push(types);
        let types = ints("ragged_split_types", vec![INT64.into(); KEYS]);
        node.attribute.push(types);
    } else {
        for key in sparse.iter().chain(&dense) {
            let name = format!("key_{key}");
            initializer.push(strings(&name, &[], vec![key.clone()]));
            node.input.push(name);
        }
        node.attribute
            .extend([int("Nsparse", KEYS), int("Ndense", KEYS)]);
    }
    initializer.push(TensorProto {
        name: Some("default".to_owned()),
        dims: vec![1],
        data_type: Some(FLOAT),
        float_data: vec![-1.0],
        ..TensorProto::default()
    });
    node.input.extend(vec!["default".to_owned(); KEYS]);

    let mut returned: Vec<(String, i32)> = Vec::new();
    returned.extend(with_suffix(&sparse, "indices").map(|name| (name, INT64)));
    returned.extend(with_suffix(&sparse, "values").map(|name| (name, INT64)));
    returned.extend(with_suffix(&sparse, "shape").map(|name| (name, INT64)));
    returned.extend(with_suffix(&dense, "dense").map(|name| (name, FLOAT)));
    returned.extend(with_suffix(&ragged, "ragged").map(|name| (name, FLOAT)));
    returned.extend(with_suffix(&ragged, "splits").map(|name| (name, INT64)));
    node.output = returned.iter().map(|(name, _)| name.clone()).collect();

    let mut nodes = vec![node];
    let mut output = Vec::new();
    for (name, elem_type) in returned {
        let out = format!("out_{name}");
        output.push(value(&out, elem_type));
        nodes.push(NodeProto {
            op_type: Some("Identity".to_owned()),
            input: vec![name],
            output: vec![out],
            ..NodeProto::default()
        });
    }
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto {
            version: Some(17),
            ..OperatorSetIdProto::default()
        }],
        graph: Some(GraphProto {
            name: Some("raw".to_owned()),
            node: nodes,
            initializer,
            input: vec![value("serialized", STRING)],
            output,
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    }
}

/// How many values the example has for the key.
fn sparse_count(example: usize, key: usize) -> usize {
    (example + key) % 4
}

fn ragged_count(example: usize, key: usize) -> usize {
    (example * key) % 3
}

fn sparse_value(example: usize, key: usize, place: usize) -> i64 {
    (example * 1000 + key * 10 + place) as i64
}

fn ragged_value(example: usize, place: usize) -> f32 {
    example as f32 + place as f32 / 8.0
}

/// Every second example has the dense features; the others take the default.
fn dense_value(example: usize, key: usize) -> f32 {
    if example.is_multiple_of(2) {
        key as f32
    } else {
        -1.0
    }
}

fn example(index: usize) -> Bytes {
    let mut feature = BTreeMap::new();
    let mut add = |key: String, kind: Kind| {
        feature.insert(key, Feature { kind: Some(kind) });
    };
    for key in 0..KEYS {
        let places = 0..sparse_count(index, key);
        let value = places
            .map(|place| sparse_value(index, key, place))
            .collect();
        add(format!("s{key}"), Kind::Int64List(Int64List { value }));
        let places = 0..ragged_count(index, key);
        let value = places.map(|place| ragged_value(index, place)).collect();
        add(format!("r{key}"), Kind::FloatList(FloatList { value }));
        if index.is_multiple_of(2) {
            let value = vec![dense_value(index, key)];
            add(format!("d{key}"), Kind::FloatList(FloatList { value }));
        }
    }
    let features = Some(Features { feature });
    Example { features }.encode_to_vec().into()
}

fn parsed(op_type: &str) -> BTreeMap<String, Tensor> {
    let folder = tempfile::tempdir().unwrap();
    let version = folder.path().join("1");
    std::fs::create_dir(&version).unwrap();
    std::fs::write(version.join("model.onnx"), model(op_type).encode_to_vec()).unwrap();
    let servable = load(&version).unwrap_or_else(|error| panic!("{error}"));
    let examples = (0..EXAMPLES).map(example).collect();
    let examples = Tensor::from_strings(&[EXAMPLES], examples).unwrap();
    let inputs = BTreeMap::from([("serialized".to_owned(), RequestTensor::Valid(examples))]);
    run(&servable, "", inputs).unwrap().into_iter().collect()
}

#[track_caller]
fn check_sparse_and_dense(outputs: &BTreeMap<String, Tensor>) {
    for key in 0..KEYS {
        let (mut indices, mut values) = (Vec::new(), Vec::new());
        for row in 0..EXAMPLES {
            for place in 0..sparse_count(row, key) {
                indices.extend([row as i64, place as i64]);
                values.push(sparse_value(row, key, place));
            }
        }
        let count = values.len();
        let expected = Tensor::from_vec(&[count, 2], indices).unwrap();
        assert_eq!(outputs[&format!("out_s{key}_indices")], expected);
        let expected = Tensor::from_vec(&[count], values).unwrap();
        assert_eq!(outputs[&format!("out_s{key}_values")], expected);
        let expected = Tensor::from_vec(&[2], vec![EXAMPLES as i64, 3]).unwrap();
        assert_eq!(outputs[&format!("out_s{key}_shape")], expected);
        let dense = (0..EXAMPLES).map(|row| dense_value(row, key)).collect();
        let expected = Tensor::from_vec(&[EXAMPLES, 1], dense).unwrap();
        assert_eq!(outputs[&format!("out_d{key}_dense")], expected);
    }
}

#[test]
fn raw_node_with_many_sparse_features_is_served() {
    check_sparse_and_dense(&parsed("ParseExample"));
}

#[test]
fn raw_v2_node_with_many_ragged_features_is_served() {
    let outputs = parsed("ParseExampleV2");
    check_sparse_and_dense(&outputs);
    for key in 0..KEYS {
        let (mut values, mut splits) = (Vec::new(), vec![0i64]);
        for row in 0..EXAMPLES {
            values.extend((0..ragged_count(row, key)).map(|place| ragged_value(row, place)));
            splits.push(values.len() as i64);
        }
        let expected = Tensor::from_vec(&[values.len()], values).unwrap();
        assert_eq!(outputs[&format!("out_r{key}_ragged")], expected);
        let expected = Tensor::from_vec(&[EXAMPLES + 1], splits).unwrap();
        assert_eq!(outputs[&format!("out_r{key}_splits")], expected);
    }
}

/// The node's outputs become inputs only when it is cut out: their names are not inputs of the file.
#[test]
fn dropped_examples_are_named_as_the_file_names_them() {
    let folder = tempfile::tempdir().unwrap();
    let version = folder.path().join("1");
    std::fs::create_dir(&version).unwrap();
    let file = model("ParseExampleV2").encode_to_vec();
    std::fs::write(version.join("model.onnx"), file).unwrap();
    let map = r#"signature { name: "serving_default" input { alias: "serialized" drop: true } }"#;
    std::fs::write(version.join("signature_map.pbtxt"), map).unwrap();
    let text = load(&version).err().expect("it was loaded").to_string();
    assert!(
        text.contains("parses its input \"serialized\" as tf.Example"),
        "{text}"
    );
    assert!(
        text.contains("the signature map drops 'serialized'"),
        "{text}"
    );
    assert!(
        !text.contains("no tensor") && !text.contains("s0_values"),
        "{text}"
    );
}
