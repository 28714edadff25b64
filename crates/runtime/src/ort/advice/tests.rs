use super::*;

/// Messages of ONNX Runtime 1.24 and 1.28, shortened, and a part of the advice for each. Long, because it
/// is one table, so that the cases can be compared.
#[test]
fn each_reason_has_its_own_way_out() {
    let no_op = "Error No Op registered for";
    for (message, producer, part) in [
        (
            "Failed to construct locale with name:en_US.UTF-8:locale::facet: name not valid",
            "skl2onnx",
            "the locale en_US.UTF-8",
        ),
        (
            "Opset 99 is under development and support for this is limited. Current official \
             support for domain ai.onnx is till opset 24.",
            "",
            "opset 99 of ai.onnx, this ONNX Runtime knows opsets up to 24",
        ),
        (
            "Unsupported model IR version: 99, max supported IR version: 11",
            "",
            "set its ir_version to 11",
        ),
        (
            "Fatal error: ai.onnx.contrib:BertTokenizer(-1) is not a registered function/op",
            "",
            "onnxruntime-extensions",
        ),
        (
            "Error No opset import for domain 'ai.onnx.contrib'",
            "",
            "onnxruntime-extensions",
        ),
        (
            "Error No opset import for domain 'com.microsoft'",
            "",
            "does not import it: add com.microsoft",
        ),
        (
            "Fatal error: com.example:MyOp(-1) is not a registered function/op",
            "",
            "custom operators",
        ),
        (
            "Fatal error: com.microsoft:New(-1) is not a registered function/op",
            "",
            "--onnxruntime_library",
        ),
        (
            "Fatal error: ai.onnx.converters.tensorflow:X(-1) is not a registered function/op",
            "",
            "Operators of TensorFlow",
        ),
        (
            &format!("{no_op} StaticRegexReplace with domain_version of 17"),
            "tf2onnx",
            "Operators of TensorFlow",
        ),
        (
            &format!("{no_op} RMSNormalization with domain_version of 17"),
            "",
            "RMSNormalization came with opset 23",
        ),
        (
            &format!("{no_op} LayerNormalization with domain_version of 13"),
            "",
            "LayerNormalization came with opset 17",
        ),
        (
            &format!("{no_op} prim_Loop with domain_version of 17"),
            "pytorch",
            "ONNX has no operator prim_Loop",
        ),
        (
            "Could not find an implementation for Sin(22) with node name ''",
            "",
            "no CPU kernel of Sin",
        ),
        (
            "Could not find an implementation for ImageDecoder(20) node with name ''",
            "",
            "or has none at all",
        ),
        (
            "Error Op registered for Upsample is deprecated in domain_version of 17",
            "",
            "set its opset_import to 9",
        ),
        (
            "Error Op registered for Scatter is deprecated in domain_version of 17",
            "",
            "set its opset_import to 10",
        ),
        (
            "In Node, (\"\", TreeEnsembleClassifier, \"ai.onnx.ml\", -1), Error Op registered for \
             TreeEnsembleClassifier is deprecated in domain_version of 5",
            "skl2onnx",
            "with opset 4 of ai.onnx.ml",
        ),
        (
            "In Node, (\"\", TreeEnsemble, \"ai.onnx.ml\", -1), Error No Op registered for \
             TreeEnsemble with domain_version of 3",
            "skl2onnx",
            "TreeEnsemble came with opset 5 of ai.onnx.ml",
        ),
        (
            &format!("{no_op} TreeEnsembleClassifier with domain_version of 17"),
            "skl2onnx",
            "an operator of ai.onnx.ml, and the model has it in ai.onnx",
        ),
        (
            &format!("{no_op} GroupNorm with domain_version of 17"),
            "tf2onnx",
            "an operator of com.microsoft",
        ),
        (
            "Fatal error: com.microsoft:TreeEnsemble(-1) is not a registered function/op",
            "",
            "an operator of ai.onnx.ml",
        ),
        (
            &format!("{no_op} relu with domain_version of 17"),
            "",
            "ai.onnx writes it Relu",
        ),
        (
            &format!("{no_op} Relu with domain_version of 0"),
            "",
            "Relu came with opset 1",
        ),
        (
            &format!("{no_op} Sinh with domain_version of 8"),
            "tf2onnx",
            "Sinh came with opset 9",
        ),
        (
            &format!("{no_op} Compress with domain_version of 8"),
            "",
            "Compress came with opset 9",
        ),
        (
            &format!("{no_op} SoftmaxCrossEntropyLoss with domain_version of 11"),
            "pytorch",
            "came with opset 12",
        ),
        (
            &format!("{no_op} CumProd with domain_version of 18"),
            "pytorch",
            "CumProd came with opset 26",
        ),
        (
            &format!("{no_op} SwiGLU with domain_version of 18"),
            "",
            "SwiGLU came with opset 28",
        ),
        (
            &format!("{no_op} StaticRegexReplace with domain_version of 17"),
            "keras2onnx",
            "Operators of TensorFlow",
        ),
        (
            &format!("{no_op} MyOp with domain_version of 17"),
            "PaddlePaddle",
            "ONNX has no operator MyOp",
        ),
        (
            &format!("{no_op} MyOp with domain_version of 17"),
            "",
            "ONNX has no operator MyOp",
        ),
        (
            "Fatal error: ai.onnx:ATen(-1) is not a registered function/op",
            "pytorch",
            "left operators of PyTorch",
        ),
        (
            "Fatal error: ai.onnx:Affine(-1) is not a registered function/op",
            "",
            "ONNX has removed",
        ),
    ] {
        let said = advice(message, producer).unwrap_or_default();
        assert!(said.contains(part), "{message}: {said}");
        let is_tensorflow = part.contains("TensorFlow");
        assert_eq!(
            said.contains("TensorFlow"),
            is_tensorflow,
            "{message}: {said}"
        );
    }
}

#[test]
fn nothing_is_said_where_nothing_is_known() {
    for message in [
        "Type Error: Type 'tensor(float)' of input parameter (x) of operator (Not) is invalid.",
        "Error Unrecognized attribute: nope for operator LeakyRelu",
        "Node with schema(::Add:14) has input size 3 not in range [min=2, max=2].",
        "",
    ] {
        assert_eq!(advice(message, "tf2onnx"), None, "{message}");
    }
}
