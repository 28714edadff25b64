//! Which files of a version directory are read, and the errors for wrong ones.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

/// A base path with one version directory.
struct Version {
    base: tempfile::TempDir,
}

impl Version {
    fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("1")).unwrap();
        Self { base }
    }

    fn path(&self) -> PathBuf {
        self.base.path().join("1")
    }

    /// Copies a file of `tests/data/zoo`.
    fn with(self, from: &str, name: &str) -> Self {
        let from = project().join("tests/data/zoo").join(from);
        fs::copy(from, self.path().join(name)).unwrap();
        self
    }

    fn with_text(self, name: &str, text: &str) -> Self {
        fs::write(self.path().join(name), text).unwrap();
        self
    }

    #[track_caller]
    fn check_refused(&self, code: Code, texts: &[&str]) {
        let Err(error) = load(&self.path()) else {
            panic!("it was loaded");
        };
        assert_eq!(error.code(), code, "{error}");
        for text in texts {
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[track_caller]
    fn signature_names(&self) -> Vec<String> {
        let servable = load(&self.path()).unwrap_or_else(|error| panic!("{error}"));
        servable.signatures().map(|it| it.name.clone()).collect()
    }
}

const SCALAR: &str = "scalar/1/serving_default.onnx";
const REDUCE: &str = "scalar/1/reduce.onnx";

#[test]
fn saved_model_is_served_without_an_onnx_file() {
    let version = Version::new().with("gelu_exact/1/saved_model.pb", "saved_model.pb");
    assert_eq!(version.signature_names(), ["serving_default"]);
}

#[test]
fn saved_model_with_unsupported_operators_names_them_and_the_page() {
    let version = Version::new().with("image_b64/1/saved_model.pb", "saved_model.pb");
    let path = version.path().display().to_string();
    let operator = "signature 'serving_default' needs TensorFlow's ";
    let page = "see docs/importing.md#unsupported-operators";
    version.check_refused(
        Code::Unimplemented,
        &[&path, operator, "DecodePng (node ", page],
    );
}

#[test]
fn empty_directory_is_not_found() {
    Version::new().check_refused(Code::NotFound, &["no ONNX model"]);
}

#[test]
fn only_file_serves_its_own_names() {
    let version = Version::new().with(SCALAR, "anything.onnx");
    assert_eq!(version.signature_names(), ["serving_default"]);
}

#[test]
fn several_files_serve_one_signature_each() {
    let version = Version::new()
        .with(SCALAR, "sum.onnx")
        .with(REDUCE, "reduce.onnx");
    assert_eq!(version.signature_names(), ["reduce", "sum"]);
}

#[test]
fn model_onnx_hides_other_files() {
    let version = Version::new()
        .with(SCALAR, "model.onnx")
        .with(REDUCE, "x.onnx");
    assert_eq!(version.signature_names(), ["serving_default"]);
}

#[test]
fn other_tags_are_not_found() {
    let version = Version::new()
        .with("scalar/1/saved_model.pb", "saved_model.pb")
        .with(SCALAR, "model.onnx");
    let versions = OnnxLoader::new(backend()).with_saved_model_options(SavedModelOptions {
        tags: vec!["gpu".to_owned()],
        partial: false,
    });
    let loader = ServableLoader::new(versions, Arc::default());
    let error = loader
        .load(&ServableId::new("m", 1), &version.path())
        .err()
        .unwrap();
    assert_eq!(error.code(), Code::NotFound);
    let text = "Could not find meta graph def matching supplied tags: { gpu }";
    assert!(error.to_string().contains(text), "{error}");
}

// Found by fuzzing. ONNX Runtime: "Duplicate definition-site for (x)".
#[test]
fn two_inputs_of_one_name_are_refused() {
    let input = proto::onnx::ValueInfoProto {
        name: Some("x".to_owned()),
        ..Default::default()
    };
    let graph = proto::onnx::GraphProto {
        input: vec![input.clone(), input],
        ..Default::default()
    };
    let model = proto::onnx::ModelProto {
        graph: Some(graph),
        ..Default::default()
    };
    let version = Version::new();
    fs::write(version.path().join("model.onnx"), model.encode_to_vec()).unwrap();
    version.check_refused(Code::InvalidArgument, &["it has two inputs 'x'"]);
}

#[test]
fn damaged_files_are_named() {
    let version = Version::new().with_text("model.onnx", "no protobuf at all");
    version.check_refused(Code::InvalidArgument, &["model.onnx is not an ONNX model"]);
    let version = Version::new()
        .with(SCALAR, "model.onnx")
        .with_text("saved_model.pb", "no protobuf at all");
    version.check_refused(Code::OutOfRange, &["saved_model.pb is not a SavedModel"]);
    let version = Version::new()
        .with(SCALAR, "model.onnx")
        .with_text("signature_map.pbtxt", "signature { nme: \"x\" }");
    version.check_refused(Code::InvalidArgument, &["signature_map.pbtxt", "nme"]);
}

#[test]
fn links_inside_the_base_path_are_followed() {
    let version = Version::new();
    let data = version.base.path().join("..data");
    fs::create_dir(&data).unwrap();
    let from = project().join("tests/data/zoo").join(SCALAR);
    fs::copy(from, data.join("model.onnx")).unwrap();
    symlink("../..data/model.onnx", version.path().join("model.onnx")).unwrap();
    assert_eq!(version.signature_names(), ["serving_default"]);
}

#[test]
fn links_out_of_the_base_path_are_refused() {
    let version = Version::new();
    let target = project().join("tests/data/zoo").join(SCALAR);
    symlink(target, version.path().join("model.onnx")).unwrap();
    version.check_refused(Code::InvalidArgument, &["model.onnx", "leads out"]);
}

#[test]
fn maps_cannot_name_files_elsewhere() {
    for graph in ["../2/model.onnx", "/etc/passwd", "a/../../x.onnx", ""] {
        let map =
            format!("signature {{ name: \"s\" graph: \"{graph}\" output {{ alias: \"q\" }} }}");
        let version = Version::new()
            .with(SCALAR, "model.onnx")
            .with_text("signature_map.pbtxt", &map);
        version.check_refused(Code::InvalidArgument, &[]);
    }
}

#[test]
fn pipes_are_not_opened() {
    let version = Version::new();
    let pipe = version.path().join("model.onnx");
    let made = std::process::Command::new("mkfifo")
        .arg(&pipe)
        .status()
        .unwrap();
    assert!(made.success());
    version.check_refused(Code::InvalidArgument, &["not a regular file"]);
}

/// A model with one external weight; `location`, `offset`, `length` as given.
fn external(location: &str, offset: &str, length: &str) -> Vec<u8> {
    external_of(2, location, offset, length)
}

fn external_of(elements: usize, location: &str, offset: &str, length: &str) -> Vec<u8> {
    use proto::onnx::*;

    let entry = |key: &str, value: &str| StringStringEntryProto {
        key: Some(key.to_owned()),
        value: Some(value.to_owned()),
    };
    let value = |name: &str| ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(type_proto::Tensor {
                elem_type: Some(1),
                shape: None,
            })),
            ..Default::default()
        }),
        ..Default::default()
    };
    let weight = TensorProto {
        name: Some("w".to_owned()),
        dims: vec![elements as i64],
        data_type: Some(1),
        data_location: Some(1),
        external_data: vec![
            entry("location", location),
            entry("offset", offset),
            entry("length", length),
        ],
        ..Default::default()
    };
    let node = NodeProto {
        op_type: Some("Add".to_owned()),
        input: vec!["x".to_owned(), "w".to_owned()],
        output: vec!["y".to_owned()],
        ..Default::default()
    };
    let graph = GraphProto {
        name: Some("g".to_owned()),
        node: vec![node],
        initializer: vec![weight],
        input: vec![value("x")],
        output: vec![value("y")],
        ..Default::default()
    };
    let model = ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto {
            domain: None,
            version: Some(17),
        }],
        graph: Some(graph),
        ..Default::default()
    };
    model.encode_to_vec()
}

