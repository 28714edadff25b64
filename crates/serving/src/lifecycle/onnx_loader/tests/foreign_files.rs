//! Errors for a directory whose files are not models: the format of the file, and advice.

use std::fs;

use super::net::FLOAT;
use super::refused_models::{node, refused};
use super::*;
use mapper::version_dir::{Shown, show};
use proto::onnx::{StringStringEntryProto, TensorProto};

/// A version directory with these files.
pub(super) fn version(files: &[(&str, &[u8])]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1");
    fs::create_dir(&path).unwrap();
    for (name, contents) in files {
        let file = path.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, contents).unwrap();
    }
    (folder, path)
}

#[track_caller]
pub(super) fn refusal(files: &[(&str, &[u8])]) -> String {
    let (_folder, path) = version(files);
    let error = load(&path).err().expect("it was loaded");
    error
        .to_string()
        .replace(&path.display().to_string(), "DIR")
}

#[track_caller]
pub(super) fn check_refusal(files: &[(&str, &[u8])], begin: &str, way_out: &str) {
    let text = refusal(files);
    assert!(text.starts_with(begin), "{text}");
    assert!(text.contains(way_out), "{text}");
    assert!(!text.contains("Operators of TensorFlow"), "{text}");
}

const LFS: &[u8] = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
const HTML: &[u8] = b"<!DOCTYPE html><html><body>Sign in</body></html>";
const HDF5: &[u8] = b"\x89HDF\r\n\x1a\n\0\0\0\0";
const KERAS: &[u8] = b"PK\x03\x04\x14\0\0\0metadata.jsonmodel.weights.h5";

#[test]
fn model_onnx_that_is_something_else_is_named() {
    let is = "DIR/model.onnx is not an ONNX model but ";
    for (contents, what, way_out) in [
        (LFS, "a Git LFS pointer", "`git lfs pull`"),
        (HTML, "an HTML page", "download it again"),
        (HDF5, "an HDF5 file", "`import_model.py keras FILE`"),
        (KERAS, "a Keras model", "docs/importing.md"),
        (
            b"\x1c\0\0\0TFL3....",
            "a TensorFlow Lite model",
            "tf2onnx.convert --tflite",
        ),
        (
            b"\x0a\x10\x0a\x01x\x12\x0bPlaceholder",
            "a frozen TensorFlow graph",
            "--graphdef",
        ),
        (
            b"PK\x03\x04 model/data.pkl",
            "a PyTorch file",
            "torch.onnx.export",
        ),
        (b"\x1f\x8b\x08\0\0\0", "a compressed file", "unpack that"),
        (b"", "an empty file", "copy it again"),
        (b"404: Not Found", "a text file", "download the model again"),
    ] as [(&[u8], &str, &str); 10]
    {
        check_refusal(&[("model.onnx", contents)], &format!("{is}{what}"), way_out);
    }
}

#[test]
fn model_that_is_cut_off_is_named() {
    let whole = fs::read(project().join("models/half_plus_two/1/model.onnx")).unwrap();
    let half = &whole[..whole.len() / 2];
    let begin = "DIR/model.onnx is not an ONNX model but the beginning of one";
    check_refusal(&[("model.onnx", half)], begin, "compare the sizes");
}

