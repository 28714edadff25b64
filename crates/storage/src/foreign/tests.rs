//! First bytes of files as the libraries themselves write them.

use super::*;

/// Magic bytes, then arbitrary ones.
fn begins(magic: &[u8]) -> Vec<u8> {
    let mut bytes = magic.to_vec();
    bytes.extend_from_slice(&[7, 0, 200, 1, 0, 9, 250, 3]);
    bytes.resize(2000, 0x91);
    bytes
}

#[track_caller]
fn check(bytes: &[u8], expected: Foreign) {
    let found = of_contents(&Sample::of(bytes));
    assert_eq!(found, Some(expected), "{:?}", &bytes[..bytes.len().min(40)]);
}

/// Long, because it has the beginnings of real files.
#[test]
fn pointers_and_failed_downloads_are_named() {
    let lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\
               \nsize 12345\n";
    check(lfs.as_bytes(), Foreign::GitLfsPointer);
    check(
        b"/annex/objects/SHA256E-s5--abc.onnx\n",
        Foreign::GitAnnexPointer,
    );
    for page in [
        "<!DOCTYPE html>\n<html lang=\"en\">",
        "\n  <html><body>Sign in</body></html>",
        "\u{feff}<!doctype HTML>",
        "<?xml version=\"1.0\"?><!DOCTYPE html PUBLIC \"-//W3C//DTD\"><html>",
        "<!-- x --><head><title>404</title>",
    ] {
        check(page.as_bytes(), Foreign::Html);
    }
    for page in [
        "<script>location = 'x'</script>",
        "\n<body>Sign in</body>",
        "<meta http-equiv=\"refresh\" content=\"0\">",
        "<h1>502 Bad Gateway</h1>",
    ] {
        check(page.as_bytes(), Foreign::Html);
    }
    for page in ["<!DOCTYPE html><html></html>", "<html>é</html>"] {
        let units: Vec<u16> = page.encode_utf16().collect();
        let little: Vec<u8> = units.iter().flat_map(|it| it.to_le_bytes()).collect();
        let big: Vec<u8> = units.iter().flat_map(|it| it.to_be_bytes()).collect();
        check(&little, Foreign::Html);
        check(&big, Foreign::Html);
        check(&[b"\xff\xfe", &*little].concat(), Foreign::Html);
        check(&[b"\xfe\xff", &*big].concat(), Foreign::Html);
    }
    // As a Latin-1 page begins.
    check(b"<html><title>Acc\xe8s refus\xe9</title>", Foreign::Html);
    for pointer in [
        format!("\u{feff}{lfs}"),
        lfs.replace("https:", "http:"),
        lfs.replace("git-lfs.", "hawser."),
        format!("# a comment\n{lfs}"),
        lfs.replace('\n', "\r\n"),
    ] {
        check(pointer.as_bytes(), Foreign::GitLfsPointer);
        let units = pointer
            .trim_start_matches('\u{feff}')
            .encode_utf16()
            .flat_map(u16::to_le_bytes);
        let marked: Vec<u8> = [0xff, 0xfe].into_iter().chain(units).collect();
        check(&marked, Foreign::GitLfsPointer);
    }
    check(
        b"../.git/annex/objects/xx/yy/SHA256E-s5--abc.onnx\n",
        Foreign::GitAnnexPointer,
    );
    let denied = "<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code></Error>";
    check(denied.as_bytes(), Foreign::Xml);
    check(b"{\"error\": \"Repository not found\"}", Foreign::Json);
    check(b"Not Found", Foreign::Text);
    check(b"", Foreign::Empty);
    check(&[0; 100_000], Foreign::Zeros);
}