fn with_external(location: &str, offset: &str, length: &str) -> Version {
    let version = Version::new();
    fs::write(
        version.path().join("model.onnx"),
        external(location, offset, length),
    )
    .unwrap();
    let weights: Vec<u8> = [0.0f32, 1.0, 2.0]
        .iter()
        .flat_map(|it| it.to_le_bytes())
        .collect();
    fs::write(version.path().join("w.data"), &weights).unwrap();
    fs::write(version.base.path().join("secret.data"), &weights).unwrap();
    version
}

#[test]
fn external_data_is_read() {
    let version = with_external("w.data", "4", "8");
    let servable = load(&version.path()).unwrap_or_else(|error| panic!("{error}"));
    let x = Tensor::from_vec(&[2], vec![10.0f32, 20.0]).unwrap();
    let inputs = BTreeMap::from([("x".to_owned(), RequestTensor::Valid(x))]);
    let outputs = run(&servable, "", inputs).unwrap();
    let y = Tensor::from_vec(&[2], vec![11.0f32, 22.0]).unwrap();
    assert_eq!(outputs, [("y".to_owned(), y)]);
}

/// Like weights of models above 2 GiB, these never enter a protobuf, and they need not be aligned.
#[test]
fn large_external_data_is_read_from_any_place() {
    const ELEMENTS: usize = 100_000;
    for offset in [0usize, 2, 4096] {
        let version = Version::new();
        let length = (ELEMENTS * 4).to_string();
        let model = external_of(ELEMENTS, "w.data", &offset.to_string(), &length);
        fs::write(version.path().join("model.onnx"), model).unwrap();
        let mut weights = vec![0xff; offset];
        weights.extend((0..ELEMENTS).flat_map(|index| (index as f32).to_le_bytes()));
        fs::write(version.path().join("w.data"), weights).unwrap();
        let servable = load(&version.path()).unwrap_or_else(|error| panic!("{error}"));

        // The second run has another rank, and takes the weights from the second graph.
        for shape in [vec![1], vec![1, 1]] {
            let rank = shape.len();
            let x = Tensor::from_vec(&shape, vec![0.5f32]).unwrap();
            let inputs = BTreeMap::from([("x".to_owned(), RequestTensor::Valid(x))]);
            let outputs = run(&servable, "", inputs).unwrap();

            let sums = (0..ELEMENTS).map(|index| index as f32 + 0.5).collect();
            let shape = [1, ELEMENTS];
            let y = Tensor::from_vec(&shape[2 - rank..], sums).unwrap();
            assert_eq!(outputs, [("y".to_owned(), y)], "{offset}");
        }
    }
}

