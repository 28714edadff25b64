//! Signature maps and matching rules, on small graphs built here.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::net::{FLOAT, INT32, Net, answer, floats, floats_def};
use super::*;
use runtime::{Graph, GraphSource};

/// y = a - b: the answer shows which input is which.
fn difference() -> Net {
    Net::default()
        .input("p", FLOAT, &[-1])
        .input("q", FLOAT, &[-1])
        .node("Sub", &["p", "q"], "y")
        .output("y", FLOAT, &[-1])
}

#[test]
fn ambiguous_inputs_are_refused_with_a_map_to_fill_in() {
    let definition = floats_def(&[("a", "in_a:0"), ("b", "in_b:0")], &[("y", "out:0")]);
    let version = difference()
        .version()
        .original(&[("serving_default", definition)]);
    let refusal = version.refusal();
    for text in [
        "input \"a\" (float, originally \"in_a:0\"): several tensors match: \"p\", \"q\"",
        "graph input \"p\" (float[?])",
        "signature {\n  name: \"serving_default\"\n  graph: \"model.onnx\"\n",
        "  input { alias: \"a\" tensor: \"???\" }  # one of: \"p\", \"q\"\n",
        "  output { alias: \"y\" tensor: \"y\" }\n}\n",
    ] {
        assert!(refusal.contains(text), "{refusal}");
    }

    // The printed map, filled in, is valid.
    let map = refusal.split_once("filled in:\n").unwrap().1;
    let map = map.replacen("???", "q", 1).replacen("???", "p", 1);
    let version = version.map(&map);
    let (a, b) = (floats(&[1], &[5.0]), floats(&[1], &[3.0]));
    let outputs = answer(&version.load(), "", [("a", a), ("b", b)]);
    assert_eq!(outputs["y"], floats(&[1], &[-2.0]));
}

#[test]
fn missing_output_is_refused() {
    let definition = floats_def(&[("p", "p:0"), ("q", "q:0")], &[("y", "y:0"), ("z", "z:0")]);
    let version = difference()
        .version()
        .original(&[("serving_default", definition)]);
    let refusal = version.refusal();
    assert!(refusal.contains("output \"z\""), "{refusal}");
}

#[test]
fn unfed_graph_input_is_refused_or_constant() {
    let definition = floats_def(&[("p", "p:0")], &[("y", "y:0")]);
    let version = difference()
        .version()
        .original(&[("serving_default", definition)]);
    let refusal = version.refusal();
    assert!(
        refusal.contains("graph input \"q\" (float[?]) is needed"),
        "{refusal}"
    );

    let map = r#"signature { name: "serving_default"
        constant { tensor: "q" value { tensor_shape { dim { size: 1 } } float_val: 2 } } }"#;
    let servable = version.map(map).load();
    let outputs = answer(&servable, "", [("p", floats(&[1], &[5.0]))]);
    assert_eq!(outputs["y"], floats(&[1], &[3.0]));
}

#[test]
fn map_transposes_reshapes_and_casts() {
    let version = Net::default()
        .input("image", FLOAT, &[-1, 2, -1, 3])
        .node("Neg", &["image"], "neg")
        .output("neg", FLOAT, &[-1, 2, -1, 3])
        .version()
        .map(
            r#"signature { name: "serving_default"
            input { alias: "pixels" tensor: "image" dtype: DT_INT32 transpose: [0, 3, 1, 2] }
            output { alias: "flat" tensor: "neg" dtype: DT_DOUBLE reshape: [0, -1] } }"#,
        );
    let servable = version.load();
    let definition = &servable.definitions()["serving_default"];
    // The client's shape is the graph's before the transpose: [?, ?, 3, 2].
    let dims = definition.inputs["pixels"]
        .tensor_shape
        .as_ref()
        .unwrap()
        .dim
        .iter();
    assert_eq!(dims.map(|dim| dim.size).collect::<Vec<_>>(), [-1, -1, 3, 2]);
    assert_eq!(definition.inputs["pixels"].dtype, DataType::Int32.number());
    assert_eq!(definition.inputs.len(), 1);

    let pixels = Tensor::from_vec(&[1, 1, 3, 2], vec![1, 2, 3, 4, 5, 6]).unwrap();
    let outputs = answer(&servable, "", [("pixels", pixels)]);
    let expected = vec![-1.0f64, -3.0, -5.0, -2.0, -4.0, -6.0];
    assert_eq!(
        outputs["flat"],
        Tensor::from_vec(&[1, 6], expected).unwrap()
    );
    assert_eq!(outputs.len(), 1);
}