/// Long, because it has the beginnings of real files.
#[test]
fn files_of_other_libraries_are_named() {
    let is = |name: &str| format!("no ONNX model (*.onnx) in DIR: {name} is ");
    for (name, contents, what, way_out) in [
        (
            "m.keras",
            KERAS,
            "a Keras model",
            "`import_model.py keras FILE`",
        ),
        ("m.h5", HDF5, "an HDF5 file", "`import_model.py keras FILE`"),
        (
            "model.weights.h5",
            HDF5,
            "a file of Keras weights, without a graph",
            "model.load_weights",
        ),
        (
            "resnet50_weights_tf.h5",
            HDF5,
            "a file of Keras weights, without a graph",
            "model.load_weights",
        ),
        ("m.pt", b"", "an empty file", "copy it again"),
        (
            "m.pt",
            b"PK\x03\x04 m/data.pkl",
            "a PyTorch file",
            "`import_model.py torch`",
        ),
        (
            "m.pt2",
            b"PK\x03\x04 archive_format",
            "a PyTorch program",
            "`import_model.py torch FILE`",
        ),
        (
            "m.tflite",
            b"\x1c\0\0\0TFL3",
            "a TensorFlow Lite model",
            "--tflite FILE",
        ),
        (
            "m.tflite",
            b"?\0?",
            "a TensorFlow Lite model",
            "--tflite FILE",
        ),
        (
            "frozen.pb",
            b"\x0a\0\x12",
            "a frozen TensorFlow graph",
            "--graphdef",
        ),
        (
            "m.safetensors",
            b"?\0?",
            "a safetensors file",
            "torch.onnx.export",
        ),
        (
            "m.joblib",
            b"\x80\x04\x95\0\0\0\0\0\0\0\0",
            "a Python pickle",
            "skl2onnx",
        ),
        ("m.pth", LFS, "a Git LFS pointer", "`git lfs pull`"),
        (
            "model.ONNX",
            b"\x08\x08\x12\0:\0",
            "an ONNX model whose name",
            "Rename it to model.onnx",
        ),
        (
            "model",
            b"\x08\x08\x12\0:\0",
            "an ONNX model whose name",
            "Rename it to model.onnx",
        ),
        (
            "model.onnx.gz",
            b"\x1f\x8b\x08",
            "a compressed file",
            "unpack that",
        ),
        ("download", HTML, "an HTML page", "download it again"),
        ("m.engine", b"ftrt\0\0", "a TensorRT engine", "to ONNX"),
        (
            "model.onnx.data",
            b"\0\x01\x02",
            "the weights of an ONNX model",
            "*.onnx file",
        ),
    ] as [(&str, &[u8], &str, &str); 19]
    {
        check_refusal(&[(name, contents)], &format!("{}{what}", is(name)), way_out);
    }
}

/// The model is there, but a file that it needs is a pointer or an HTML page.
#[test]
fn other_files_that_are_pointers_are_named() {
    let model = fs::read(project().join("models/half_plus_two/1/model.onnx")).unwrap();
    for contents in [LFS, HTML] {
        let files = [("model.onnx", &*model), ("saved_model.pb", contents)];
        check_refusal(
            &files,
            "DIR/saved_model.pb is not a SavedModel but ",
            "again",
        );
        // The commands report the same error as the server.
        let (_folder, path) = version(&files);
        let said = load(&path).err().expect("it was loaded").to_string();
        let serve = ["serve".to_owned()];
        let report = check(backend(), &path, &serve);
        assert!(report.text.contains(&said), "{}", report.text);
        for shown in [Shown::TagSets, Shown::SignatureNames, Shown::All] {
            let error = show(&path, &serve, &shown).unwrap_err();
            assert_eq!(error.to_string(), said);
        }
        let files = [("model.onnx", &*model), ("signature_map.pbtxt", contents)];
        let begin = "DIR/signature_map.pbtxt is not the real file but ";
        check_refusal(&files, begin, "again");
        let begin = "no ONNX model (*.onnx) in DIR: saved_model.pb is ";
        check_refusal(&[("saved_model.pb", contents)], begin, "again");
    }
    let mut net = node("Neg", FLOAT).node("Add", &["y", "w"], "z");
    net = net.output("z", FLOAT, &[-1]);
    let entry = |key: &str, value: &str| StringStringEntryProto {
        key: Some(key.to_owned()),
        value: Some(value.to_owned()),
    };
    net.graph.initializer.push(TensorProto {
        name: Some("w".to_owned()),
        data_type: Some(FLOAT),
        dims: vec![1000],
        data_location: Some(1),
        external_data: vec![entry("location", "model.onnx.data")],
        ..TensorProto::default()
    });
    let version = net.version();
    fs::write(version.path.join("model.onnx.data"), LFS).unwrap();
    let text = refused(version);
    let part = "model.onnx.data is not the model's weights but a Git LFS pointer";
    assert!(text.contains(part), "{text}");
}