#[test]
fn external_data_stays_inside_the_version() {
    for location in ["../secret.data", "/etc/passwd", "a/../../secret.data", ""] {
        with_external(location, "0", "8").check_refused(Code::InvalidArgument, &[]);
    }
    let version = with_external("link.data", "0", "8");
    symlink("../secret.data", version.path().join("link.data")).unwrap();
    version.check_refused(Code::InvalidArgument, &["link.data", "leads out"]);
    with_external("missing.data", "0", "8").check_refused(Code::NotFound, &["missing.data"]);
}

#[test]
fn external_data_has_to_lie_in_its_file() {
    for (offset, length) in [
        ("8", "8"),
        ("100", "0"),
        ("0", "13"),
        ("-1", "8"),
        ("x", "8"),
    ] {
        with_external("w.data", offset, length).check_refused(Code::InvalidArgument, &["'w'"]);
    }
    let most = u64::MAX.to_string();
    with_external("w.data", &most, "8").check_refused(Code::InvalidArgument, &["'w'"]);
}

/// Nested graphs in which a recursive reader would overflow the stack.
#[test]
fn absurd_nesting_is_refused() {
    let mut graph = Vec::new();
    for _ in 0..200_000 {
        // GraphProto.node { attribute { g: graph } }
        for number in [6u8, 5, 1] {
            let mut outer = vec![number << 3 | 2];
            let mut length = graph.len();
            while length >= 0x80 {
                outer.push((length & 0x7f) as u8 | 0x80);
                length >>= 7;
            }
            outer.push(length as u8);
            // A header goes in front of its message, so all bytes are collected in reverse.
            outer.reverse();
            graph.extend(outer);
        }
        if graph.len() > 1 << 20 {
            break;
        }
    }
    graph.reverse();
    let mut model = vec![7 << 3 | 2];
    prost::encoding::encode_varint(graph.len() as u64, &mut model);
    model.extend(graph);
    let version = Version::new();
    fs::write(version.path().join("model.onnx"), model).unwrap();
    version.check_refused(Code::InvalidArgument, &["model.onnx is not an ONNX model"]);
}