#[test]
fn map_default_makes_an_input_optional() {
    let version = difference().version().map(
        r#"signature { name: "serving_default" input { alias: "q" default { float_val: 1 } } }"#,
    );
    let servable = version.load();
    let outputs = answer(&servable, "", [("p", floats(&[1], &[5.0]))]);
    assert_eq!(outputs["y"], floats(&[1], &[4.0]));
    let (p, q) = (floats(&[1], &[5.0]), floats(&[1], &[2.0]));
    let outputs = answer(&servable, "", [("p", p), ("q", q)]);
    assert_eq!(outputs["y"], floats(&[1], &[3.0]));
}

#[test]
fn map_leaves_outputs_out_and_labels_others() {
    let net = difference()
        .node("Neg", &["y"], "z")
        .output("z", FLOAT, &[-1]);
    let version = net.version().map(
        r#"signature { name: "serving_default" method_name: "tensorflow/serving/classify"
           output { alias: "scores" tensor: "z" labels { label: "cat" label: "dog" } top_k: 1 } }"#,
    );
    let servable = version.load();
    let signature = servable.signature("").unwrap();
    assert_eq!(signature.method_name, "tensorflow/serving/classify");
    let [scores] = signature.outputs.as_slice() else {
        panic!("{:?}", signature.outputs);
    };
    let classes = scores.classes.as_ref().unwrap();
    assert_eq!(classes.labels, ["cat", "dog"]);
    assert_eq!(classes.top_k, 1);

    let map =
        r#"signature { name: "serving_default" output { alias: "z" labels { file: "l.txt" } } }"#;
    fs::write(version.path.join("l.txt"), "cat\r\ndog\n").unwrap();
    let version = version.map(map);
    let classes = version.load().signature("").unwrap().outputs[0]
        .classes
        .clone();
    assert_eq!(classes.unwrap().labels, ["cat", "dog"]);
}

#[test]
fn top_k_without_labels_is_refused() {
    let map = r#"signature { name: "serving_default" output { alias: "y" top_k: 2 } }"#;
    let refusal = difference().version().map(map).refusal();
    assert!(
        refusal.contains("output 'y': top_k needs labels"),
        "{refusal}"
    );
}

#[test]
fn single_example_parser_is_refused_by_name() {
    let net = Net::default()
        .input("serialized", 8, &[])
        .node("ParseSingleExample", &["serialized"], "x")
        .output("x", FLOAT, &[-1]);
    let error = load(&net.version().path).err().expect("it was loaded");
    assert_eq!(error.code(), Code::Unimplemented);
    assert!(error.to_string().contains("ParseSingleExample"), "{error}");
}

#[test]
fn map_in_the_metadata_replaces_derived_names() {
    let map = r#"signature { name: "sub"
        input { alias: "minuend" tensor: "p" } input { alias: "subtrahend" tensor: "q" }
        output { alias: "difference" tensor: "y" } }"#;
    let version = difference().metadata(map).version();
    let servable = version.load();
    let names: Vec<_> = servable.signatures().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["sub"]);
    let (p, q) = (floats(&[1], &[5.0]), floats(&[1], &[2.0]));
    let outputs = answer(&servable, "sub", [("minuend", p), ("subtrahend", q)]);
    assert_eq!(outputs["difference"], floats(&[1], &[3.0]));
    assert_eq!(outputs.len(), 1);

    // The file overrides the metadata.
    let map = r#"signature { name: "sub" output { alias: "difference" dtype: DT_INT32 } }"#;
    let servable = version.map(map).load();
    let definition = &servable.definitions()["sub"];
    assert_eq!(
        definition.outputs["difference"].dtype,
        DataType::Int32.number()
    );
}

#[test]
fn impossible_conversion_is_refused() {
    let map = r#"signature { name: "serving_default" input { alias: "p" dtype: DT_STRING } }"#;
    let refusal = difference().version().map(map).refusal();
    assert!(
        refusal.contains("'p' is string for clients and float in the graph"),
        "{refusal}"
    );
}

