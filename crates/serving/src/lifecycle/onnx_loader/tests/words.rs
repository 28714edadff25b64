//! Errors for a directory without an ONNX model, and for models that ONNX Runtime refuses: the reason, and
//! advice that fits it.

use std::fs;

use super::net::{FLOAT, Net, Version as NetVersion};
use super::*;
use mapper::version_dir::{Shown, show};
use proto::onnx::{AttributeProto, StringStringEntryProto, TensorProto};

const STRING: i32 = 8;

/// A version directory with these files.
fn version(files: &[(&str, &[u8])]) -> (tempfile::TempDir, PathBuf) {
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
fn refusal(files: &[(&str, &[u8])]) -> String {
    let (_folder, path) = version(files);
    let error = load(&path).err().expect("it was loaded");
    error
        .to_string()
        .replace(&path.display().to_string(), "DIR")
}

#[track_caller]
fn check_refusal(files: &[(&str, &[u8])], begin: &str, way_out: &str) {
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
    let text = words(version);
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

#[test]
fn directory_that_says_nothing_is_called_empty() {
    for files in [
        &[][..],
        &[("labels.txt", b"cat\ndog\n")],
        &[("README.md", b"# Hi")],
    ] as [&[(&str, &[u8])]; 3]
    {
        assert_eq!(refusal(files), "no ONNX model (*.onnx) in DIR");
    }
}

#[test]
fn model_in_a_folder_of_its_own_is_found() {
    check_refusal(
        &[("export/model.onnx", b"x")],
        "no ONNX model (*.onnx) in DIR: export/model.onnx lies a folder too deep",
        "Move what is in export up, into DIR",
    );
    check_refusal(
        &[("model.onnx/model.onnx", b"x")],
        "DIR/model.onnx: it is not a regular file but a directory",
        "The file itself",
    );
}

#[test]
fn folder_named_like_a_version_is_to_be_renamed() {
    for (folder, number) in [
        ("v1", "1"),
        ("1.0", "1"),
        ("Version_3", "3"),
        ("2024-01-31", "20240131"),
    ] {
        check_refusal(
            &[(&format!("{folder}/model.onnx"), b"x")],
            &format!(
                "no ONNX model (*.onnx) in DIR: it is a base path that holds {folder}/model.onnx"
            ),
            &format!("rename {folder}, and name that directory here: DIR/{number}"),
        );
    }
    for folder in ["vision", "r", "1a", "export.1"] {
        let text = refusal(&[(&format!("{folder}/model.onnx"), b"x")]);
        assert!(text.contains("lies a folder too deep"), "{text}");
    }
}

#[test]
fn base_path_names_its_versions() {
    let (folder, path) = version(&[("model.onnx", b"x")]);
    fs::create_dir(folder.path().join("12")).unwrap();
    let base = folder.path();
    let expected = format!(
        "it is a base path with the versions 1, 12. Name one of them: {}/12",
        base.display()
    );
    let serve = ["serve".to_owned()];
    let report = check(backend(), base, &serve);
    assert!(
        !report.passed && report.text.contains(&expected),
        "{}",
        report.text
    );
    for shown in [Shown::TagSets, Shown::SignatureNames, Shown::All] {
        let error = show(base, &serve, &shown).unwrap_err();
        assert!(error.to_string().contains(&expected), "{error}");
    }
    drop(path);
}

#[test]
fn tag_set_that_is_not_there_names_those_that_are() {
    let directory = project().join("tests/data/zoo/scalar/1");
    let foo = ["foo".to_owned()];
    let expected = "has no tag set 'foo'. It has 'serve'";
    for shown in [Shown::SignatureNames, Shown::All] {
        let error = show(&directory, &foo, &shown).unwrap_err();
        assert_eq!(error.code(), Code::NotFound);
        let text = error.to_string();
        assert!(
            text.ends_with(expected) && !text.contains("saved_model_cli"),
            "{text}"
        );
    }
    let report = check(backend(), &directory, &foo);
    assert!(report.text.contains(expected), "{}", report.text);
    assert!(!report.text.contains("saved_model_cli"), "{}", report.text);
}

/// Only `saved_model.pb` names tags.
#[test]
fn tag_set_without_a_saved_model_is_not_there() {
    let directory = project().join("models/half_plus_two/1");
    assert!(!directory.join("saved_model.pb").exists());
    for shown in [Shown::SignatureNames, Shown::All] {
        let error = show(&directory, &["foo".to_owned()], &shown).unwrap_err();
        assert_eq!(error.code(), Code::NotFound);
        let text = error.to_string();
        assert!(text.contains("no tag set 'foo'"), "{text}");
        assert!(show(&directory, &["serve".to_owned()], &shown).is_ok());
    }
    let report = check(backend(), &directory, &["foo".to_owned()]);
    assert!(
        !report.passed && report.text.contains("no tag set 'foo'"),
        "{}",
        report.text
    );
    assert!(check(backend(), &directory, &["serve".to_owned()]).passed);
}

/// One node, from a tensor to another of the same type.
fn node(op_type: &str, elem_type: i32) -> Net {
    Net::default()
        .input("x", elem_type, &[-1])
        .node(op_type, &["x"], "y")
        .output("y", elem_type, &[-1])
}

/// Lower case in a language; no machine has the locale `xx_YY`.
fn with_locale(locale: &str) -> Net {
    let mut net = node("StringNormalizer", STRING);
    let attribute = |name: &str, value: &str| AttributeProto {
        name: Some(name.to_owned()),
        // STRING
        r#type: Some(3),
        s: Some(value.to_owned().into()),
        ..AttributeProto::default()
    };
    net.graph.node[0].attribute = vec![
        attribute("case_change_action", "LOWER"),
        attribute("locale", locale),
    ];
    net
}

#[track_caller]
fn words(net: NetVersion) -> String {
    load(&net.path).err().expect("it was loaded").to_string()
}

#[test]
fn failed_load_ends_with_what_is_true_of_it() {
    const TENSORFLOW: &str = "Operators of TensorFlow that no ONNX runtime has must be replaced or \
                              moved out of the model before it is converted";
    let version = node("StaticRegexReplace", STRING).version();
    let file = version.path.join("model.onnx");
    let contents = fs::read(&file).unwrap();
    let mut model = proto::onnx::ModelProto::decode(contents.as_slice()).unwrap();
    model.producer_name = Some("tf2onnx".to_owned());
    fs::write(&file, model.encode_to_vec()).unwrap();
    let text = words(version);
    assert!(text.ends_with(TENSORFLOW), "{text}");
    let cases = [
        (with_locale("xx_YY").version(), "needs the locale xx_YY"),
        (
            node("RMSNormalization", FLOAT).version(),
            "came with opset 23",
        ),
        (
            node("Upsample", FLOAT).version(),
            "set its opset_import to 9",
        ),
        (
            node("StaticRegexReplace", STRING).version(),
            "ONNX has no operator StaticRegexReplace",
        ),
        (node("Scaler", FLOAT).version(), "an operator of ai.onnx.ml"),
        (node("relu", FLOAT).version(), "ai.onnx writes it Relu"),
        (node("ATen", FLOAT).version(), "operators of PyTorch"),
        (node("Affine", FLOAT).version(), "ONNX has removed"),
        // Refused because of an error in the model, which the reason names.
        (
            node("Not", FLOAT).version(),
            "parameter (x) of operator (Not)",
        ),
    ];
    for (version, part) in cases {
        let text = words(version);
        assert!(text.contains(part), "{text}");
        assert!(!text.contains("TensorFlow"), "{text}");
    }
}

#[test]
fn model_of_a_newer_format_names_the_newest_that_is_known() {
    for (opset, ir_version, domain, part) in [
        (
            999,
            8,
            "",
            "The model uses opset 999 of ai.onnx, this ONNX Runtime knows opsets up to ",
        ),
        (
            17,
            999,
            "",
            "The file's IR version 999 is newer than this ONNX Runtime",
        ),
        (17, 8, "ai.onnx.contrib", "onnxruntime-extensions"),
        (
            17,
            8,
            "com.example",
            "Operators of com.example come with a library",
        ),
    ] {
        let version = node("Identity", FLOAT).version();
        let file = version.path.join("model.onnx");
        let contents = fs::read(&file).unwrap();
        let mut model = proto::onnx::ModelProto::decode(contents.as_slice()).unwrap();
        model.ir_version = Some(ir_version);
        model.opset_import[0].version = Some(opset);
        if !domain.is_empty() {
            let mut import = model.opset_import[0].clone();
            (import.domain, import.version) = (Some(domain.to_owned()), Some(1));
            model.opset_import.push(import);
            let graph = model.graph.as_mut().unwrap();
            graph.node[0].domain = Some(domain.to_owned());
        }
        fs::write(&file, model.encode_to_vec()).unwrap();
        let text = words(version);
        assert!(text.contains(part), "{text}");
        assert!(!text.contains("TensorFlow"), "{text}");
    }
}