/// A file named like a SavedModel is identified by its contents, like a file of any other name.
#[test]
fn saved_model_that_is_something_else_is_named() {
    let model = fs::read(project().join("models/half_plus_two/1/model.onnx")).unwrap();
    for (contents, what, way_out) in [
        (&*model, "an ONNX model", "Rename it to model.onnx"),
        (
            b"\x0a\x10\x0a\x01x\x12\x0bPlaceholder",
            "a frozen TensorFlow graph",
            "--graphdef",
        ),
        (b"\x20\0\0\0TFL3....", "a TensorFlow Lite model", "--tflite"),
        (HDF5, "an HDF5 file", "`import_model.py keras FILE`"),
        (KERAS, "a Keras model", "`import_model.py keras FILE`"),
        (
            b"PK\x03\x04 m/data.pkl",
            "a PyTorch file",
            "torch.onnx.export",
        ),
        (b"\x80\x04\x95\0\0", "a Python pickle", "skl2onnx"),
    ] as [(&[u8], &str, &str); 7]
    {
        let begin = format!("no ONNX model (*.onnx) in DIR: saved_model.pb is {what}");
        check_refusal(&[("saved_model.pb", contents)], &begin, way_out);
        let files = [("model.onnx", &*model), ("saved_model.pb", contents)];
        let begin = format!("DIR/saved_model.pb is not a SavedModel but {what}");
        check_refusal(&files, &begin, "Remove it");
    }
}

#[test]
fn unfinished_downloads_are_not_to_be_renamed() {
    let model = fs::read(project().join("models/half_plus_two/1/model.onnx")).unwrap();
    for name in [
        "model.onnx.part",
        "model.onnx.tmp",
        "model.partial",
        "Unconfirmed 1.crdownload",
        "model.onnx.download",
    ] {
        for contents in [&*model, &model[..30], b""] {
            let text = refusal(&[(name, contents), ("model.onnx.data", b"\x01\x02")]);
            let begin = format!(
                "no ONNX model (*.onnx) in DIR: {name} is probably an unfinished download or copy. "
            );
            assert!(text.starts_with(&begin), "{text}");
            assert!(!text.contains("Rename it"), "{text}");
        }
    }
    // A complete file is more informative.
    let text = refusal(&[("a.tmp", b"\x01"), ("m.keras", KERAS)]);
    assert!(text.contains("m.keras is a Keras model"), "{text}");
}

#[test]
fn each_text_form_of_a_model_has_its_own_way() {
    for (contents, format) in [
        (
            "<ir_version: 8, opset_import: [\"\" : 17]>\ng () => () {}",
            "onnxtxt",
        ),
        ("ir_version: 8\ngraph {}", "textproto"),
        ("{\"irVersion\": \"8\", \"graph\": {}}", "json"),
    ] {
        let way_out = format!("onnx.load(FILE, format=\"{format}\")");
        let begin = "DIR/model.onnx is not an ONNX model but an ONNX model in ";
        check_refusal(&[("model.onnx", contents.as_bytes())], begin, &way_out);
    }
}

#[test]
fn archives_by_other_libraries_are_not_to_be_unpacked() {
    let zip = b"PK\x03\x04\x14\0\0\0\0\0schema.json";
    for (name, what) in [
        ("m.skops", "a scikit-learn model"),
        ("m.mojo", "an H2O MOJO"),
        ("m.dlc", "a Qualcomm DLC"),
    ] {
        let text = refusal(&[(name, zip)]);
        let begin = format!("no ONNX model (*.onnx) in DIR: {name} is {what}");
        assert!(
            text.starts_with(&begin) && !text.contains("npack"),
            "{text}"
        );
    }
}

#[test]
fn models_go_before_weights_and_contents_before_names() {
    let net = b"<?xml version=\"1.0\"?><net name=\"m\"><layers>";
    let is = |what: &str| format!("no ONNX model (*.onnx) in DIR: {what}");
    for (files, what) in [
        (
            &[("m.bin", b"\0\x01\x02" as &[u8]), ("m.xml", net)][..],
            "m.xml is an OpenVINO model",
        ),
        (&[("m.pt", b"404: Not Found")], "m.pt is a text file"),
        (
            &[("m.pth", b"\x80\x02}q\0X\x06\0\0\0")],
            "m.pth is a PyTorch file",
        ),
        (
            &[("m.mlmodel", b"\x08\x04\x12\0")],
            "m.mlmodel is a Core ML model",
        ),
        (
            &[
                ("m.ckpt.data-00000-of-00001", b"\0\x01"),
                ("m.ckpt.index", b"\0\x01"),
            ],
            "m.ckpt.data-00000-of-00001 is a TensorFlow checkpoint",
        ),
        (
            &[("m.mlpackage/Manifest.json", b"{}")],
            "m.mlpackage is a Core ML model",
        ),
    ] {
        check_refusal(files, &is(what), ". ");
    }
}