#[test]
fn map_of_unknown_tensors_is_refused() {
    let map = r#"signature { name: "serving_default" input { alias: "p" tensor: "r" } }"#;
    let refusal = difference().version().map(map).refusal();
    assert!(
        refusal.contains("the graph has no input 'r'; it has 'p', 'q'"),
        "{refusal}"
    );
}

#[test]
fn function_outputs_are_matched_by_number() {
    let net = Net::default()
        .input("serving_default_x:0", FLOAT, &[-1])
        .node("Neg", &["serving_default_x:0"], "Identity_1:0")
        .node("Abs", &["serving_default_x:0"], "Identity:0")
        .output("Identity_1:0", FLOAT, &[-1])
        .output("Identity:0", FLOAT, &[-1]);
    // Sorted by alias: big is the function's output 0, small its output 1.
    let definition = floats_def(
        &[("x", "in:0")],
        &[("small", "Call_7:1"), ("big", "Call_7:0")],
    );
    let version = net.version().original(&[("serving_default", definition)]);
    let outputs = answer(&version.load(), "", [("x", floats(&[1], &[-2.0]))]);
    assert_eq!(outputs["big"], floats(&[1], &[2.0]));
    assert_eq!(outputs["small"], floats(&[1], &[2.0]));
}

/// Long, because one graph takes features of every kind.
#[test]
fn features_of_every_kind_are_fed() {
    use proto::tensorflow::{
        BytesList, Example, Feature, Features, FloatList, Int64List, feature::Kind,
    };
    const INT64: i32 = 7;
    let net = Net::default()
        .input("x", FLOAT, &[-1, 2])
        .input("indices", INT64, &[-1, 2])
        .input("values", INT32, &[-1])
        .input("splits", INT64, &[-1])
        .node("Neg", &["x"], "neg")
        .node("Identity", &["indices"], "indices_out")
        .node("Neg", &["values"], "values_out")
        .node("Identity", &["splits"], "splits_out")
        .output("neg", FLOAT, &[-1, 2])
        .output("indices_out", INT64, &[-1, 2])
        .output("values_out", INT32, &[-1])
        .output("splits_out", INT64, &[-1]);
    let version = net.version().map(
        r#"signature { name: "serving_default" example_input { alias: "inputs"
             feature { key: "x" dtype: DT_FLOAT shape { dim { size: 2 } } tensor: "x"
                       default { float_val: 7 } }
             feature { key: "unused" dtype: DT_STRING shape {} }
             sparse_feature { key: "ids" dtype: DT_INT64 indices_tensor: "indices"
                              values_tensor: "values" }
             ragged_feature { key: "words" dtype: DT_STRING row_splits_tensor: "splits" } } }"#,
    );
    let servable = version.load();
    let feature = |kind: Kind| Feature { kind: Some(kind) };
    let bytes = |values: &[&'static str]| {
        let value = values
            .iter()
            .map(|it| Bytes::from_static(it.as_bytes()))
            .collect();
        feature(Kind::BytesList(BytesList { value }))
    };
    let example = |features: Vec<(&str, Feature)>| {
        let feature = features
            .into_iter()
            .map(|(key, it)| (key.to_owned(), it))
            .collect();
        let features = Some(Features { feature });
        Bytes::from(Example { features }.encode_to_vec())
    };
    let ids = feature(Kind::Int64List(Int64List { value: vec![4, 5] }));
    let x = feature(Kind::FloatList(FloatList {
        value: vec![1.0, 2.0],
    }));
    let first = example(vec![("x", x), ("ids", ids), ("unused", bytes(&["u"]))]);
    let second = example(vec![
        ("words", bytes(&["a", "b"])),
        ("unused", bytes(&["u"])),
    ]);
    let inputs = Tensor::from_strings(&[2], vec![first, second]).unwrap();
    let outputs = answer(&servable, "", [("inputs", inputs)]);
    assert_eq!(outputs["neg"], floats(&[2, 2], &[-1.0, -2.0, -7.0, -7.0]));
    let indices = Tensor::from_vec(&[2, 2], vec![0i64, 0, 0, 1]).unwrap();
    assert_eq!(outputs["indices_out"], indices);
    // The graph takes int32 and examples hold int64, so they are converted.
    assert_eq!(
        outputs["values_out"],
        Tensor::from_vec(&[2], vec![-4, -5]).unwrap()
    );
    assert_eq!(
        outputs["splits_out"],
        Tensor::from_vec(&[3], vec![0i64, 0, 2]).unwrap()
    );

    let missing = Tensor::from_strings(&[1], vec![example(vec![])]).unwrap();
    let inputs = BTreeMap::from([("inputs".to_owned(), RequestTensor::Valid(missing))]);
    let error = run(&servable, "", inputs).unwrap_err();
    assert!(error.to_string().contains("unused"), "{error}");
}

