//! Errors for models that ONNX Runtime refuses: the reason, and advice that fits it.

use std::fs;

use super::net::{FLOAT, Net, Version};
use super::*;
use proto::onnx::AttributeProto;

const STRING: i32 = 8;

/// One node, from a tensor to another of the same type.
pub(super) fn node(op_type: &str, elem_type: i32) -> Net {
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
pub(super) fn refused(net: Version) -> String {
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
    let text = refused(version);
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
        let text = refused(version);
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
        let text = refused(version);
        assert!(text.contains(part), "{text}");
        assert!(!text.contains("TensorFlow"), "{text}");
    }
}