/// Long, because it has a line for each kind.
#[test]
fn models_of_other_libraries_are_named() {
    check(&begins(b"\x89HDF\r\n\x1a\n"), Foreign::Hdf5);
    check(&begins(b"\x1c\0\0\0TFL3"), Foreign::TfLite);
    check(&begins(b"\x24\0\0\0ORTM"), Foreign::OrtFormat);
    check(&begins(b"ftrt"), Foreign::TensorRt);
    check(&begins(b"GGUF"), Foreign::Gguf);
    check(&begins(b"CBM1"), Foreign::CatBoost);
    check(&begins(b"\x93NUMPY"), Foreign::NumPy);
    // pickle.dumps(object of a class, protocol=4), torch.save of PyTorch 1.5, protocol 2.
    check(
        &begins(b"\x80\x04\x95\x1f\0\0\0\0\0\0\0\x8c\x07sklearn"),
        Foreign::Pickle,
    );
    check(
        &begins(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."),
        Foreign::Torch,
    );
    let header =
        b"{\"__metadata__\":{},\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}";
    let mut safetensors = (header.len() as u64).to_le_bytes().to_vec();
    safetensors.extend_from_slice(header);
    safetensors.extend_from_slice(&[0, 0, 128, 63]);
    check(&safetensors, Foreign::Safetensors);
    let net = "<?xml version=\"1.0\"?><net name=\"m\" version=\"11\"><layers>";
    check(net.as_bytes(), Foreign::OpenVino);
    check(
        b"<?xml version=\"1.0\"?><PMML version=\"4.4\">",
        Foreign::Pmml,
    );
    check(b"tree\nversion=v4\nnum_class=1\n", Foreign::LightGbm);
    check(b"{\"learner\":{\"attributes\":{}}}", Foreign::XgBoost);
    check(
        b"{\"format\": \"graph-model\", \"modelTopology\": {}}",
        Foreign::TensorFlowJs,
    );
    // A document of the Data Mining Group, whose element Header is not an HTML element.
    check(
        b"<PMML version=\"4.4\"><Header copyright=\"x\"/><DataDictionary>",
        Foreign::Pmml,
    );
    check(b"ir_version: 8\nproducer_name: \"x\"", Foreign::OnnxText);
    // onnx.printer.to_text and onnx.save(…, format="json") of onnx 1.16.
    let printed = "<\n   ir_version: 8,\n   opset_import: [\"\" : 17]\n>\ng (float[N,3] x) => (float[N,3] y) {";
    check(printed.as_bytes(), Foreign::OnnxPrinted);
    check(
        b"<ir_version: 8, opset_import: [\"\" : 17]>",
        Foreign::OnnxPrinted,
    );
    check(
        b"{\n  \"ir_version\": \"8\",\n  \"graph\": {",
        Foreign::OnnxJson,
    );
    check(
        b"{\n  \"irVersion\": \"8\",\n  \"graph\": {",
        Foreign::OnnxJson,
    );
    // A NodeDef: name "x", op "Placeholder".
    check(
        b"\x0a\x10\x0a\x01x\x12\x0bPlaceholder",
        Foreign::FrozenGraph,
    );
    let saved = include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/data/zoo/scalar/1/saved_model.pb"
    ));
    check(saved, Foreign::SavedModel);
}

#[test]
fn archives_are_named_by_what_they_hold() {
    let zip = |name: &str| {
        let mut bytes = begins(b"PK\x03\x04\x14\0\0\0\0\0");
        bytes.extend_from_slice(name.as_bytes());
        bytes
    };
    check(&zip("readme.txt"), Foreign::Archive);
    check(&zip("config.json model.weights.h5"), Foreign::Keras);
    check(
        &zip("archive/data.pkl archive/constants.pkl"),
        Foreign::Torch,
    );
    check(&zip("model/archive_format"), Foreign::TorchExport);
    check(
        &zip("serialized_exported_program.json"),
        Foreign::TorchExport,
    );
    check(&zip("arr_0.npy"), Foreign::NumPy);
    check(&zip("model.ini domains/d000.txt"), Foreign::Mojo);
    check(&zip("dlc.metadata model model.params"), Foreign::Dlc);
    check(&begins(b"\x1f\x8b\x08"), Foreign::Archive);
    check(&begins(b"\xfd7zXZ\0"), Foreign::Archive);
    check(&begins(b"\x28\xb5\x2f\xfd"), Foreign::Archive);
    let mut tar = vec![0; 1024];
    tar[..7].copy_from_slice(b"model/1");
    tar[257..262].copy_from_slice(b"ustar");
    check(&tar, Foreign::Archive);
}

/// The bytes that exporters write before a graph.
#[test]
fn beginning_of_an_onnx_model_is_one() {
    let model = include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../models/half_plus_two/1/model.onnx"
    ));
    check(model, Foreign::CutOff);
    check(&model[..20], Foreign::CutOff);
}

#[test]
fn names_tell_formats() {
    for (name, expected) in [
        ("model.keras", Foreign::Keras),
        ("Model.H5", Foreign::Hdf5),
        ("weights.pth", Foreign::Torch),
        ("x.tar.gz", Foreign::Archive),
        ("model.ONNX", Foreign::OnnxOtherName),
        ("model.onnx.data", Foreign::OnnxWeights),
        ("saved_model.pbtxt", Foreign::SavedModelText),
        ("saved_model.cpb", Foreign::SavedModelSplit),
        ("frozen.pb", Foreign::FrozenGraph),
        ("clf.joblib", Foreign::Pickle),
        ("m.onnxtxt", Foreign::OnnxPrinted),
        ("m.skops", Foreign::Skops),
        ("m.mojo", Foreign::Mojo),
        ("m.dlc", Foreign::Dlc),
        ("model.onnx.part", Foreign::Unfinished),
        ("m.keras.PARTIAL", Foreign::Unfinished),
        ("Unconfirmed 1.crdownload", Foreign::Unfinished),
        ("x.download", Foreign::Unfinished),
        ("model.onnx.tmp", Foreign::Unfinished),
    ] {
        assert_eq!(of_name(name), Some(expected), "{name}");
    }
    for name in ["labels.txt", "README", "signature_map.pbtxt", "variables"] {
        assert_eq!(of_name(name), None, "{name}");
    }
}

/// Every text is a noun, and a sentence with the way out.
#[test]
fn each_format_has_a_way_out() {
    let text = Foreign::Torch.to_string();
    let (format, way_out) = text.split_once(". ").unwrap();
    assert!(format.starts_with("a PyTorch file"), "{format}");
    assert!(
        way_out.contains("import_model.py torch") && !way_out.ends_with('.'),
        "{way_out}"
    );
}