/// Counts the graphs that are loaded.
struct Counting(Arc<dyn Backend>, AtomicUsize);

impl Backend for Counting {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn version(&self) -> String {
        self.0.version()
    }

    fn advice(&self, error: &base::error::ServingError, producer: &str) -> Option<String> {
        self.0.advice(error, producer)
    }

    fn load(&self, source: GraphSource) -> Result<Arc<dyn Graph>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.load(source)
    }
}

#[test]
fn signatures_over_the_same_tensors_share_a_graph() {
    let net = difference()
        .node("Neg", &["p"], "z")
        .output("z", FLOAT, &[-1]);
    let both = floats_def(&[("p", "p:0"), ("q", "q:0")], &[("y", "y:0")]);
    let again = floats_def(&[("one", "p:0"), ("two", "q:0")], &[("result", "y:0")]);
    let other = floats_def(&[("p", "p:0")], &[("z", "z:0")]);
    let version = net
        .version()
        .original(&[("a", both), ("b", again), ("c", other)]);
    let counting = Arc::new(Counting(backend(), AtomicUsize::new(0)));
    let loader = loader(Arc::clone(&counting) as Arc<dyn Backend>);
    let servable = loader
        .load(&ServableId::new("m", 1), &version.path)
        .unwrap();
    assert_eq!(counting.1.load(Ordering::Relaxed), 2);
    // Pruned: q is not needed.
    let outputs = answer(&servable, "c", [("p", floats(&[1], &[5.0]))]);
    assert_eq!(outputs["z"], floats(&[1], &[-5.0]));
}

#[test]
fn other_ranks_are_loaded_when_they_come() {
    let net = Net::default()
        .input("x", FLOAT, &[-1, 3])
        .node("Neg", &["x"], "y")
        .output("y", FLOAT, &[2, 3]);
    let version = net.version();
    let counting = Arc::new(Counting(backend(), AtomicUsize::new(0)));
    let loader = loader(Arc::clone(&counting) as Arc<dyn Backend>);
    let servable = loader
        .load(&ServableId::new("m", 1), &version.path)
        .unwrap();
    let loads = || counting.1.load(Ordering::Relaxed);
    // Other sizes than the declared ones do not need a second graph; other ranks do.
    let outputs = answer(&servable, "", [("x", floats(&[1, 2], &[1.0, 2.0]))]);
    assert_eq!(outputs["y"], floats(&[1, 2], &[-1.0, -2.0]));
    assert_eq!(loads(), 1);
    for _ in 0..2 {
        let outputs = answer(&servable, "", [("x", floats(&[1], &[1.0]))]);
        assert_eq!(outputs["y"], floats(&[1], &[-1.0]));
        assert_eq!(loads(), 2);
    }
}

#[test]
fn ranks_that_an_operator_fixes_are_refused_without_a_second_graph() {
    let mut net = Net::default()
        .input("x", FLOAT, &[1, 2, 3])
        .node("Transpose", &["x"], "y")
        .output("y", FLOAT, &[3, 2, 1]);
    net.graph.node[0]
        .attribute
        .push(proto::onnx::AttributeProto {
            name: Some("perm".to_owned()),
            r#type: Some(7),
            ints: vec![2, 1, 0],
            ..Default::default()
        });
    let servable = net.version().load();
    let outputs = answer(&servable, "", [("x", floats(&[1, 1, 2], &[1.0, 2.0]))]);
    assert_eq!(outputs["y"], floats(&[2, 1, 1], &[1.0, 2.0]));
    let x = RequestTensor::Valid(floats(&[1], &[1.0]));
    let error = run(&servable, "", BTreeMap::from([("x".to_owned(), x)])).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
}
